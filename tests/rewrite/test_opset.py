"""Every form in every opset from 7 on, for every type of x and mixtures of them: in the file's own opset."""

import math
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from helpers.cases import make
from helpers.onnx_models import model
from onnx import parser
from onnx.reference import ReferenceEvaluator

from simam_deploy import native
from simam_deploy.block import Block
from simam_deploy.errors import FormError
from simam_deploy.formula import as_maps, reference, tolerance
from simam_deploy.graph.shapes import Dims
from simam_deploy.rewrite.forms import FORMS, alone, form_named
from simam_deploy.rewrite.fuse import fuse
from simam_deploy.runtimes import open_session

NEWEST = onnx.defs.onnx_opset_version()
OPSETS = [7, 8, 9, 11, 12, 13, 14, 15, 17, 18, NEWEST]
FLOAT, FLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16
SIZES: list[tuple[Dims, tuple[int, ...]]] = [
    ((2, 3, 35), (2, 3, 35)),
    (("n", 3, "l"), (2, 3, 35)),
    ((2, 3, 5, 7), (2, 3, 5, 7)),
    (("n", "c", "h", "w"), (2, 3, 5, 7)),
    ((2, 3, 2, 5, 7), (2, 3, 2, 5, 7)),
    (("n", 3, "d", "h", "w"), (2, 3, 2, 5, 7)),
]
"""In the file, and of the x that is run."""


def one_block(form: str, opset: int, dims: Dims, dtype: ir.DataType) -> onnx.ModelProto:
    """`forms.alone` with x of any type."""
    chosen = form_named(form)
    x = ir.Value(name="x", type=ir.TensorType(dtype), shape=ir.Shape(dims))
    nodes = chosen.nodes(Block("simam", x, x, dims, dtype, 0.1, form, ()), opset, {dtype})
    y = nodes[-1].outputs[0]
    y.name, y.type, y.shape = "y", x.type, ir.Shape(dims)
    graph = ir.Graph([x], [y], nodes=nodes, opset_imports={"": opset, "simam": 1}, name="simam")
    return ir.to_proto(ir.Model(graph, ir_version=8, functions=chosen.functions(opset, ["SimAM"], {dtype})))


