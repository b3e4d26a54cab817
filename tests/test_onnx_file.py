"""ONNX files in and out: nothing is lost, and a broken file is a ModelFileError with the cause in it."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from simam_deploy import onnx_file
from simam_deploy.errors import InputError, ModelFileError
from simam_deploy.forms import alone
from simam_deploy.fuse import fuse_file

WEIGHTS = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
Change = Callable[[onnx.ModelProto], None]


def network() -> onnx.ModelProto:
    """Convolution, a sub-graph with a weight of its own, a Constant, a function, and every kind of comment."""
    inner = helper.make_graph(
        [helper.make_node("Mul", ["y", "half"], ["halved"], name="inside/Mul")],
        "then",
        [],
        [helper.make_tensor_value_info("halved", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.float32(0.5).reshape(1), "half")],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["y"], ["same"])],
        "else",
        [],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", doc_string="a convolution", pads=[1, 1, 1, 1]),
        helper.make_node("Twice", ["c"], ["y"], name="twice", domain="ours"),
        helper.make_node("Constant", [], ["yes"], name="yes", value=numpy_helper.from_array(np.array(True))),
        helper.make_node("If", ["yes"], ["z"], name="if", then_branch=inner, else_branch=other),
    ]
    twice = helper.make_function(
        "ours", "Twice", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])], [helper.make_opsetid("", 18)]
    )
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, None, 8])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 4, None, 8])],
        [numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(np.arange(4, dtype=np.float32), "b")],
        doc_string="a graph",
        value_info=[helper.make_tensor_value_info("c", TensorProto.FLOAT, ["batch", 4, None, 8])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ours", 3)]
    model = helper.make_model(graph, functions=[twice], opset_imports=opsets, ir_version=9, producer_name="somebody")
    model.doc_string, model.model_version = "a model", 7
    helper.set_model_props(model, {"author": "us", "λ": "0,1"})
    return model


def write(path: Path, change: Change | None = None) -> Path:
    model = network()
    if change is not None:
        change(model)
    path.write_bytes(model.SerializeToString())
    return path


def outside(model: onnx.ModelProto, location: str = "w.bin", offset: int | None = 0, length: int | None = -1) -> None:
    """Point weight w to a file. length : its true length for -1."""
    tensor = model.graph.initializer[0]
    set_external_data(tensor, location, offset=offset, length=WEIGHTS.nbytes if length == -1 else length)
    tensor.ClearField("raw_data")


def test_a_round_trip_loses_nothing(tmp_path: Path) -> None:
    source = write(tmp_path / "a.onnx")
    onnx_file.save(onnx_file.load(source), tmp_path / "b.onnx")
    before, after = onnx.load(source), onnx.load(tmp_path / "b.onnx")
    onnx.checker.check_model(after)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]
    for field in ("ir_version", "producer_name", "doc_string", "model_version"):
        assert getattr(after, field) == getattr(before, field)
    assert {o.domain: o.version for o in after.opset_import} == {"": 18, "ours": 3}
    assert {p.key: p.value for p in after.metadata_props} == {"author": "us", "λ": "0,1"}
    assert [(n.name, n.op_type, n.domain, n.doc_string) for n in after.graph.node] == [
        (n.name, n.op_type, n.domain, n.doc_string) for n in before.graph.node
    ]
    assert [(f.domain, f.name, [n.op_type for n in f.node]) for f in after.functions] == [("ours", "Twice", ["Add"])]
    assert after.graph.doc_string == "a graph"
    assert after.graph.input == before.graph.input
    assert before.graph.value_info[0] in after.graph.value_info  # the types of weights are new there
    assert [(t.name, numpy_helper.to_array(t).tolist()) for t in after.graph.initializer] == [
        (t.name, numpy_helper.to_array(t).tolist()) for t in before.graph.initializer
    ]
    branches = {a.name: a.g for a in after.graph.node[-1].attribute}
    assert branches["then_branch"].initializer[0].name == "half"


@pytest.mark.parametrize("name", ["m.json", "m.textproto", "m.pb", "m"])
def test_the_suffix_does_not_change_the_format(tmp_path: Path, name: str) -> None:
    onnx_file.save(onnx_file.load(write(tmp_path / "a.onnx")), tmp_path / name)
    assert onnx.ModelProto.FromString((tmp_path / name).read_bytes()).producer_name == "somebody"
    assert onnx_file.load(tmp_path / name).graph.name == "net"


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


def test_an_attribute_may_hold_any_bytes(tmp_path: Path) -> None:
    def add(model: onnx.ModelProto) -> None:
        model.graph.node[0].attribute.append(helper.make_attribute("auto_pad", b"\xff"))

    onnx_file.read(write(tmp_path / "a.onnx", add))


def test_the_long_name_of_the_default_domain(tmp_path: Path) -> None:
    def rename(model: onnx.ModelProto) -> None:
        model.opset_import[0].domain = "ai.onnx"
        model.functions[0].opset_import[0].domain = "ai.onnx"

    model = onnx_file.load(write(tmp_path / "a.onnx", rename))
    assert model.opset_imports == {"": 18, "ours": 3}
    assert model.functions[("ours", "Twice", "")].opset_imports == {"": 18}


def test_weights_from_another_file_come_into_one(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(8) + WEIGHTS.tobytes())
    model = onnx_file.load(write(tmp_path / "a.onnx", lambda m: outside(m, offset=8)))
    assert onnx_file.weight_files(model) == {tmp_path / "w.bin"}
    (tmp_path / "out").mkdir()
    onnx_file.save(model, tmp_path / "out" / "b.onnx")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.onnx"]
    kept = onnx.load(tmp_path / "out" / "b.onnx").graph.initializer[0]
    np.testing.assert_array_equal(numpy_helper.to_array(kept), WEIGHTS)
    assert onnx_file.weight_files(model) == {tmp_path / "w.bin"}  # saving changed nothing


def test_a_length_may_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    model = onnx_file.load(write(tmp_path / "a.onnx", lambda m: outside(m, offset=None, length=None)))
    held = model.graph.initializers["w"].const_value
    assert held is not None
    np.testing.assert_array_equal(held.numpy(), WEIGHTS)


def test_a_constant_from_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def move(model: onnx.ModelProto) -> None:
        tensor = model.graph.node[2].attribute[0].t
        set_external_data(tensor, "yes.bin", offset=0, length=1)
        tensor.ClearField("raw_data")

    source = write(tmp_path / "a.onnx", move)
    with pytest.raises(ModelFileError, match=r"yes.bin, which is missing"):
        onnx_file.load(source)
    (tmp_path / "yes.bin").write_bytes(b"\x01")
    monkeypatch.chdir("/")
    model = onnx_file.load(source)
    assert onnx_file.weight_files(model) == {tmp_path / "yes.bin"}
    (tmp_path / "out").mkdir()
    onnx_file.save(model, tmp_path / "out" / "b.onnx")
    kept = onnx.load(tmp_path / "out" / "b.onnx").graph.node[2].attribute[0].t
    assert kept.data_location == TensorProto.DEFAULT
    assert numpy_helper.to_array(kept)


def test_weights_beyond_the_limit_get_their_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = np.random.default_rng(0).standard_normal((64, 16, 3, 3)).astype(np.float32)

    def grow(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(big, "w"))

    model = onnx_file.load(write(tmp_path / "a.onnx", grow))
    monkeypatch.setattr(onnx_file, "PROTOBUF_LIMIT", 4096)
    assert onnx_file.weight_bytes(model) > onnx_file.PROTOBUF_LIMIT
    onnx_file.save(model, tmp_path / "b.onnx")
    assert (tmp_path / "b.onnx.data").stat().st_size >= big.nbytes
    assert (tmp_path / "b.onnx").stat().st_size < 4096
    again = onnx_file.load(tmp_path / "b.onnx")
    assert onnx_file.weight_files(again) == {tmp_path / "b.onnx.data"}
    held, still = again.graph.initializers["w"].const_value, model.graph.initializers["w"].const_value
    assert held is not None
    np.testing.assert_array_equal(held.numpy(), big)
    assert not isinstance(still, ir.ExternalTensor)  # saving changed nothing
    onnx.checker.check_model(tmp_path / "b.onnx")
    moved = tmp_path / "c.onnx"  # from one such file to the next
    onnx_file.save(again, moved)
    (tmp_path / "b.onnx.data").unlink()
    held = onnx_file.load(moved).graph.initializers["w"].const_value
    assert held is not None
    np.testing.assert_array_equal(held.numpy(), big)


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
            "is not a valid ONNX file: .*offset must be non-negative, got -4",
        ),
        (None, lambda m: outside(m, "/etc/hostname"), "from /etc/hostname, outside its own folder"),
        (None, lambda m: outside(m, "../w.bin"), "from ../w.bin, outside its own folder"),
        (None, lambda m: outside(m, "sub/../../w.bin"), "outside its own folder"),
        (None, lambda m: outside(m, r"..\w.bin"), "outside its own folder"),
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


def test_every_type_of_weight_comes_back(tmp_path: Path) -> None:
    """Each way that a tensor is written: raw bytes, fields of its own, strings, from another file, from memory."""
    kinds = {
        "raw": numpy_helper.from_array(WEIGHTS, "raw"),
        "fields": helper.make_tensor("fields", TensorProto.FLOAT, [3], [1, 2, 3]),
        "half": helper.make_tensor("half", TensorProto.BFLOAT16, [3], [1, 2, 3]),
        "four": helper.make_tensor("four", TensorProto.INT4, [3], [1, -2, 3]),
        "strings": helper.make_tensor("strings", TensorProto.STRING, [2], [b"a", "λ".encode()]),
        "nothing": helper.make_tensor("nothing", TensorProto.FLOAT, [0], []),
        "scalar": helper.make_tensor("scalar", TensorProto.DOUBLE, [], [7]),
    }
    kinds["raw"].doc_string = "words"
    kinds["raw"].metadata_props.add(key="k", value="v")

    def more(model: onnx.ModelProto) -> None:
        outside(model)
        model.graph.initializer.extend(kinds.values())

    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    model = onnx_file.load(write(tmp_path / "a.onnx", more))
    made = ir.tensor(np.arange(5.0, dtype=np.float16), name="another name")
    model.graph.initializers["ours"] = ir.Value(name="ours", const_value=made)
    onnx_file.save(model, tmp_path / "b.onnx")
    after = {tensor.name: tensor for tensor in onnx.load(tmp_path / "b.onnx").graph.initializer}
    assert set(after) == {*kinds, "w", "b", "ours"}
    np.testing.assert_array_equal(numpy_helper.to_array(after["w"]), WEIGHTS)
    np.testing.assert_array_equal(numpy_helper.to_array(after["ours"]), np.arange(5))
    for name, kind in kinds.items():
        assert after[name] == kind
    assert made.name == "another name"


def test_writing_takes_no_copy_of_the_weights(tmp_path: Path) -> None:
    """Of 32 weights of 1 MiB, two are in memory at most besides the model itself: Python's memory is measured."""
    weights = [numpy_helper.from_array(np.ones(2**18, np.float32), f"w{at}") for at in range(32)]
    for model in (
        onnx_file.load(write(tmp_path / "a.onnx", lambda m: m.graph.initializer.extend(weights))),
        onnx_file.load(write(tmp_path / "b.onnx", lambda m: _move_out(m, weights, tmp_path / "w.bin"))),
    ):
        tracemalloc.start()
        onnx_file.save(model, tmp_path / "c.onnx")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3 * 2**20
        assert (tmp_path / "c.onnx").stat().st_size > 32 * 2**20


