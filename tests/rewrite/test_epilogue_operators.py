"""Operators that hold an epilogue, in a file: read, checked, judged, run everywhere, taken apart again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.epilogues import BN, FOLDS, IMAGE, data, net, ops, run
from onnx import parser

from simam_deploy.compare.gates import Tap
from simam_deploy.compare.inputs import Case
from simam_deploy.compare.matrix import expose
from simam_deploy.compare.verify import Report, verify
from simam_deploy.engines.builder import build_engine
from simam_deploy.errors import FormError
from simam_deploy.formula import OPS, apply_epilogue, reference
from simam_deploy.graph import onnx_file
from simam_deploy.graph.to_float64 import widen
from simam_deploy.match.find import find
from simam_deploy.rewrite.forms import FORMS
from simam_deploy.rewrite.fuse import fuse
from simam_deploy.runtimes import open_session

ALL = f"a = {BN}\n p = Add (r, a)\n s_ = Sigmoid (p)\n out = Mul (s_, p)"
"""Everything behind SimAM that goes into one operator."""
SHAPE = "2, 3, 5, 7"


def node(
    inputs: str = "x, s, b, r",
    *,
    op: str = "SimAMAffineAddRelu",
    attribute: str = "<e_lambda: float = 0.1>",
    shape: str = SHAPE,
    dtype: str = "float",
    scale: str = "float[3] s = {1, 2, 3}",
    body: str = "",
) -> ir.Model:
    """One operator of ours between x and y."""
    text = f"""<ir_version: 8, opset_import: ["": 18, "simam": 1]>
    net ({dtype}[{shape}] x, {dtype}[{shape}] r) => ({dtype}[{shape}] y)
    <{scale}, float[3] b = {{0, 1, 0}}> {{ y = simam.{op} {attribute} ({inputs}) }} {body}"""
    return ir.from_proto(parser.parse_model(text))


def test_an_operator_is_read_from_the_file() -> None:
    (block,) = find(node()).blocks
    assert (block.op, block.form, block.e_lambda, block.shape) == (
        "SimAMAffineAddRelu",
        "custom_op",
        0.1,
        (2, 3, 5, 7),
    )
    assert block.epilogue is not None
    assert (list(block.epilogue.scale), list(block.epilogue.bias), block.epilogue.activation) == (
        [1, 2, 3],
        [0, 1, 0],
        "relu",
    )
    assert block.epilogue.residual is not None
    assert block.epilogue.residual.name == "r"
    assert find(node(shape="n, c, h, w")).blocks[0].shape == ("n", "c", "h", "w")


MISSES = {
    "too few inputs": ({"inputs": "x, s, b"}, "takes 4 inputs"),
    "too many inputs": ({"inputs": "x, s, b, r, r"}, "takes 4 inputs"),
    "an input left out": ({"inputs": 'x, s, "", r'}, "takes 4 inputs"),
    "no λ": ({"attribute": ""}, "no fallback definition, and no attribute e_lambda > 0"),
    "λ = 0": ({"attribute": "<e_lambda: float = 0.0>"}, "no attribute e_lambda > 0"),
    "scale is computed": ({"inputs": "x, x, b, r"}, "scale and bias must be constants"),
    "scale of another length": ({"scale": "float[4] s = {1, 2, 3, 4}"}, "one number for each channel"),
    "scale of another type": ({"scale": "double[3] s = {1, 2, 3}"}, "float32"),
    "another C": ({"shape": "2, 4, 5, 7"}, "one number for each channel"),
    "another rank": ({"shape": "2, 3, 35"}, "x is 3-D; the operator takes"),
    "another type": ({"dtype": "double"}, "x is DOUBLE"),
    "1x1": ({"shape": "2, 3, 1, 1"}, "its map is 1x1"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISSES)
def test_an_operator_that_is_none_says_why(name: str) -> None:
    given_, words = MISSES[name]
    found = find(node(**given_))
    assert not found.blocks
    assert words in str(found.near_misses[0])


CHANGES = {
    "another activation": ("Relu", lambda n: setattr(n, "op_type", "Abs")),
    "no Relu": ("Relu", lambda n: setattr(n, "op_type", "Identity")),
    "another sum": ("Add", lambda n: setattr(n, "op_type", "Sub")),
    "another SimAM": ("ReduceSum", lambda n: setattr(n, "op_type", "ReduceMax")),
    "it does not run": ("Relu", lambda n: setattr(n, "op_type", "Unknown")),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_fallback_definition_is_not_trusted_for_its_name(name: str) -> None:
    source = fuse(net(f"a = {BN}\n out = Relu (a)"), epilogue=True).model
    proto = ir.to_proto(source)
    kind, change = CHANGES[name]
    for inner in proto.functions[0].node:
        if inner.op_type == kind:
            change(inner)
    changed = ir.from_proto(proto)
    (miss,) = find(changed).near_misses
    assert "differs from SimAMAffineRelu on" in str(miss) or "does not run by itself" in str(miss)


@pytest.mark.parametrize(("kind", "instead", "found"), [("", "", 1), ("Relu", "Abs", 0), ("Sigmoid", "Tanh", 0)])
def test_a_fallback_definition_of_another_opset_is_not_trusted_for_its_name(
    kind: str, instead: str, found: int
) -> None:
    """The operators in it are the same in both opsets."""
    proto = ir.to_proto(fuse(net(f"a = {BN}\n out = Relu (a)"), epilogue=True).model)
    (body,) = proto.functions
    assert {entry.domain: entry.version for entry in proto.opset_import}[""] == 18
    next(entry for entry in body.opset_import if not entry.domain).version = 20
    for inner in body.node:
        inner.op_type = instead if inner.op_type == kind else inner.op_type
    assert len(find(ir.from_proto(proto)).blocks) == found


def test_a_near_miss_keeps_its_fallback_definition_and_refuses_another() -> None:
    """One body serves the whole file."""
    proto = ir.to_proto(fuse(net(f"a = {BN}\n out = Relu (a)"), epilogue=True).model)
    relu = next(n for n in proto.functions[0].node if n.op_type == "Relu")
    relu.op_type = "Abs"
    proto.graph.CopyFrom(ir.to_proto(net(f"a = {BN}\n o1 = Relu (a)\n out = Identity (o1)")).graph)
    last = proto.graph.node[-1]
    last.CopyFrom(onnx.helper.make_node("SimAMAffineRelu", ["o1", "mu", "mu"], ["out"], domain="simam", e_lambda=0.1))
    source = ir.from_proto(proto)
    for form in ("function", "custom_op"):
        with pytest.raises(FormError, match="has the name simam::SimAMAffineRelu and is not SimAMAffineRelu"):
            fuse(source, form, epilogue=True)
    assert ops(fuse(source).model) == ["SimAM", "SimAMAffineRelu"]
    kept = fuse(source, "primitive").model
    assert ops(kept) == ["SimAMAffineRelu"]
    assert [n.op_type for f in kept.functions.values() for n in f].count("Abs") == 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("after", "op"), FOLDS.values(), ids=FOLDS)
def test_and_back_in_every_form(form: str, after: str, op: str, tmp_path: Path) -> None:
    """The block in that form and what followed it; folded again it is the file that it was."""
    source = net(after)
    fused = fuse(source, epilogue=True).model
    apart = fuse(fused, form)
    assert [row.op for row in apart.rows] == ["SimAM"]
    assert set(ops(apart.model)) <= {"SimAM"}
    onnx.checker.check_model(ir.to_proto(apart.model), full_check=True)
    runtime = "onnx_reference" if form == "custom_op" else "ort"
    got, want = run(apart.model, tmp_path, runtime), run(source, tmp_path, runtime)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    if form != "instance_norm":  # it holds λ in an epsilon
        assert data(fuse(apart.model, epilogue=True).model) == data(fused)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_types_come_apart_in_float32(half: str, tmp_path: Path) -> None:
    """Nobody folds these, but somebody may convert a folded file."""
    apart = fuse(node(dtype=half), "primitive").model
    onnx.checker.check_model(ir.to_proto(apart), full_check=True)
    assert apart.graph.outputs[0].dtype == ir.DataType[half.upper()]
    assert {n.op_type for n in apart.graph} >= {"BatchNormalization", "Relu"}


@pytest.mark.parametrize("runtime", ["ort", "onnx_reference", "openvino"])
@pytest.mark.parametrize("op", [name for name, op in OPS.items() if op.affine])
def test_every_runtime_runs_the_fallback_definition(op: str, runtime: str, tmp_path: Path) -> None:
    after = next(after for after, made in FOLDS.values() if made == op)
    source = net(after)
    got = run(fuse(source, epilogue=True).model, tmp_path, runtime)
    np.testing.assert_allclose(got, run(source, tmp_path, "ort"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("op", [name for name, op in OPS.items() if op.affine])
def test_an_engine_is_built_from_the_fallback_definition(op: str, tmp_path: Path) -> None:
    """And no name is one of TensorRT's own operators, which would be taken in place of the body."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    after = next(after for after, made in FOLDS.values() if made == op)
    onnx_file.save(fuse(net(after), epilogue=True).model, tmp_path / "m.onnx")
    assert build_engine(tmp_path / "m.onnx", tmp_path / "m.engine", targets=["sm86"]).size_bytes > 0