def session(proto: onnx.ModelProto, library: native.Library | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if library is not None:
        options.register_custom_ops_library(str(library.path))
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def data(what: ir.Model) -> bytes:
    return ir.to_proto(what).SerializeToString(deterministic=True)


def body(what: ir.Model, name: str = "SimAM") -> list[str]:
    """The operators of a body, but for constants."""
    return [node.op_type for node in what.functions["simam", name, ""] if node.op_type != "Constant"]


@pytest.mark.parametrize("dtype", [FLOAT, FLOAT16], ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_in_every_opset(form: str, opset: int, dtype: ir.DataType, library: native.Library) -> None:
    """The checker takes it, and ONNX Runtime without and with the library and onnx's evaluator compute SimAM.

    In float16 twice the tolerance, as x and y are rounded.
    """
    for dims, shape in SIZES:
        if form == "instance_norm" and not all(isinstance(size, int) for size in dims[1:]):
            continue
        proto = one_block(form, opset, dims, dtype)
        onnx.checker.check_model(proto, full_check=form != "custom_op")
        x = make("plain", (*shape[:3], math.prod(shape[3:]))).reshape(shape).astype(dtype.numpy())
        maps = as_maps(x)
        truth, allowed = reference(maps, 0.1), 2 * tolerance(maps, dtype.numpy(), 0.1)
        runs = {"library": session(proto, library).run(None, {"x": x})[0]}
        if form != "custom_op":
            runs["ort"] = session(proto).run(None, {"x": x})[0]
            runs["onnx"] = ReferenceEvaluator(proto).run(None, {"x": x})[0]
        for how, y in runs.items():
            assert (y.dtype, y.shape) == (x.dtype, shape), (how, dims)
            assert (np.abs(as_maps(y) - truth) <= allowed).all(), (how, dims)


@pytest.mark.parametrize("opset", [9, 11, 12, 13, 17, 20])
def test_other_readers_take_the_default_form(opset: int, tmp_path: Path) -> None:
    """OpenVINO, and two simplifiers, which keep the node."""
    import onnxsim
    import onnxslim

    proto = ir.to_proto(alone("function", ("n", 3, "h", "w"), 0.1, opset=opset))
    x = make("plain", (2, 3, 5, 7))
    onnx.save(proto, tmp_path / "simam.onnx")
    with open_session(tmp_path / "simam.onnx", "openvino") as opened:
        y = opened.run({"x": x})["y"]
    assert (np.abs(y - reference(x, 0.1)) <= tolerance(x, np.float32, 0.1)).all()
    for simpler in (onnxsim.simplify(proto)[0], onnxslim.slim(onnx.ModelProto.FromString(proto.SerializeToString()))):
        assert [node.op_type for node in simpler.graph.node] == ["SimAM"]
        (y,) = session(simpler).run(None, {"x": x})
        assert (np.abs(y - reference(x, 0.1)) <= tolerance(x, np.float32, 0.1)).all()


@pytest.mark.parametrize("opset", [7, 9, 11, 12, 13, 14, 16, 17])
@pytest.mark.parametrize("form", FORMS)
def test_a_file_keeps_its_opset(form: str, opset: int, library: native.Library) -> None:
    source = alone("primitive", (2, 3, 5, 7), 0.1, opset=opset)
    fused = fuse(source, form)
    assert fused.model.opset_imports[""] == opset
    assert not fused.notes
    assert data(fuse(fused.model, form).model) == data(fused.model)
    assert (
        data(fuse(fused.model, "primitive").model) == data(fuse(source, "primitive").model) or form == "instance_norm"
    )
    x = make("faint", (2, 3, 5, 7))
    (y,) = session(ir.to_proto(fused.model), library).run(None, {"x": x})
    assert (np.abs(y - reference(x, 0.1)) <= tolerance(x, np.float32, 0.1)).all()


@pytest.mark.parametrize("opset", [9, 11, 12, 14, 17])
@pytest.mark.parametrize("form", ["function", "custom_op"])
def test_an_epilogue_in_every_opset(form: str, opset: int, library: native.Library) -> None:
    text = f"""<ir_version: 8, opset_import: ["": {opset}, "simam": 1]>
    g (float[2,3,5,7] x) => (float[2,3,5,7] y)
    <float[3] gamma = {{0.5, -2, 1.25}}, float[3] beta = {{0.1, 0.2, -3}}, float[3] mu = {{0.3, -0.1, 1}},
     float[3] var = {{1, 0.01, 5}}> {{
        a = simam.SimAM <e_lambda: float = 0.1> (x)
        b = BatchNormalization (a, gamma, beta, mu, var)
        c = Add (b, x)
        y = Relu (c)
    }}"""
    source = parser.parse_model(text)
    fused = fuse(ir.from_proto(source), form, epilogue=True)
    assert [node.op_type for node in fused.model.graph if node.op_type != "Constant"] == ["SimAMAffineAddRelu"]
    x = {"x": make("plain", (2, 3, 5, 7))}
    (want,) = session(source, library).run(None, x)
    np.testing.assert_allclose(session(ir.to_proto(fused.model), library).run(None, x)[0], want, atol=3e-6)
    if form == "function":
        onnx.checker.check_model(ir.to_proto(fused.model), full_check=True)
        np.testing.assert_allclose(session(ir.to_proto(fused.model)).run(None, x)[0], want, atol=3e-6)
        assert data(fuse(fused.model, epilogue=True).model) == data(fused.model)
        apart = fuse(fused.model).model
        assert "SimAM" in {node.op_type for node in apart.graph}
        np.testing.assert_allclose(session(ir.to_proto(apart)).run(None, x)[0], want, atol=3e-6)


def two(opset: int, first: str, second: str) -> ir.Model:
    """x -> SimAM -> y in one type, and beside it x2 -> SimAM -> y2 in another."""
    text = f"""<ir_version: 8, opset_import: ["": {opset}, "simam": 1]>
    g ({first}[2,3,5,7] x, {second}[2,3,5,7] x2) => ({first}[2,3,5,7] y, {second}[2,3,5,7] y2) {{
        y = simam.SimAM <e_lambda: float = 0.1> (x)
        y2 = simam.SimAM <e_lambda: float = 0.1> (x2)
    }}"""
    return ir.from_proto(parser.parse_model(text))


@pytest.mark.parametrize("opset", [9, 12, 14, 15, 18])
@pytest.mark.parametrize(
    "types", [("float", "float"), ("float16", "float16"), ("float", "float16"), ("float16", "float")]
)
def test_the_body_is_for_the_types_of_all_blocks(opset: int, types: tuple[str, str], library: native.Library) -> None:
    fused = fuse(two(opset, *types))
    mixed = len(set(types)) > 1
    casts = [operator for operator in body(fused.model) if operator.startswith("Cast")]
    around = [node.op_type for node in fused.model.graph]
    if mixed and opset < 15:
        assert casts == ["Cast"], "of M - 1"
        assert sorted(around) == ["Cast", "Cast", "SimAM", "SimAM"]
    else:
        ends: Collection[str] = ["Cast", "Cast", "CastLike"] if mixed else ["Cast"] * (3 if "float16" in types else 1)
        assert casts == ends
        assert around == ["SimAM", "SimAM"]
    proto = ir.to_proto(fused.model)
    onnx.checker.check_model(proto, full_check=True)
    kinds = [{"float": np.float32, "float16": np.float16}[kind] for kind in types]
    x = make("plain", (2, 3, 5, 7))
    feeds = {name: x.astype(kind) for name, kind in zip(("x", "x2"), kinds, strict=True)}
    for opened in (session(proto), session(proto, library)):
        for y, kind, given in zip(opened.run(None, feeds), kinds, feeds.values(), strict=True):
            assert y.dtype == kind
            assert (np.abs(y - reference(given, 0.1)) <= 2 * tolerance(given, kind, 0.1)).all()
    assert data(fuse(fused.model).model) == data(fused.model)
    assert data(fuse(fuse(fused.model, "primitive").model).model) == data(fused.model)


@pytest.mark.parametrize("opset", [13, 18])
def test_an_epilogue_in_a_file_of_two_types(opset: int, library: native.Library) -> None:
    """Below opset 15 the residual of the 16-bit block is cast too."""
    text = f"""<ir_version: 8, opset_import: ["": {opset}, "simam": 1]>
    g (float[2,3,5,7] x, float16[2,3,5,7] x2) => (float[2,3,5,7] y, float16[2,3,5,7] y2)
    <float[3] scale = {{0.5, -2, 1.25}}, float[3] bias = {{0.1, 0.2, -3}}> {{
        y = simam.SimAMAffineAdd <e_lambda: float = 0.1> (x, scale, bias, x)
        y2 = simam.SimAMAffineAdd <e_lambda: float = 0.1> (x2, scale, bias, x2)
    }}"""
    source = parser.parse_model(text)
    fused = fuse(ir.from_proto(source), epilogue=True)
    assert sum(node.op_type == "Cast" for node in fused.model.graph) == (3 if opset < 15 else 0)
    onnx.checker.check_model(ir.to_proto(fused.model), full_check=True)
    x = make("plain", (2, 3, 5, 7))
    feeds = {"x": x, "x2": x.astype(np.float16)}
    want = session(source, library).run(None, feeds)
    for opened in (session(ir.to_proto(fused.model)), session(ir.to_proto(fused.model), library)):
        for got, y, bound in zip(opened.run(None, feeds), want, (3e-6, 1e-2), strict=True):
            assert got.dtype == y.dtype
            np.testing.assert_allclose(got, y, atol=bound)


@pytest.mark.parametrize("opset", [13, 15])
@pytest.mark.parametrize("beside", ["Neg", "simam.SimAM <e_lambda: float = 0.1>"])
def test_bfloat16(opset: int, beside: str, library: native.Library) -> None:
    text = f"""<ir_version: 8, opset_import: ["": {opset}, "simam": 1]>
    g (float[2,3,5,7] x) => (float[2,3,5,7] y, float[2,3,5,7] z) {{
        b = Cast <to = 16> (x)
        c = simam.SimAM <e_lambda: float = 0.1> (b)
        y = Cast <to = 1> (c)
        z = {beside} (x)
    }}"""
    fused = fuse(ir.from_proto(onnx.shape_inference.infer_shapes(parser.parse_model(text))))
    assert fused.rows[0].dtype == "BFLOAT16"
    onnx.checker.check_model(ir.to_proto(fused.model), full_check=True)
    x = make("plain", (2, 3, 5, 7))
    for opened in (session(ir.to_proto(fused.model)), session(ir.to_proto(fused.model), library)):
        y = opened.run(None, {"x": x})[0]
        assert np.abs(y - reference(x, 0.1)).max() <= 2.0**-8 * 2 * np.abs(x).max()


def test_float32_bodies_have_no_cast_like_in_any_opset() -> None:
    """Some converters do not know it."""
    for opset in OPSETS:
        assert "CastLike" not in body(fuse(two(opset, "float", "float")).model)


def test_a_file_converted_to_half_afterwards_is_refused_aloud_and_mended_by_fuse() -> None:
    """No runtime computes it in silence with the body for float32."""
    from onnxconverter_common import float16

    source = fuse(model(lam=0.1)).model
    half = float16.convert_float_to_float16(ir.to_proto(source), keep_io_types=True)
    with pytest.raises(Exception, match=r"SimAM.*inconsistent type tensor\(float\)"):
        session(half)
    with pytest.raises(onnx.shape_inference.InferenceError, match=r"inconsistent type tensor\(float\)"):
        onnx.checker.check_model(half, full_check=True)
    mended = fuse(ir.from_proto(half))
    assert [row.dtype for row in mended.rows] == ["FLOAT16"]
    x = {"image": make("plain", (2, 3, 5, 7))}
    (want,) = session(ir.to_proto(source)).run(None, x)
    np.testing.assert_allclose(session(ir.to_proto(mended.model)).run(None, x)[0], want, rtol=2e-3, atol=1e-3)


def test_constants_of_an_old_file_stay_constants() -> None:
    """Before IR version 4 each initialiser was an input as well. Later, callers may replace those that are."""
    proto = ir.to_proto(alone("primitive", (2, 3, 5, 7), 0.1, opset=8))
    proto.ir_version = 3
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.full((3, 3, 1, 1), 0.5, np.float32), "w"))
    proto.graph.input.append(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [3, 3, 1, 1]))
    proto.graph.node.append(onnx.helper.make_node("Conv", ["y", "w"], ["out"], name="conv"))
    proto.graph.output[0].name = "out"
    source = ir.from_proto(proto)
    fused = fuse(source)
    assert fused.notes == ("IR version raised from 3 to 8, the first with functions",)
    assert [value.name for value in fused.model.graph.inputs] == ["x"]
    assert [value.name for value in source.graph.inputs] == ["x", "w"]
    opened = session(ir.to_proto(fused.model))
    assert not opened.get_overridable_initializers()
    x = {"x": make("plain", (2, 3, 5, 7))}
    np.testing.assert_allclose(opened.run(None, x)[0], session(proto).run(None, x)[0], atol=1e-5)
    assert [value.name for value in fuse(source, "primitive").model.graph.inputs] == ["x", "w"]


