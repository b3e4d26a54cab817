"""What follows SimAM folds into its node where one operator does it all, and nowhere else."""

import re
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from helpers.epilogues import BEFORE, BN, FOLDS, IMAGE, WEIGHTS, data, net, ops, run
from helpers.onnx_models import CHAIN, PART, again, model
from onnx import parser

from simam_deploy import native
from simam_deploy.errors import InputError
from simam_deploy.formula import (
    ACTIVATIONS,
    OP_DOMAIN,
    OP_VERSION,
    OPS,
    Float64,
    apply_epilogue,
    epilogue_tolerance,
    reference,
    tolerance,
)
from simam_deploy.graph import onnx_file
from simam_deploy.match.find import find
from simam_deploy.precision.low_types import LOW_TYPES, LowType
from simam_deploy.precision.to_low import to_low
from simam_deploy.rewrite.fuse import fuse, fuse_file
from simam_deploy.runtimes import open_session

HEADER = Path(__file__).parents[2] / "plugins" / "common" / "simam.h"


def bound(fused: ir.Model, residual: Float64) -> Float64:
    """The tolerance of the only block in `fused`, whose x is Relu(image)."""
    (block,) = find(fused).blocks
    assert block.epilogue is not None
    x = np.maximum(IMAGE, 0)
    y, within = reference(x, 0.1), tolerance(x, np.float32, 0.1)
    return epilogue_tolerance(within, y, block.epilogue.scale, block.epilogue.bias, residual)


def test_names_are_those_of_the_header() -> None:
    text = HEADER.read_text()
    rows = re.findall(r'\{"(\w+)", (\w+), (\w+), Activation::(\w+)\}', text)
    assert {name: (a == "true", r == "true", act) for name, a, r, act in rows} == {
        name: (op.affine, op.residual, op.activation) for name, op in OPS.items()
    }
    assert f'kDomain[] = "{OP_DOMAIN}"' in text
    assert f"kVersion = {OP_VERSION};" in text
    assert {op.activation for op in OPS.values()} == set(ACTIVATIONS)


@pytest.mark.parametrize(("after", "op"), FOLDS.values(), ids=FOLDS)
def test_folds(after: str, op: str, tmp_path: Path) -> None:
    """The same numbers as the original in float64, with the body and without; and what was folded is gone."""
    source = net(after)
    before = data(source)
    fused = fuse(source, epilogue=True)
    assert data(source) == before
    assert ([row.op for row in fused.rows], ops(fused.model)) == ([op], [op])
    assert not fused.notes
    assert [identifier[1] for identifier in fused.model.functions] == [op]
    onnx.checker.check_model(ir.to_proto(fused.model), full_check=True)
    assert data(fuse(fused.model, epilogue=True).model) == data(fused.model)
    left = {node.op_type for node in fused.model.graph}
    assert not left & {"BatchNormalization", "Add", "Div", "Dropout", "Sigmoid", "Mul"}
    truth = run(source, tmp_path, "onnx_reference", "float64")
    allowed = bound(fused.model, np.abs(IMAGE).astype(np.float64))
    bare = fuse(source, "custom_op", epilogue=True).model
    for made, runtime in ((fused.model, "ort"), (fused.model, "onnx_reference"), (bare, "onnx_reference")):
        got = run(made, tmp_path, runtime)
        assert (np.abs(got - truth) <= (1 if after != FOLDS["as far as it goes"][0] else 2) * allowed).all()


@pytest.mark.parametrize("form", ["function", "custom_op"])
@pytest.mark.parametrize(("after", "op"), FOLDS.values(), ids=FOLDS)
def test_the_library_computes_the_same(
    after: str, op: str, form: str, tmp_path: Path, library: native.Library
) -> None:
    source = net(after)
    fused = fuse(source, form, epilogue=True).model
    onnx_file.save(fused, tmp_path / "run.onnx")
    options = ort.SessionOptions()
    options.register_custom_ops_library(str(library.path))
    session = ort.InferenceSession(tmp_path / "run.onnx", options, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"image": IMAGE})
    truth = run(source, tmp_path, "onnx_reference", "float64")
    assert (np.abs(got - truth) <= bound(fused, np.abs(IMAGE).astype(np.float64))).all()


