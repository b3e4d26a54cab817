"""A broken ONNX file is a ModelFileError with the cause in it."""

import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.foreign_file import Change, outside, write

from simam_deploy.errors import InputError, ModelFileError
from simam_deploy.graph import onnx_file
from simam_deploy.rewrite.forms import alone
from simam_deploy.rewrite.fuse import fuse_file

# damaged models


def set_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 99


def set_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


def no_opset(model: onnx.ModelProto) -> None:
    del model.opset_import[0]


def short_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = bytes(100)


def segment(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].segment.end = 4


def dangling(model: onnx.ModelProto) -> None:
    model.graph.node[0].output[0] = "else"


def dangling_inside(model: onnx.ModelProto) -> None:
    model.graph.node[-1].attribute[0].g.node[0].input[0] = "nowhere"


def dangling_in_a_function(model: onnx.ModelProto) -> None:
    model.functions[0].node[0].input[0] = "nowhere"


def no_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "nowhere"


def no_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 0


def of_no_call(model: onnx.ModelProto) -> None:
    model.graph.node[2].attribute[0].ref_attr_name = "e"


def of_no_call_inside(model: onnx.ModelProto) -> None:
    model.graph.node[-1].attribute[0].g.node[0].attribute.add(name="alpha", ref_attr_name="e", type=1)


@pytest.mark.parametrize("to", [0, 999, -1])
@pytest.mark.parametrize("place", ["graph", "function"])
def test_casts_to_no_type(to: int, place: str, tmp_path: Path) -> None:
    """The onnx checker takes those in functions."""

    def cast(model: onnx.ModelProto) -> None:
        nodes = model.graph.node if place == "graph" else model.functions[0].node
        node = nodes.add(op_type="Cast", input=nodes[0].input[:1], output=["converted"], name="odd")
        node.attribute.add(name="to", type=onnx.AttributeProto.INT, i=to)

    with pytest.raises(ModelFileError, match=f"is damaged: node 'odd' casts to type {to}, which is none"):
        onnx_file.load(write(tmp_path / "a.onnx", cast))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (of_no_call, r"'value' of node 'yes' \(Constant\) refers to an attribute 'e' of a function, and .* in none"),
        (of_no_call_inside, r"'alpha' of node '' \(Identity\) refers to an attribute 'e' of a function"),
        (dangling, r"is damaged: node 'twice' \(Twice\) reads 'c', which nothing makes"),
        (dangling_inside, r"reads 'nowhere', which nothing makes"),
        (no_output, r"is damaged: an output of the graph is 'nowhere', which nothing makes"),
        (dangling_in_a_function, r"\(Add\) reads 'nowhere', which nothing makes"),
        (no_type, "is not a valid ONNX file: .*UNDEFINED"),
        (set_ir, r"has IR version 99; the installed onnx [\d.]+ reads up to \d+\npip install --upgrade onnx"),
        (set_opset, r"has opset 99; the installed onnx [\d.]+ knows up to \d+\npip install --upgrade onnx"),
        (no_opset, "names no opset: it is truncated"),
        (lambda m: m.ClearField("graph"), "it holds no graph"),
        (lambda m: m.ClearField("ir_version"), "is not an ONNX file"),
        (segment, "keeps the weights 'w' in segments, which nothing reads"),
        (short_weight, r"is damaged: its weights 'w' are 100 bytes, where FLOAT \[4, 3, 3, 3\] takes 432"),
    ],
)
def test_models_that_cannot_be_read(tmp_path: Path, change: Change, words: str) -> None:
    with pytest.raises(ModelFileError, match=words):
        onnx_file.load(write(tmp_path / "a.onnx", change))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"author", r"key b'\\xffuthor' of a StringStringEntry"),
        (b"somebody", r"producer_name b'\\xffomebody' of a Model"),
        (b"batch", r"dim_param b'\\xffatch' of a Dimension"),
        (b"inside/Mul", r"name b'\\xffnside/Mul' of a Node"),
        (b"half", r"b'\\xffalf' of a (Node|Tensor) is"),
        (b"Twice", r"b'\\xffwice' of a (Node|Function) is"),
    ],
)
def test_texts_that_are_not_utf_8(text: bytes, words: str, tmp_path: Path) -> None:
    source = write(tmp_path / "a.onnx")
    source.write_bytes(source.read_bytes().replace(text, b"\xff" + text[1:]))
    for use in (onnx_file.load, onnx_file.read, lambda path: fuse_file(path, tmp_path / "b.onnx")):
        with pytest.raises(ModelFileError, match=f"a.onnx is damaged: .*{words}"):
            use(source)