def in_a_function(outer: int, inner: int) -> ir.Model:
    """SimAM inside a function of another opset, in operators that both have alike."""
    scale = math.sqrt(34 / 35) / 2
    text = f"""<ir_version: 8, opset_import: ["": {outer}, "m": 1]>
    g (float[2,3,5,7] image) => (float[2,3,5,7] out) {{ out = m.part (image) }}
    <domain: "m", opset_import: ["": {inner}]>
    part (x) => (r) {{
        scale = Constant <value_floats = [{scale}, {scale}, {scale}]> ()
        bias = Constant <value_floats = [0.0, 0.0, 0.0]> ()
        half = Constant <value_float = 0.5> ()
        z = InstanceNormalization <epsilon = {0.1 * 34 / 35}> (x, scale, bias)
        d = Mul (z, z)
        t = Add (d, half)
        g = Sigmoid (t)
        y = Mul (x, g)
        r = Abs (y)
    }}"""
    return ir.from_proto(parser.parse_model(text))


@pytest.mark.parametrize(("outer", "inner"), [(18, 17), (18, 14), (14, 18)])
@pytest.mark.parametrize("form", ["function", "primitive"])
def test_a_function_of_another_opset_gets_that_of_the_model(form: str, outer: int, inner: int) -> None:
    """ONNX Runtime reads it in the opset of the model: ReduceMean there takes its axes in another way."""
    source = in_a_function(outer, inner)
    fused = fuse(source, form)
    assert fused.notes == (
        f"function m::part now names opset {outer}, that of the model, for {inner}; "
        "its operators are the same in both",
    )
    proto = ir.to_proto(fused.model)
    onnx.checker.check_model(proto, full_check=True)
    x = make("plain", (2, 3, 5, 7))
    (y,) = session(proto).run(None, {"image": x})
    np.testing.assert_allclose(y, np.abs(reference(x, 0.1)), rtol=1e-5, atol=1e-5)
    assert source.functions["m", "part", ""].opset_imports[""] == inner


def test_an_opset_before_7_says_how_to_raise_the_file() -> None:
    source = two(6, "float", "float")
    for form in FORMS:
        with pytest.raises(FormError, match=r"in opset 7 or later; the file has opset 6\n.*convert_version"):
            fuse(source, form)
    with pytest.raises(FormError, match="at opset 6: opsets from 7 on can"):
        alone("function", (2, 3, 5, 7), opset=6)