@pytest.mark.parametrize("opset", [11, 12, 13, 14])
def test_batch_norm_of_every_opset(opset: int, tmp_path: Path) -> None:
    text = f"""<ir_version: 8, opset_import: ["": {opset}, "simam": 1]>
    net (float[2,3,5,7] image) => (float[2,3,5,7] out) <{WEIGHTS} float last = {{0}}> {{
        x = Relu (image)
        y = simam.SimAM <e_lambda: float = 0.1> (x)
        a = {BN}
        out = Relu (a)
    }}"""
    source = ir.from_proto(parser.parse_model(text))
    fused = fuse(source, "custom_op", epilogue=True)
    assert not fused.notes
    assert ops(fused.model) == ["SimAMAffineRelu"]
    truth = run(source, tmp_path, "onnx_reference", "float64")
    got = run(fused.model, tmp_path, "onnx_reference")
    assert (np.abs(got - truth) <= bound(fused.model, np.zeros(1))).all()


def test_swish_is_silu(tmp_path: Path) -> None:
    source = net(f"a = {BN}\n out = Relu (a)")
    swish = next(node for node in source.graph if node.outputs[0].name == "out")
    swish.op_type = "Swish"
    source.graph.opset_imports[""] = 24
    assert ops(fuse(source, epilogue=True).model) == ["SimAMAffineSilu"]
    swish.attributes["alpha"] = ir.AttrFloat32("alpha", 1.7)
    assert ops(fuse(source, epilogue=True).model) == ["SimAMAffine"]


@pytest.mark.parametrize("name", ["epsilon", "training_mode"])
@pytest.mark.parametrize(
    "attribute",
    [
        ir.AttrString("", "much"),
        ir.AttrFloat32s("", [1e-5]),
        ir.AttrInt64s("", [0]),
        ir.RefAttr("", "e", ir.AttributeType.FLOAT),
    ],
    ids=lambda attribute: f"{attribute.type.name}{' of a call' * attribute.is_ref()}",
)
def test_attributes_that_are_no_numbers(name: str, attribute: ir.Attr) -> None:
    """The onnx checker takes the last one."""
    source = net(f"out = {BN}")
    norm = next(node for node in source.graph if node.op_type == "BatchNormalization")
    attribute.name = name
    norm.attributes[name] = attribute
    fused = fuse(source, epilogue=True)
    assert ops(fused.model) == ["SimAM"]
    assert fused.notes == (f"{fused.rows[0].node}: its epilogue stays: an attribute of {norm.name!r} is no number",)