def _move_out(model: onnx.ModelProto, weights: list[TensorProto], path: Path) -> None:
    path.write_bytes(b"".join(tensor.raw_data for tensor in weights))
    for at, tensor in enumerate(weights):
        held = model.graph.initializer.add(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
        held.raw_data = b" "  # set_external_data wants some
        set_external_data(held, path.name, offset=at * 2**20, length=2**20)
        held.ClearField("raw_data")


def set_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 99


def set_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


def no_opset(model: onnx.ModelProto) -> None:
    del model.opset_import[0]


def short_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = bytes(100)


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


@pytest.mark.parametrize(
    ("change", "words"),
    [
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
        (short_weight, r"is damaged: its weights 'w' are 100 bytes, where FLOAT \[4, 3, 3, 3\] takes 432"),
    ],
)
def test_models_that_cannot_be_read(tmp_path: Path, change: Change, words: str) -> None:
    with pytest.raises(ModelFileError, match=words):
        onnx_file.load(write(tmp_path / "a.onnx", change))


@pytest.mark.parametrize("name", ["a.onnx", "a.json", "a.textproto", "a.onnxtxt", "a"])
@pytest.mark.parametrize(
    "content", [b"", b"hello, I am a text\n" * 9, b"{}", bytes(100), bytes(range(256)), b"\xff" * 64]
)
def test_what_is_no_onnx_file(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelFileError, match=f"{name} is not an ONNX file, or is truncated"):
        onnx_file.load(tmp_path / name)


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

    monkeypatch.setattr(onnx, "load", forbidden)
    with pytest.raises(ModelFileError, match=r"cannot read .*a.onnx: Permission denied"):
        onnx_file.load(path)


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
