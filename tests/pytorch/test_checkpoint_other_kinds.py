"""Files of another kind in --weights: named as what they are, with what the option takes."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers.command_line import Run
from helpers.graphs import parse, save
from torch import nn

from simam_deploy.errors import ModelFileError
from simam_deploy.pytorch.checkpoint import load

TAKES = "--weights takes a file of torch.save or of safetensors that holds a state_dict (tensors by name)"
PLAIN = "g (float[N,3] x) => (float[N,3] y) { y = Neg (x) }"
MODEL = "from torch import nn, ones\ndef build(): return nn.Linear(3, 3), ones(1, 3)\n"


def onnx_file(path: Path, producer: str = "") -> Path:
    model = parse(PLAIN)
    model.producer_name = producer
    return save(model, path)


def graph_first(path: Path) -> Path:
    """The fields of a protobuf may come in any order."""
    head, graph = onnx.ModelProto(ir_version=8), onnx.ModelProto(graph=parse(PLAIN).graph)
    path.write_bytes(graph.SerializeToString() + head.SerializeToString())
    return path


@pytest.mark.parametrize("make", [onnx_file, lambda path: onnx_file(path, "pytorch"), graph_first])
@pytest.mark.parametrize("name", ["x.onnx", "x.pth", "x.ONNX"])
def test_an_onnx_file(tmp_path: Path, make: object, name: str) -> None:
    if make is graph_first and name == "x.pth":
        pytest.skip("neither its name nor its first field tells")
    path = make(tmp_path / name)  # type: ignore[operator]
    words = f"{path} is an ONNX file, which has its weights in it: name it in place of the model\n{TAKES}"
    with pytest.raises(ModelFileError, match=f"^{re.escape(words)}$"):
        load(nn.Linear(3, 3), path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello, this is a text", "is not a file of torch.save, or is truncated"),
        (b"", "is not a file of torch.save, or is truncated"),
        (bytes(100), "is not a file of torch.save, or is truncated"),
        (b"ftrt" + bytes(90), r"is a TensorRT engine\."),
        (b"\x89HDF\r\n\x1a\n" + bytes(90), "is a Keras model:"),
        (b"\x93NUMPY\x01\x00" + bytes(90), "is an array of NumPy, and no model"),
        (b"\x1c\0\0\0TFL3" + bytes(90), "is a TensorFlow Lite model:"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ModelFileError, match=f"w.pth {words}") as refused:
        load(nn.Linear(3, 3), tmp_path / "w.pth")
    assert str(refused.value).splitlines()[-1] == TAKES


def test_zeros_are_no_onnx_file(tmp_path: Path) -> None:
    (tmp_path / "w.onnx").write_bytes(bytes(1000))
    with pytest.raises(ModelFileError, match=r"w\.onnx is not a file of torch.save, or is truncated"):
        load(nn.Linear(3, 3), tmp_path / "w.onnx")


def test_files_that_hold_no_weights_by_name(tmp_path: Path) -> None:
    torch.save([torch.ones(3)], tmp_path / "w.pth")
    with pytest.raises(ModelFileError, match=r"w.pth holds no state_dict \(a dict of tensors by name\)"):
        load(nn.Linear(3, 3), tmp_path / "w.pth")
    np.savez(tmp_path / "w.npz", weight=np.ones((3, 3)))
    with pytest.raises(ModelFileError, match=r"w.npz is an archive of NumPy arrays, and no model\n--weights takes"):
        load(nn.Linear(3, 3), tmp_path / "w.npz")


@pytest.mark.parametrize("command", ["export {m} -o {o} --weights {w}", "verify {w} --against {m} --weights {w}"])
def test_the_commands_say_it(tmp_path: Path, run: Run, command: str) -> None:
    (tmp_path / "m.py").write_text(MODEL)
    path = onnx_file(tmp_path / "x.onnx")
    status, _, err = run(command.format(m=tmp_path / "m.py:build", o=tmp_path / "out.onnx", w=path))
    assert status == 2
    assert f"x.onnx is an ONNX file, which has its weights in it: name it in place of the model\n{TAKES}" in err
    assert not (tmp_path / "out.onnx").exists()
