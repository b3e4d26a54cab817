"""SimAM that was quantised: a near miss that says so, and in which order the steps are taken."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.onnx_models import model
from helpers.quantised import rounded
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from simam_deploy.errors import NoBlockError
from simam_deploy.formula import reference
from simam_deploy.graph import onnx_file
from simam_deploy.match.find import find
from simam_deploy.rewrite.fuse import fuse, fuse_file


class Reader(CalibrationDataReader):
    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._rows = iter([{"image": rng.standard_normal((2, 3, 5, 7)).astype(np.float32)} for _ in range(4)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._rows, None)


@pytest.mark.parametrize("kind", [QuantFormat.QDQ, QuantFormat.QOperator])
@pytest.mark.parametrize("activation", [QuantType.QInt8, QuantType.QUInt8])
def test_by_onnx_runtime(kind: QuantFormat, activation: QuantType, tmp_path: Path) -> None:
    onnx.save(ir.to_proto(model(lam=0.1)), tmp_path / "m.onnx")
    given = {"quant_format": kind, "activation_type": activation, "weight_type": QuantType.QInt8}
    quantize_static(tmp_path / "m.onnx", tmp_path / "q.onnx", Reader(), **given)
    found = find(onnx_file.load(tmp_path / "q.onnx"))
    assert not found.blocks
    (miss,) = found.near_misses
    assert "it is SimAM, λ = 0.1, but for" in str(miss)
    assert ("QLinearMul" if kind is QuantFormat.QOperator else "DequantizeLinear, QuantizeLinear") in str(miss)
    with pytest.raises(NoBlockError, match=r"fuse the float model first, then quantise(?s:.*)skip_optimization=True"):
        fuse_file(tmp_path / "q.onnx", tmp_path / "out.onnx")


def test_between_convolutions_that_take_integers(tmp_path: Path) -> None:
    """QLinearConv makes x and takes y: no float of either stands in the file."""
    numbers = ", ".join(f"{w:.3f}" for w in np.random.default_rng(1).standard_normal(9))
    convolutions = {"before": "x = Conv (image, weight)", "after": "out = Conv (y, weight)"}
    proto = ir.to_proto(model(weights=f"float[3, 3, 1, 1] weight = {{{numbers}}},", **convolutions))
    onnx.save(proto, tmp_path / "m.onnx")
    assert len(find(onnx_file.load(tmp_path / "m.onnx")).blocks) == 1
    quantize_static(tmp_path / "m.onnx", tmp_path / "q.onnx", Reader(), quant_format=QuantFormat.QOperator)
    (miss,) = find(onnx_file.load(tmp_path / "q.onnx")).near_misses
    assert "it is SimAM, λ = 0.0001, but for" in str(miss)
    assert "QLinearMul" in str(miss)


@pytest.mark.parametrize("kind", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_fused_first_it_stays_whole(kind: QuantFormat, tmp_path: Path) -> None:
    onnx.save(ir.to_proto(fuse(model(after="out = Add (y, image)")).model), tmp_path / "m.onnx")
    quantize_static(tmp_path / "m.onnx", tmp_path / "q.onnx", Reader(), quant_format=kind)
    proto = onnx.load(tmp_path / "q.onnx")
    assert any("Quantize" in node.op_type for node in proto.graph.node), "else this tests nothing"
    found = find(onnx_file.load(tmp_path / "q.onnx"))
    assert [block.e_lambda for block in found.blocks] == [pytest.approx(1e-4)]
    assert not found.near_misses


def inner_edges() -> Iterator[tuple[int, int]]:
    """Every input in the chain that is made inside it."""
    nodes = ir.to_proto(model()).graph.node
    inner = {name for node in nodes[1:-1] for name in node.output}
    for at, node in enumerate(nodes[1:-1], start=1):
        yield from ((at, k) for k, name in enumerate(node.input) if name in inner)


@pytest.mark.parametrize("edge", list(inner_edges()), ids=str)
@pytest.mark.parametrize(("dtype", "opset"), [(TensorProto.INT8, 18), (TensorProto.INT16, 21)])
def test_a_pair_on_one_edge(edge: tuple[int, int], dtype: int, opset: int) -> None:
    found = find(ir.from_proto(rounded(*edge, dtype, opset)))
    assert not found.blocks
    (miss,) = found.near_misses
    assert "it is SimAM, λ = 0.0001, but for DequantizeLinear, QuantizeLinear inside" in str(miss)


@pytest.mark.parametrize("edge", list(inner_edges()), ids=str)
def test_not_what_was_none_before(edge: tuple[int, int]) -> None:
    found = find(ir.from_proto(rounded(*edge, TensorProto.INT8, 18, n=35)))
    assert not found.blocks
    assert "it is SimAM" not in str(found.near_misses)


@pytest.mark.parametrize("op_type", ["QuantizeLinear", "DequantizeLinear", "QLinearAdd", "QLinearSigmoid"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_operators_that_lack_inputs(op_type: str, count: int) -> None:
    """No valid file; the block beside is found all the same."""
    proto = ir.to_proto(model())
    domain = "com.microsoft" if op_type.startswith("QLinear") else ""
    proto.graph.node.append(helper.make_node(op_type, ["image", "lam"][:count], ["odd"], domain=domain))
    proto.graph.node.append(helper.make_node("Relu", ["odd"], ["odder"]))
    assert [block.y.name for block in find(ir.from_proto(proto)).blocks] == ["y"]


def test_around_a_block_they_change_nothing() -> None:
    for at, k in ((1, 0), (12, 0)):
        proto = rounded(at, k, TensorProto.INT8, 18)
        if at == 1:  # all of the block takes the rounded x
            for node in proto.graph.node[3:]:
                node.input[:] = ["floats" if name == "x" else name for name in node.input]
        found = find(ir.from_proto(proto))
        assert len(found.blocks) == 1
        assert not found.near_misses


def test_rounding_changes_what_is_computed() -> None:
    """Why such a subgraph is none: by more than the tolerance of a form."""
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    y = reference(x, 1e-4)
    assert np.abs(np.round(y / 0.01) * 0.01 - y).max() > 1e-3
