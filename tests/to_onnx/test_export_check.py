"""How the comparison that export makes is chosen and bounded."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.command_line import EXPORT, Run
from torch import nn

from simam_deploy import SimAM
from simam_deploy.errors import InputError, RuntimeUnavailable
from simam_deploy.to_onnx import Exported, export

X = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))


def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), SimAM())


def exported(path: Path, **options: object) -> Exported:
    return export(net(), X, path, exporter="torchscript", **{"runtimes": ["ort"], "inputs": ["plain"]} | options)  # type: ignore[arg-type]


def compared(done: Exported) -> tuple[set[str], list[str]]:
    assert done.parity is not None
    assert done.parity.passed
    return {row.session for row in done.parity.rows}, list(dict.fromkeys(row.case for row in done.parity.rows))


def test_runtimes_and_inputs_are_those_that_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "real.npz", input=np.random.default_rng(0).random((4, 3, 4, 6), np.float32))
    done = exported(tmp_path / "m.onnx", runtimes=["onnx_reference"], inputs=["uniform", str(tmp_path / "real.npz")])
    assert compared(done) == ({"onnx_reference"}, ["example", "uniform", "real.npz"])
    np.savez(tmp_path / "larger.npz", input=np.random.default_rng(0).random((1, 3, 9, 6), np.float32))
    done = exported(tmp_path / "m.onnx", dynamic=["batch", "height"], inputs=[str(tmp_path / "larger.npz")])
    assert compared(done)[1] == ["example", "larger.npz", "other size", "odd size"]
    done = exported(tmp_path / "m.onnx", inputs=["adversarial"])
    assert compared(done)[1] == ["example", "plain", "constant", "offset", "faint", "outlier", "large"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"runtimes": ["torch"]}, "no such runtime for ONNX files: torch"),
        ({"runtimes": ["eager"]}, "no such runtime for ONNX files: eager"),
        ({"runtimes": []}, "no runtime is named to compare the file on"),
        ({"inputs": ["plane"]}, "'plane' names no inputs"),
        ({"runtimes": ["openvino"], "form": "custom_op"}, "openvino cannot run .* openvino has no kernel for it"),
    ],
)
def test_what_cannot_be_compared_on_is_an_error(tmp_path: Path, options: dict[str, list[str]], words: str) -> None:
    with pytest.raises((InputError, RuntimeUnavailable), match=words):
        exported(tmp_path / "m.onnx", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_check_that_is_bounded_says_what_it_left_out(tmp_path: Path) -> None:
    options = {"inputs": ["plain", "faint", "large"], "dynamic": ["batch"]}
    done = exported(tmp_path / "m.onnx", check_seconds=0.0, **options)
    assert compared(done)[1] == ["example", "other size", "odd size"]
    assert done.parity is not None
    assert "not compared, as the 0 s of the check were over: plain, faint, large" in done.parity.notes
    done = exported(tmp_path / "m.onnx", check_seconds=1000.0, **options)
    assert set(compared(done)[1]) == {"example", "other size", "odd size", "plain", "faint", "large"}
    assert done.parity is not None
    assert not any("not compared" in note for note in done.parity.notes)


def test_each_stage_that_may_last_is_named(tmp_path: Path) -> None:
    told: list[str] = []
    exported(tmp_path / "m.onnx", dynamic=["batch"], on_progress=told.append)
    for what in (
        "run the model",
        "torch.onnx.export (torchscript)",
        "find and fuse SimAM blocks",
        "compare with the model: truth in float64 (example)",
        "compare with the model: float32 reference (plain)",
        "compare with the model: ort (plain)",
        "compare with the model: ort (other size)",
    ):
        assert what in told


def test_on_the_command_line(folder: Path, run: Run) -> None:
    options = "--exporter torchscript --runtimes ort --inputs uniform --dynamic batch --dynamic x:2,3"
    status, out, err = run(f"{EXPORT}build -o new.onnx {options}")
    assert status == 0, err
    assert "uniform" in out
    assert "openvino" not in out
    assert "other size" in out
    status, out, err = run(f"{EXPORT}nested -o new.onnx --exporter torchscript --check-seconds 0")
    assert status == 0, err
    assert "outputs that are no tensors are not in the file: factor = 1.0" in out
    assert "not compared, as the 0 s of the check were over: plain, uniform, faint, outlier, large" in out
    for option in ("--runtimes ort", "--inputs plain", "--check-seconds 3"):
        status, _, err = run(f"{EXPORT}build -o new.onnx --no-check {option}")
        assert status == 2
        assert "are for the comparison; leave --no-check out" in err
    status, _, err = run(f"{EXPORT}build -o new.onnx --dynamic depth")
    assert status == 2
    assert "no input has an axis depth: 'x' is 4-D (2, 3, 6, 5)" in err


def test_arrays_that_are_no_inputs_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", input=X.numpy(), labels=np.zeros(2))
    done = exported(tmp_path / "m.onnx", inputs=[str(tmp_path / "in.npz")])
    assert done.parity is not None
    assert "in.npz: left out, as the model has no inputs of these names: labels" in done.parity.notes
