"""Models after torch.compile: exported, and run as the truth, as they were before it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from helpers.command_line import Run
from torch import Tensor, nn

from simam_deploy import SimAM
from simam_deploy.errors import InputError
from simam_deploy.runtimes.eager import EagerSession
from simam_deploy.to_onnx import export

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Published(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        square = (x - x.mean(dim=[2, 3], keepdim=True)).pow(2)
        n = x.shape[2] * x.shape[3] - 1
        return x * torch.sigmoid(square / (4 * (square.sum(dim=[2, 3], keepdim=True) / n + 0.01)) + 0.5)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.first, self.second = nn.Conv2d(3, 4, 3), SimAM(e_lambda=0.1), Published()

    def forward(self, image: Tensor) -> Tensor:
        return self.second(self.first(self.conv(image)))


def never(*_: Any, **__: Any) -> NoReturn:
    """A backend."""
    raise AssertionError("it was compiled")


class Decorated(Net):
    @torch.compile(backend=never)
    def forward(self, image: Tensor) -> Tensor:
        return self.second(self.first(self.conv(image)))


class Helped(Net):
    def __init__(self) -> None:
        super().__init__()
        self.helper = torch.compile(torch.relu, backend=never)

    @torch.compile(backend=never)
    def features(self, image: Tensor) -> Tensor:
        return self.first(self.conv(image))

    def forward(self, image: Tensor) -> Tensor:
        return self.second(self.features(image)) + 0 * self.helper(image).mean()


def top() -> nn.Module:
    return torch.compile(Net(), backend=never)


def children() -> nn.Module:
    model = Net()
    model.conv, model.second = (torch.compile(m, backend=never) for m in (model.conv, model.second))
    return model


def in_place() -> nn.Module:
    model = Net()
    model.compile(backend=never)
    model.first.compile(backend=never)
    return model


COMPILED = [top, children, Decorated, Helped, in_place]


def state(model: nn.Module) -> list[Any]:
    return [(name, type(m), {**vars(m)}, {**m._modules}) for name, m in model.named_modules()]


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize("made", COMPILED)
def test_a_compiled_model_is_exported_as_before(made: Callable[[], nn.Module], exporter: str, tmp_path: Path) -> None:
    model = made().eval()
    before = state(model)
    done = export(model, X, tmp_path / "m.onnx", exporter=exporter, runtimes=["ort"], inputs=["plain"])
    assert done.parity is not None
    assert done.parity.passed
    assert [round(row.e_lambda, 6) for row in done.fused.rows] == [0.1, 0.01]
    assert done.adopted is not None
    assert [row.names for row in done.adopted.rows] == [("second",)]
    assert done.adopted.model is model
    assert [note for note in done.notes if "before that" in note] == [
        "the model is compiled by torch.compile: the file was made of, and compared with, the model before that"
    ]
    assert state(model) == before


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("made", COMPILED)
def test_a_compiled_model_runs_as_before(made: Callable[[], nn.Module], dtype: str) -> None:
    with EagerSession(made().eval(), dtype=dtype) as session:
        assert [spec.name for spec in session.inputs] == ["image"]
        got = session.run({"image": X.numpy()})["output"]
    with torch.no_grad():
        expected = Net().to(getattr(torch, dtype)).eval()(X.to(getattr(torch, dtype)))
    torch.testing.assert_close(torch.from_numpy(got), expected)


def test_hooks_on_what_torch_compile_returned(tmp_path: Path) -> None:
    model = Net().eval()
    model.first = torch.compile(model.first, backend=never)
    model.first.register_forward_hook(lambda module, given, output: 2 * output)
    words = (
        "there are hooks on what torch.compile made of SimAM; put them on the module itself, before it is compiled"
    )
    with pytest.raises(InputError, match=words):
        export(model, X, tmp_path / "m.onnx")
    with pytest.raises(InputError, match=words):
        EagerSession(model)


def test_a_model_that_is_not_compiled_has_no_such_note(tmp_path: Path) -> None:
    assert export(Net().eval(), X, tmp_path / "m.onnx", runtimes=["ort"], inputs=["plain"]).notes == ()


def test_verify_against_a_compiled_model(tmp_path: Path, run: Run) -> None:
    export(Net().eval(), X, tmp_path / "m.onnx", runtimes=["ort"], inputs=["plain"])
    status, out, err = run(f"verify {tmp_path}/m.onnx --against {__file__}:top --runtimes ort --inputs plain")
    assert (status, err) == (0, "")
    assert "pass" in out