def test_in_float64_it_is_the_formula(tmp_path: Path) -> None:
    """With the body and without."""
    rng = np.random.default_rng(0)
    x, r = (rng.standard_normal((2, 3, 5, 7)) for _ in range(2))
    exact = apply_epilogue(reference(x, float(np.float32(0.1))), [1, 2, 3], [0, 1, 0], r, activation="relu")
    for form in ("custom_op", "function"):
        proto = ir.to_proto(fuse(node(), form, epilogue=True).model)
        onnx.save(proto, tmp_path / "m.onnx")
        with open_session(tmp_path / "m.onnx", "onnx_reference", dtype="float64") as session:
            np.testing.assert_allclose(session.run({"x": x, "r": r})["y"], exact, rtol=1e-12)
        assert widen(proto).graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.DOUBLE


def gates(fused: ir.Model, folder: Path, taps: list[Tap] | None = None) -> Report:
    exposed, found, _ = expose(fused)
    onnx_file.save(exposed, folder / "taps.onnx")
    onnx_file.save(fused, folder / "plain.onnx")
    return verify(
        {"it": lambda: open_session(folder / "taps.onnx", "ort")},
        [Case("plain", ((IMAGE,),))],
        truth=lambda: open_session(folder / "plain.onnx", "onnx_reference", dtype="float64"),
        twin=lambda: open_session(folder / "plain.onnx", "onnx_reference"),
        taps={"it": taps or found},
    )