@pytest.mark.parametrize(
    ("data", "change", "words"),
    [
        (None, outside, r"keeps its weights in w.bin, which is missing; put it back into .*/$"),
        (b"", outside, r"w.bin is truncated: a.onnx needs 432 bytes of it, it has 0"),
        (bytes(431), outside, "needs 432 bytes of it, it has 431"),
        (bytes(432), lambda m: outside(m, offset=4), "needs 436 bytes of it, it has 432"),
        (bytes(100), lambda m: outside(m, length=None), "needs 432 bytes of it, it has 100"),
        (bytes(432), lambda m: outside(m, length=100), "'w' take 432 bytes, and it asks for 100 bytes of w.bin"),
        (
            bytes(999),
            lambda m: outside(m, offset=-4),
            "is damaged: its weights 'w' have the offset '-4', which is no number of bytes",
        ),
        (None, lambda m: outside(m, "/etc/hostname"), "from /etc/hostname, outside its own folder"),
        (None, lambda m: outside(m, "../w.bin"), "from ../w.bin, outside its own folder"),
        (None, lambda m: outside(m, "sub/../../w.bin"), "outside its own folder"),
        (None, lambda m: outside(m, r"..\w.bin"), "outside its own folder"),
        (None, lambda m: outside(m, "sub/../w.bin"), r"from sub/../w.bin, by way of '\.\.', which is not followed; "),
        (None, lambda m: outside(m, "..a/b/../w.bin"), r"w.bin, by way of '\.\.', which is not followed; "),
        (None, lambda m: outside(m, r"sub\..\w.bin"), r"w.bin, by way of '\.\.', which is not followed; "),
        (None, lambda m: outside(m, "..a/../b/../w.bin"), r"w.bin, by way of '\.\.', which is not followed; "),
        (None, lambda m: outside(m, r"C:\w.bin"), "outside its own folder"),
        (None, lambda m: outside(m, "sub/w.bin"), "keeps its weights in sub/w.bin, which is missing"),
    ],
)
def test_weights_that_are_not_there(tmp_path: Path, data: bytes | None, change: Change, words: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(999))
    if data is not None:
        (folder / "w.bin").write_bytes(data)
    with pytest.raises(ModelFileError, match=words):
        onnx_file.load(write(folder / "a.onnx", change))


# what is no such file at all


@pytest.mark.parametrize("name", ["a.onnx", "a.json", "a.textproto", "a.onnxtxt", "a"])
@pytest.mark.parametrize(
    "content", [b"", b"hello, I am a text\n" * 9, b"{}", bytes(100), bytes(range(256)), b"\xff" * 64]
)
def test_what_is_no_onnx_file(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelFileError, match=f"{name} is not an ONNX file, or is truncated"):
        onnx_file.load(tmp_path / name)


def test_places_that_are_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelFileError, match=r"there is no file .*nowhere.onnx"):
        onnx_file.load(tmp_path / "nowhere.onnx")
    with pytest.raises(ModelFileError, match=r"is a folder; give the .onnx file in it"):
        onnx_file.load(tmp_path)
    path = write(tmp_path / "a.onnx")
    with pytest.raises(ModelFileError, match=r"cannot read .*: Not a directory"):
        onnx_file.load(path / "b.onnx")

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", forbidden)
    with pytest.raises(ModelFileError, match=r"cannot read .*a.onnx: Permission denied"):
        onnx_file.load(path)


# cut and flipped


def test_a_file_cut_at_any_byte(tmp_path: Path) -> None:
    onnx_file.save(alone("function", (1, 2, 4, 4)), tmp_path / "whole.onnx")
    path = tmp_path / "m.onnx"
    refused = 0
    for whole in ((tmp_path / "whole.onnx").read_bytes(), write(path).read_bytes()):
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            try:
                onnx_file.load(path)
            except ModelFileError as error:
                assert "truncated" in str(error)  # noqa: PT017
                refused += 1
    assert refused > 1000


def test_flipped_bytes_never_leave_a_trace(tmp_path: Path) -> None:
    """Whatever is done to a file, `fuse` works or says that the file is at fault."""
    random = np.random.default_rng(0)
    whole = ir.to_proto(alone("function", (2, 3, 5, 7))).SerializeToString()
    outcomes = set()
    for _ in range(300):
        broken = bytearray(whole)
        for at in random.integers(len(whole), size=random.integers(1, 4)):
            broken[at] = random.integers(256)
        (tmp_path / "broken.onnx").write_bytes(broken)
        try:
            fuse_file(tmp_path / "broken.onnx", tmp_path / "out.onnx", "primitive")
            outcomes.add("works")
        except InputError as error:
            outcomes.add(type(error).__name__)
    assert outcomes == {"works", "ModelFileError", "NoBlockError"}
