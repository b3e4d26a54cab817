"""Outputs that are 0, or the same, on whatever inputs: they pass in any file, and so are no pass by themselves."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.command_line import Run
from torch import Tensor, nn

from simam_deploy import SimAM
from simam_deploy.compare.inputs import Case
from simam_deploy.compare.verify import Report, verify
from simam_deploy.errors import VerificationError
from simam_deploy.formula import DEFAULT_LAMBDA
from simam_deploy.graph import onnx_file
from simam_deploy.rewrite.forms import alone
from simam_deploy.runtimes.session import Array, Session, TensorSpec
from simam_deploy.to_onnx import export

RNG = np.random.default_rng(0)
ONE, TWO = (RNG.standard_normal((2, 3, 4, 5)).astype(np.float32) for _ in range(2))
CASES = [Case("one", ((ONE,),)), Case("two", ((TWO,),)), Case("small", ((ONE[:1, :, :2],),))]
Function = Callable[[Array], Array]


class Made(Session):
    def __init__(self, *functions: Function) -> None:
        super().__init__("made")
        self.inputs = (TensorSpec("x", np.dtype(np.float32), None),)
        self.outputs = tuple(TensorSpec(f"y{at}", np.dtype(np.float32), None) for at in range(len(functions)))
        self._functions = functions

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return {spec.name: f(feeds["x"]) for spec, f in zip(self.outputs, self._functions, strict=True)}

    def _close(self) -> None:
        pass


def itself(x: Array) -> Array:
    return x


def zeros(x: Array) -> Array:
    return 0 * x


def ones(x: Array) -> Array:
    return np.ones_like(x)


def grid(x: Array) -> Array:
    return np.arange(x.size, dtype=x.dtype)


def labels(x: Array) -> Array:
    return np.zeros(x.shape, np.int64)


def texts(x: Array) -> Array:
    return np.array(["a cat"] * len(x), dtype=object)


def some_texts(x: Array) -> Array:
    return np.array([str(value > 0) for value in x.flat], dtype=object)


def own(cases: list[Case], *functions: Function) -> Report:
    return verify(
        {"same": lambda: Made(*functions)}, cases, truth=lambda: Made(*functions), twin=lambda: Made(*functions)
    )


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (zeros, "is 0 on every input"),
        (labels, "is 0 on every input"),
        (ones, "is the same on every input"),
        (grid, "is the same on every input"),
        (texts, "is the same on every input"),
    ],
)
def test_an_output_that_is_mute_is_no_pass(function: Function, why: str) -> None:
    report = own(CASES, function)
    assert all(row.passed and not row.tells for row in report.rows)
    assert not report.passed
    assert f"output 'y0' {why} (one, two, small): it shows nothing" in report.notes
    report = own(CASES, function, itself)
    assert report.passed
    assert {row.output: row.tells for row in report.rows} == {"y0": False, "y1": True}
    assert f"output 'y0' {why} (one, two, small): it shows nothing" in report.notes


@pytest.mark.parametrize(
    ("cases", "function"),
    [
        (CASES[:1], ones),
        ([CASES[0], CASES[2]], grid),
        ([CASES[0], CASES[0]], itself),
        (CASES, itself),
        (CASES, some_texts),
        (CASES, lambda x: (x == x.max()).astype(np.int64)),
        ([CASES[0], Case("nothing", ((0 * ONE,),))], itself),
    ],
    ids=["one input", "one of each size", "equal inputs", "floats", "texts", "labels", "0 on some inputs"],
)
def test_an_output_that_tells_passes(cases: list[Case], function: Function) -> None:
    report = own(cases, function)
    assert report.passed
    assert not [note for note in report.notes if "it shows nothing" in note]


def test_nothing_is_told_by_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """SimAM of 0 is 0 whatever λ is."""
    monkeypatch.chdir(tmp_path)
    for name, e_lambda in (("right", DEFAULT_LAMBDA), ("wrong", 1.0)):
        onnx_file.save(alone("primitive", (2, 3, 8, 8), e_lambda=e_lambda), f"{name}.onnx")
    np.savez("zeros.npz", x=np.zeros((2, 3, 8, 8), np.float32))
    status, out, _ = run("verify right.onnx wrong.onnx --runtimes ort --inputs zeros.npz")
    assert status == 1
    assert "output 'y' is 0 on every input (zeros.npz): it shows nothing" in out


def test_a_model_whose_outputs_are_all_mute_is_not_written(tmp_path: Path) -> None:
    class Mute(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.simam = SimAM()

        def forward(self, x: Tensor) -> Tensor:
            return self.simam(x) * 0

    with pytest.raises(VerificationError, match=r"no output tells whether it is equal to the model.*see the notes"):
        export(Mute(), torch.randn(1, 2, 4, 5), tmp_path / "m.onnx", exporter="torchscript", runtimes=["ort"])
    assert list(tmp_path.iterdir()) == []
