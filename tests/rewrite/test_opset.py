"""Every form in every opset from 7 on, for every type of x and mixtures of them: in the file's own opset."""

import math
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.cases import make
from helpers.opsets import FLOAT, FLOAT16, OPSETS, data, session, two
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
