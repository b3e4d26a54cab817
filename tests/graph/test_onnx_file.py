"""ONNX files in and out: nothing is lost, neither of the graph nor of the weights in it or beside it."""

import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.foreign_file import WEIGHTS, outside, write
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from simam_deploy.errors import ModelFileError
from simam_deploy.graph import onnx_file
from simam_deploy.graph.onnx_file import check
from simam_deploy.rewrite import forms


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


def test_more_than_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "m.onnx"
    onnx_file.save(forms.alone("function", (2, 3, 5, 7)), file)
    cost = onnx_file.cost_of(onnx_file.read(file))
    assert cost > 20 * onnx_file.count_nodes(onnx_file.read(file), file)
    monkeypatch.setattr(check, "MOST_COST", cost)
    onnx_file.load(file)
    monkeypatch.setattr(check, "MOST_COST", cost - 1)
    with pytest.raises(ModelFileError, match=f"not read: .* than networks do, .* all may be {cost - 1:,}"):
        onnx_file.load(file)


@pytest.mark.parametrize("name", ["m.json", "m.textproto", "m.pb", "m"])
def test_the_suffix_does_not_change_the_format(tmp_path: Path, name: str) -> None:
    onnx_file.save(onnx_file.load(write(tmp_path / "a.onnx")), tmp_path / name)
    assert onnx.ModelProto.FromString((tmp_path / name).read_bytes()).producer_name == "somebody"
    assert onnx_file.load(tmp_path / name).graph.name == "net"


def test_an_attribute_may_hold_any_bytes(tmp_path: Path) -> None:
    def add(model: onnx.ModelProto) -> None:
        model.graph.node[0].attribute.append(helper.make_attribute("auto_pad", b"\xff"))

    read = onnx_file.read(write(tmp_path / "a.onnx", add))
    assert [a.s for a in read.graph.node[0].attribute if a.name == "auto_pad"] == [b"\xff"]


def test_the_long_name_of_the_default_domain(tmp_path: Path) -> None:
    def rename(model: onnx.ModelProto) -> None:
        model.opset_import[0].domain = "ai.onnx"
        model.functions[0].opset_import[0].domain = "ai.onnx"

    model = onnx_file.load(write(tmp_path / "a.onnx", rename))
    assert model.opset_imports == {"": 18, "ours": 3}
    assert model.functions[("ours", "Twice", "")].opset_imports == {"": 18}


# weights


def test_weights_from_another_file_come_into_one(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(8) + WEIGHTS.tobytes())
    model = onnx_file.load(write(tmp_path / "a.onnx", lambda m: outside(m, offset=8)))
    assert onnx_file.weight_files(model, tmp_path / "a.onnx") == {tmp_path / "w.bin"}
    (tmp_path / "out").mkdir()
    onnx_file.save(model, tmp_path / "out" / "b.onnx")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.onnx"]
    kept = onnx.load(tmp_path / "out" / "b.onnx").graph.initializer[0]
    np.testing.assert_array_equal(numpy_helper.to_array(kept), WEIGHTS)
    assert onnx_file.weight_files(model, tmp_path / "a.onnx") == {tmp_path / "w.bin"}  # saving changed nothing


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
    assert onnx_file.weight_files(model, tmp_path / "a.onnx") == {tmp_path / "yes.bin"}
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
    (data,) = tmp_path.glob("b.onnx.*.data")
    assert data.name == f"b.onnx.{hashlib.sha256(data.read_bytes()).hexdigest()[:16]}.data"
    assert data.stat().st_size >= big.nbytes
    assert (tmp_path / "b.onnx").stat().st_size < 4096
    again = onnx_file.load(tmp_path / "b.onnx")
    assert onnx_file.weight_files(again, tmp_path / "b.onnx") == {data}
    held, still = again.graph.initializers["w"].const_value, model.graph.initializers["w"].const_value
    assert held is not None
    np.testing.assert_array_equal(held.numpy(), big)
    assert not isinstance(still, ir.ExternalTensor)  # saving changed nothing
    onnx.checker.check_model(tmp_path / "b.onnx")
    moved = tmp_path / "c.onnx"  # from one such file to the next
    onnx_file.save(again, moved)
    data.unlink()
    held = onnx_file.load(moved).graph.initializers["w"].const_value
    assert held is not None
    np.testing.assert_array_equal(held.numpy(), big)


def test_small_weights_from_another_file_beside_large_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def grow(model: onnx.ModelProto) -> None:
        outside(model)
        model.graph.initializer.append(numpy_helper.from_array(np.ones(4096, np.float32), "large"))

    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    model = onnx_file.load(write(tmp_path / "a.onnx", grow))
    monkeypatch.setattr(onnx_file, "PROTOBUF_LIMIT", 4096)
    (tmp_path / "out").mkdir()
    onnx_file.save(model, tmp_path / "out" / "b.onnx")
    again = onnx_file.load(tmp_path / "out" / "b.onnx")
    kept = again.graph.initializers["w"].const_value
    assert kept is not None
    np.testing.assert_array_equal(kept.numpy(), WEIGHTS)
    assert [file.parent for file in onnx_file.weight_files(again, tmp_path / "out" / "b.onnx")] == [tmp_path / "out"]


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