LARGE = "k4 = Constant <value = float {1e4}> ()\n large = Mul (r, k4)\n out = Add (y, large)"
"""The rounding of this residual is far more than SimAM's."""


@pytest.mark.parametrize("after", [ALL, FOLDS["bn relu"][0], FOLDS["add x"][0], "out = Tanh (y)"])
def test_the_gate_is_judged_in_the_formula_of_the_operator(after: str, tmp_path: Path) -> None:
    fused = fuse(net(after), epilogue=True).model
    report = gates(fused, tmp_path)
    assert report.passed
    (row,) = report.gates
    assert row.max_gate_error < 1e-3
    assert row.collapsed == 0
    _, (tap,), _ = expose(fused)
    (wrong,) = gates(fused, tmp_path, [replace(tap, e_lambda=0.11)]).gates
    assert not wrong.passed
    assert wrong.max_gate_error > 5e-4


def test_a_large_residual_rounds_the_result_and_not_the_gate(tmp_path: Path) -> None:
    report = gates(fuse(net(LARGE), epilogue=True).model, tmp_path)
    assert report.passed
    assert report.gates[0].max_gate_error < 1e-3


@pytest.mark.parametrize("after", [ALL, FOLDS["bn relu"][0], "out = Tanh (y)"])
def test_a_collapsed_gate_shows_behind_an_epilogue_too(after: str, tmp_path: Path) -> None:
    """λ is so large that the gate is sigmoid(½) everywhere, as in a sum that overflowed."""
    fused = fuse(net(after), epilogue=True).model
    _, (tap,), _ = expose(fused)
    for inner in fused.graph:
        if "e_lambda" in inner.attributes:
            inner.attributes["e_lambda"] = ir.AttrFloat32("e_lambda", 1e9)
    (row,) = gates(fused, tmp_path, [tap]).gates
    assert not row.passed
    assert row.collapsed > 0.3
