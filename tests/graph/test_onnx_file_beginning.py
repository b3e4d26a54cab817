"""Large files that are not ONNX are refused by their beginning, before they are read whole."""

import time
from pathlib import Path

import onnx
import pytest
from helpers.graphs import parse, simam

from simam_deploy.errors import ModelFileError
from simam_deploy.graph import onnx_file

SIZE = 2**31 - 1
MODEL = simam().SerializeToString()
HEAD = onnx.ModelProto(ir_version=8, producer_name="pytorch").SerializeToString()


def varint(number: int) -> bytes:
    made = b""
    while number > 127:
        made += bytes([number & 127 | 128])
        number >>= 7
    return made + bytes([number])


BEGINNINGS = {
    "zeros": b"",
    "zeros behind the version": HEAD,
    "a graph of zeros": HEAD + b"\x3a" + varint(SIZE - 1000),
    "a graph whose nodes end, and zeros": HEAD + b"\x3a" + varint(SIZE - 1000) + b"\x0a\x00" * 50,
    "a field of more than the file": HEAD + b"\x3a" + varint(2**40),
    "a number that never ends": b"\x08" + b"\xff" * 20,
    "a field of no type": b"\x0f",
    "text": b"hello, here is a text, and then zeros",
    "ones": b"\xff" * 100,
    "a model, and zeros": MODEL,
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def read(*_: object, **__: object) -> None:
        pytest.fail("the file was read whole")

    path = tmp_path / "m.onnx"
    with path.open("wb") as stream:
        stream.write(BEGINNINGS[name])
        stream.truncate(SIZE)
    monkeypatch.setattr(onnx, "load", read)
    start = time.process_time()
    with pytest.raises(ModelFileError, match=r"m\.onnx is not an ONNX file, or is truncated: .* byte [\d,]+"):
        onnx_file.load(path)
    assert time.process_time() - start < 1


def test_models_are_read(tmp_path: Path) -> None:
    """Fields in any order, unknown ones, and many of them, are no reason."""
    plain = parse("g (float[N,3] x) => (float[N,3] y) { y = Neg (x) }")
    plain.graph.doc_string = "d" * 300
    for i in range(2000):
        plain.metadata_props.add(key=f"k{i}", value="v" * i)
    head, rest = onnx.ModelProto(ir_version=8), onnx.ModelProto()
    rest.CopyFrom(plain)
    rest.ClearField("ir_version")
    unknown = b"\xf9\x3f" + bytes(8) + b"\xfd\x3f" + bytes(4) + b"\xf8\x3f\x00" + b"\xfa\x3f\x02\x00\x00"
    for content in (
        plain.SerializeToString(),
        rest.SerializeToString() + head.SerializeToString(),
        unknown + plain.SerializeToString() + unknown,
    ):
        (tmp_path / "m.onnx").write_bytes(content)
        assert onnx_file.load(tmp_path / "m.onnx").graph.num_nodes() == 1