TRAINING, NO_EPSILON = " <training_mode: int = 1> (", " <epsilon: float = 0.0> ("
YES = "yes = Constant <value = bool {1}> ()"
STAYS = {
    "y is used twice": ("t_ = Tanh (y)\n out = Add (y, t_)", "SimAM", ""),
    "a value between": (f"a = {BN}\n p = Add (a, r)\n u = Tanh (a)\n out = Add (p, u)", "SimAMAffine", ""),
    "what is between is an output": (f"a = {BN}\n p = Relu (a)\n out = Add (p, r)", "SimAMAffine", ""),
    "twice itself": ("out = Add (y, y)", "SimAM", ""),
    "of another shape": ("p = GlobalAveragePool (image)\n out = Add (y, p)", "SimAM", "'p' has the shape of x"),
    "along another axis": ("out = Add (y, row)", "SimAM", "'row' has the shape of x"),
    "once for every image": ("out = Add (y, whole)", "SimAM", "'whole' has the shape of x"),
    "of another shape, behind bn": (f"a = {BN}\n out = Add (row, a)", "SimAMAffine", "a part of its epilogue stays"),
    "bn in training": (f"out, m2, v2 = {BN.replace(' (', TRAINING)}", "SimAM", "training mode"),
    "dropout in training": (f"{YES}\n h = Dropout (y, f, yes)\n out = Relu (h)", "SimAM", ""),
    "bn divides by 0": (f"out = {BN.replace(' (', NO_EPSILON).replace('var', 'zero')}", "SimAM", "divides by 0"),
    "bn, computed": (f"m_ = Add (mu, mu)\n out = {BN.replace('mu', 'm_')}", "SimAM", "not four constants"),
    "by a computed number": ("w = ReduceMax <keepdims: int = 0> (image)\n out = Mul (y, w)", "SimAM", ""),
    "division by y": ("out = Div (b, y)", "SimAM", ""),
    "division by 0": ("n0 = Constant <value = float {0}> ()\n out = Div (y, n0)", "SimAM", ""),
    "another gate": ("s_ = Sigmoid (r)\n out = Mul (y, s_)", "SimAM", ""),
    "no product with y": ("s_ = Sigmoid (y)\n t_ = Tanh (y)\n p = Mul (s_, r)\n out = Add (p, t_)", "SimAM", ""),
    "another operator": ("out = LeakyRelu (y)", "SimAM", ""),
    "inside an If": (
        f"""{YES}
        out = If (yes) <then_branch = one () => (float[2,3,5,7] o1) {{o1 = Relu (y)}},
                       else_branch = two () => (float[2,3,5,7] o2) {{o2 = Neg (image)}}>""", "SimAM", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STAYS)
def test_stays(name: str, tmp_path: Path) -> None:
    after, op, words = STAYS[name]
    source = net(after, outputs="a" if "is an output" in name else "y")
    fused = fuse(source, epilogue=True)
    assert ops(fused.model) == [op]
    assert words in "\n".join(fused.notes)
    assert bool(words) == bool(fused.notes)
    np.testing.assert_allclose(run(fused.model, tmp_path, "ort"), run(source, tmp_path, "ort"), rtol=1e-5, atol=1e-5)


def test_a_parameter_that_callers_may_replace_stays() -> None:
    proto = ir.to_proto(net(f"out = {BN}"))
    proto.graph.input.append(onnx.helper.make_tensor_value_info("gamma", onnx.TensorProto.FLOAT, [3]))
    fused = fuse(ir.from_proto(proto), epilogue=True)
    assert ops(fused.model) == ["SimAM"]
    assert "not four constants" in fused.notes[0]


def test_parameters_in_a_file_beside(tmp_path: Path) -> None:
    source = net(f"a = {BN}\n out = Relu (a)")
    ir.save(source.clone(), tmp_path / "in.onnx", external_data="weights.bin", size_threshold_bytes=0)
    fuse_file(tmp_path / "in.onnx", tmp_path / "out.onnx", epilogue=True)
    (tmp_path / "weights.bin").unlink()
    assert data(onnx_file.load(tmp_path / "out.onnx")).count(b"SimAMAffineRelu") > 1
    with open_session(tmp_path / "out.onnx", "ort") as session:
        got = session.run({"image": IMAGE})["out"]
    np.testing.assert_allclose(got, run(source, tmp_path, "ort"), rtol=1e-5, atol=1e-5)


SCALED = """<ir_version: 8, opset_import: ["": 22, "simam": 1]>
    net (float[2,3,5,7] image) => (float[2,3,5,7] out) <float[3,1,1] k = {1.5, 2, -1}> {
        y = simam.SimAM <e_lambda: float = 0.1> (image)
        s = Mul (y, k)
        out = Relu (s)
    }"""


@pytest.mark.parametrize("low", LOW_TYPES.values(), ids=LOW_TYPES)
def test_16_bits_fold_too_with_scale_and_bias_in_float32(low: LowType, tmp_path: Path) -> None:
    half = to_low(ir.from_proto(parser.parse_model(SCALED)), low).model
    fused = fuse(half, epilogue=True)
    assert ops(fused.model) == ["SimAMAffineRelu"]
    (node,) = (n for n in fused.model.graph if n.domain == "simam")
    scale, bias = (value.producer().attributes["value"].as_tensor() for value in node.inputs[1:])
    assert (scale.dtype, bias.dtype) == (ir.DataType.FLOAT, ir.DataType.FLOAT)
    assert scale.numpy().tolist() == [1.5, 2, -1]
    onnx_file.save(fused.model, tmp_path / "half.onnx")
    onnx.checker.check_model(tmp_path / "half.onnx", full_check=True)
    with open_session(tmp_path / "half.onnx", "onnx_half") as session:
        x = IMAGE.astype(session.inputs[0].dtype)
        got = session.run({"image": x})["out"].astype(np.float64)
    exact = apply_epilogue(reference(x, 0.1), [1.5, 2, -1], [0, 0, 0], activation="relu")
    np.testing.assert_allclose(got, exact, rtol=1.1 * low.half_ulp, atol=1e-6)


def test_a_cast_ends_the_epilogue() -> None:
    text = """<ir_version: 8, opset_import: ["": 18, "simam": 1]>
    net (float16[2,3,5,7] image, float[2,3,5,7] r) => (float[2,3,5,7] out) {
        y = simam.SimAM <e_lambda: float = 0.1> (image)
        w = Cast <to = 1> (y)
        out = Add (w, r)
    }"""
    assert ops(fuse(ir.from_proto(parser.parse_model(text)), epilogue=True).model) == ["SimAM"]


def test_in_a_function_nothing_folds() -> None:
    head = '<ir_version: 8, opset_import: ["": 18, "m": 1]> net (float[2,3,5,7] image) => (float[2,3,5,7] out)'
    text = f"{head} {{ out = m.part (image) }} {PART}"
    source = parser.parse_model(text)
    fused = fuse(ir.from_proto(source), epilogue=True)
    (function,) = (f for f in fused.model.functions.values() if f.domain == "m")
    assert [node.op_type for node in function] == ["SimAM", "Relu"]
    inlined = ir.from_proto(onnx.inliner.inline_local_functions(source))
    assert ops(fuse(inlined, epilogue=True).model) == ["SimAMAffineRelu"]


def test_sizes_of_one_name_are_one_size() -> None:
    """And those that onnx has no name for, where they are the same at every size that is tried."""
    sizes = "\n".join(
        ["m_shape = Shape (x)", "hw_size = Gather (m_shape, hw)", "m = ReduceProd <keepdims: int = 0> (hw_size)",
         "one = Constant <value_int = 1> ()", "n_int = Sub (m, one)", "n_x = Cast <to: int = 1> (n_int)"]
    )  # fmt: skip
    chain = sizes + CHAIN.replace("(s, n)", "(s, n_x)")
    for shape, op in (("n, 3, h, w", "SimAMAffineAdd"), ("n, c, h, w", "SimAM")):
        proto = ir.to_proto(model(chain, before=BEFORE, after="out = Add (y, r)", shape=shape))
        assert ops(fuse(ir.from_proto(proto), epilogue=True).model) == [op]
        pool = "r = AveragePool <kernel_shape: ints = [3, 3], pads: ints = [1, 1, 1, 1]> (image)"
        followed = model(chain, before=f"x = Relu (image)\n {pool}", after="out = Add (y, r)", shape=shape)
        assert ops(fuse(followed, epilogue=True).model) == [op]
        proto.graph.input.add(name="other", type=proto.graph.input[0].type)  # of another image
        proto.graph.input[1].type.tensor_type.shape.dim[2].dim_param = "elsewhere"
        next(node for node in proto.graph.node if node.op_type == "Neg").input[0] = "other"
        assert ops(fuse(ir.from_proto(proto), epilogue=True).model) == ["SimAM"]


def test_of_two_blocks_one_has_the_addition(tmp_path: Path) -> None:
    """The other is its residual, and keeps what is its own."""
    chain = CHAIN + again("r", "y2")
    source = net("a = BatchNormalization (y2, gamma, beta, mu, var)\n p = Add (y, a)\n out = Relu (p)", chain=chain)
    fused = fuse(source, epilogue=True)
    assert sorted(ops(fused.model)) == ["SimAMAffine", "SimAMAffineAddRelu"]
    assert data(fuse(fused.model, epilogue=True).model) == data(fused.model)
    np.testing.assert_allclose(run(fused.model, tmp_path, "ort"), run(source, tmp_path, "ort"), rtol=1e-5, atol=1e-5)


def test_one_behind_the_other_with_a_residual_around_both(tmp_path: Path) -> None:
    chain = CHAIN + f"a = {BN}\n x2 = Relu (a)" + again("x2", "y2")
    source = net("p = Add (x, y2)\n out = Relu (p)", chain=chain)
    fused = fuse(source, epilogue=True)
    assert ops(fused.model) == ["SimAMAffineRelu", "SimAMAffineAddRelu"]
    for form in ("primitive", "custom_op"):
        around = fuse(fuse(fused.model, form).model, epilogue=True)
        assert data(around.model) == data(fused.model)
    np.testing.assert_allclose(run(fused.model, tmp_path, "ort"), run(source, tmp_path, "ort"), rtol=1e-5, atol=1e-5)


def test_in_a_branch_of_an_if(tmp_path: Path) -> None:
    branch = f"{CHAIN} a = {BN} \n o1 = Relu (a)"
    after = f"""c_ = Constant <value = bool {{1}}> ()
        out = If (c_) <then_branch = one () => (float[2,3,5,7] o1) {{ {branch} }},
                       else_branch = two () => (float[2,3,5,7] o2) {{o2 = Neg (image)}}>"""
    source = net(after, chain="")
    fused = fuse(source, epilogue=True)
    assert [row.op for row in fused.rows] == ["SimAMAffineRelu"]
    np.testing.assert_allclose(run(fused.model, tmp_path, "ort"), run(source, tmp_path, "ort"), rtol=1e-5, atol=1e-5)


def test_only_a_form_with_a_node_takes_an_epilogue() -> None:
    for form in ("primitive", "instance_norm"):
        with pytest.raises(
            InputError, match=f"form '{form}' has no node that an epilogue folds into; use --form function"
        ):
            fuse(net("out = Relu (y)"), form, epilogue=True)
