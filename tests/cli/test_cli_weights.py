"""Weights on the command line: which were taken is printed, and an output never takes their place."""

import json
from pathlib import Path

import pytest
import torch
from helpers.command_line import EXPORT, TINY, Run

from simam_deploy import open_session

CHECK = "--exporter torchscript --no-check"


@pytest.fixture
def checkpoint(folder: Path) -> Path:
    """Two sets of weights for tiny.py, wrapped twice."""

    def weights(value: float) -> dict[str, torch.Tensor]:
        return {"module.conv.weight": torch.full((4, 3, 3, 3), value), "module.conv.bias": torch.full((4,), value)}

    torch.save({"params": weights(1.0), "params_ema": weights(2.0), "iter": 3}, folder / "net.pth")
    return folder / "net.pth"


def bias_in(file: Path) -> float:
    with open_session(file, "onnx_reference") as session:
        import numpy as np

        (y,) = session.run({session.inputs[0].name: np.zeros((2, 3, 6, 5), np.float32)}).values()
    return float(y.mean())


def test_an_export_says_which_weights_it_took(checkpoint: Path, run: Run) -> None:
    status, out, err = run(f"{EXPORT}build -o new.onnx --weights net.pth {CHECK}")
    assert status == 0, err
    said = 'weights: params_ema of net.pth, prefix "module." taken off, to take params.module instead: '
    assert out.splitlines()[0] == said + "--weights net.pth:params.module"
    averaged = bias_in(checkpoint.with_name("new.onnx"))
    status, out, err = run(f"{EXPORT}build -o new.onnx --weights net.pth:params {CHECK} --json")
    assert status == 0, err
    assert json.loads(out)["weights"] == ['weights: params of net.pth, prefix "module." taken off']
    assert averaged == pytest.approx(2 * bias_in(checkpoint.with_name("new.onnx")))
    assert json.loads(run(f"{EXPORT}build -o new.onnx {CHECK} --json")[1])["weights"] == []


def test_verify_says_which_weights_it_took(checkpoint: Path, run: Run) -> None:
    assert run(f"{EXPORT}build -o new.onnx --weights net.pth:params_ema {CHECK}")[0] == 0
    line = (
        f"verify new.onnx --against {TINY}:build --runtimes onnx_reference --inputs plain --shape 2,3,6,5 --weights "
    )
    status, out, err = run(line + "net.pth --json")
    assert status == 0, err
    assert any(note.startswith("weights: params_ema of net.pth") for note in json.loads(out)["notes"])
    assert run(line + "net.pth:params")[0] == 1
    assert "net.pth has no part other; it has params, params.module, params_ema" in run(line + "net.pth:other")[2]


@pytest.mark.parametrize("weights", ["net.pth", "net.pth:params", "./net.pth:params_ema.module"])
def test_an_output_never_takes_the_place_of_the_weights(checkpoint: Path, run: Run, weights: str) -> None:
    before = checkpoint.read_bytes()
    status, _, err = run(f"{EXPORT}build -o net.pth --weights {weights}")
    assert status == 2
    assert "is the same file as the input" in err
    assert checkpoint.read_bytes() == before


def test_a_file_with_a_colon_in_its_name(checkpoint: Path, run: Run) -> None:
    torch.save(torch.load(checkpoint)["params"], checkpoint.with_name("net.pth:params"))
    status, out, err = run(f"{EXPORT}build -o new.onnx --weights net.pth:params {CHECK}")
    assert status == 0, err
    assert out.startswith('weights: net.pth:params, prefix "module." taken off')
