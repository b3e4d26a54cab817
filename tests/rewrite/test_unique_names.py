"""What `fuse` writes has names of its own, whatever the file had before: ONNX Runtime and the checker load it."""

import re
from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from helpers.onnx_models import CHAIN, PART, again, model
from onnx import parser

from simam_deploy import native
from simam_deploy.graph.shapes import Dims
from simam_deploy.rewrite.forms import FORMS, alone
from simam_deploy.rewrite.fuse import fuse

IMAGE = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)
FIXED: Dims = (2, 3, 5, 7)
DYNAMIC: Dims = ("n", 3, "h", "w")
INNER = ["mean", "c", "d", "sum", "v", "v_lambda", "divisor", "e", "z", "gate"]
"""The values of our primitive form that depend on x, but for y."""


def data(what: ir.Model) -> bytes:
    return ir.to_proto(what).SerializeToString(deterministic=True)


def run(what: ir.Model, library: native.Library) -> list[np.ndarray]:
    """The outputs in ONNX Runtime, with the library, which `custom_op` needs."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(str(library.path))
    session = ort.InferenceSession(data(what), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: IMAGE})


def check(source: ir.Model, form: str, library: native.Library, *, epilogue: bool = False) -> ir.Model:
    """Fuse twice: no name is there twice, both files load, compute the same, and are the same."""
    fused = fuse(source, form, epilogue=epilogue).model
    for scope in (fused.graph, *fused.functions.values()):
        nodes = Counter(node.name for node in scope.all_nodes() if node.name)
        values = Counter(value.name for node in scope.all_nodes() for value in node.outputs if value.name)
        assert {*nodes.values(), *values.values()} == {1}
    if form != "custom_op":
        onnx.checker.check_model(ir.to_proto(fused), full_check=True)
    for got, want in zip(run(fused, library), run(source, library), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    assert data(fuse(fused, form, epilogue=epilogue).model) == data(fused)
    return fused


def tapped(source: ir.Model, *names: str, by_node: bool = False) -> ir.Model:
    """`source` with some values as outputs of the graph, or used by a node whose result is one."""
    proto = ir.to_proto(source)
    for name in names:
        if by_node:
            proto.graph.node.append(onnx.helper.make_node("Identity", [name], [f"{name} too"], name=f"tap {name}"))
        proto.graph.output.append(onnx.ValueInfoProto(name=f"{name} too" if by_node else name))
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def followed(dims: Dims, opset: int = 18) -> ir.Model:
    """Our primitive form, a factor and a Relu behind it."""
    proto = ir.to_proto(alone("primitive", dims, 0.1, opset=opset))
    two = onnx.numpy_helper.from_array(np.full((3, 1, 1), 2, np.float32), "two")
    proto.graph.initializer.append(two)
    proto.graph.node.append(onnx.helper.make_node("Mul", ["y", "two"], ["twice"], name="twice"))
    proto.graph.node.append(onnx.helper.make_node("Relu", ["twice"], ["out"], name="relu"))
    proto.graph.output[0].name = "out"
    return ir.from_proto(proto)


@pytest.mark.parametrize("by_node", [False, True])
@pytest.mark.parametrize("name", INNER)
def test_one_inner_value_is_used_elsewhere(name: str, by_node: bool, library: native.Library) -> None:
    """It stays, and so do the nodes that make it, which have the names that our form writes."""
    fused = check(tapped(followed(FIXED), f"simam/{name}", by_node=by_node), "primitive", library)
    assert f"simam/{name}_" in {node.name for node in fused.graph}


@pytest.mark.parametrize(
    ("form", "dims", "opset", "epilogue"),
    [
        *((form, FIXED, 18, False) for form in FORMS),
        *((form, FIXED, 9, True) for form in ("function", "custom_op")),
        *((form, DYNAMIC, 18, form == "custom_op") for form in ("primitive", "custom_op")),
    ],
    ids=str,
)
def test_all_inner_values_are_used_elsewhere(
    form: str, dims: Dims, opset: int, epilogue: bool, library: native.Library
) -> None:
    source = followed(dims, opset)
    names = [str(v.name) for node in source.graph for v in node.outputs if node.name.startswith("simam/")]
    assert {f"simam/{name}" for name in INNER} < {*names}
    for by_node in (False, True):
        check(tapped(source, *names, by_node=by_node), form, library, epilogue=epilogue)


def test_a_block_that_takes_in_its_epilogue_keeps_its_name() -> None:
    fused = fuse(followed(FIXED), epilogue=True)
    assert [row.node for row in fused.rows] == ["simam"]
    assert [node.name for node in fused.model.graph if node.domain] == ["simam"]


@pytest.mark.parametrize("form", FORMS)
def test_from_form_to_form_with_a_value_in_use(form: str, library: native.Library) -> None:
    """Several in a row: what stayed of the last one stays once more."""
    what = tapped(followed(FIXED), "simam/c", "simam/v")
    for there in ("primitive", form, "instance_norm", "primitive", form):
        what = check(what, there, library)


def named(source: ir.Model, **names: str) -> ir.Model:
    """Nodes, by the name of what they make, with other names."""
    for node in source.graph.all_nodes():
        node.name = names.get(str(node.outputs[0].name), node.name)
    return source


@pytest.mark.parametrize("form", FORMS)
def test_other_nodes_have_the_names_that_we_write(form: str, library: native.Library) -> None:
    after = "w = Relu (y)\n u = Neg (w)\n s_ = Sin (u)\n out = Abs (s_)"
    source = named(model(after=after), w="Mul_11/mean", u="Mul_11/z", s_="Mul_11/n", x="Mul_11/scale")
    fused = check(source, form, library)
    assert {node.name for node in source.graph} - {node.name for node in fused.graph} <= {
        node.name for node in source.graph if node.name.count("_") == 1 and "/" not in node.name
    }
    assert {"Mul_11", "Mul_11/mean", "Mul_11/z", "Mul_11/n", "Mul_11/scale"} <= {node.name for node in fused.graph}


@pytest.mark.parametrize("form", FORMS)
def test_a_block_whose_last_node_has_no_name(form: str, library: native.Library) -> None:
    """It is called after its result, and another node may be called so."""
    source = named(model(after="w = Relu (y)\n out = Neg (w)"), y="", w="y")
    fused = check(source, form, library)
    assert [row.node for row in fuse(source, form).rows] == ["y_"]
    assert next(node.op_type for node in fused.graph if node.name == "y") == "Relu"


@pytest.mark.parametrize("form", FORMS)
def test_an_initialiser_and_an_input_have_the_names_that_we_write(form: str, library: native.Library) -> None:
    """And a value in the body of an If, which may see it."""
    branch = CHAIN.replace("y =", "o1 =")
    after = f"""c_ = Constant <value = bool {{1}}> ()
        out = If (c_) <then_branch = one () => (float[2,3,5,7] o1) {{ {branch} }},
                       else_branch = two () => (float[2,3,5,7] o2) {{o2 = Neg (image)}}>"""
    source = model(chain="", after=after)
    source.graph.initializers["four"].name = "last/mean"
    for node in source.graph.all_nodes():
        if node.outputs[0].name in ("c", "x"):
            node.outputs[0].name = {"c": "last/c", "x": "last/n"}[str(node.outputs[0].name)]
    check(named(source, o1="last"), form, library)


@pytest.mark.parametrize("form", FORMS)
def test_two_blocks_of_one_name(form: str, library: native.Library) -> None:
    """One in the graph, one in the body of an If: ONNX Runtime takes one name in both."""
    branch = again("x", "o1")
    after = f"""c_ = Constant <value = bool {{1}}> ()
        p = If (c_) <then_branch = one () => (float[2,3,5,7] o1) {{ {branch} }},
                     else_branch = two () => (float[2,3,5,7] o2) {{o2 = Neg (image)}}>
        out = Add (p, y)"""
    source = named(model(after=after), y="block", o1="block")
    run(source, library)
    check(source, form, library)
    assert [row.node for row in fuse(source, form).rows] == ["block", "block_"]


@pytest.mark.parametrize("form", ["function", "primitive"])
def test_in_a_function_too(form: str, library: native.Library) -> None:
    part = re.sub(r"out = Relu \(y\)", "k = Tanh (v)\n out = Add (y, k)", PART)
    text = f"""<ir_version: 8, opset_import: ["": 18, "m": 1]>
    net (float[2,3,5,7] image) => (float[2,3,5,7] out) {{ out = m.part (image) }} {part}"""
    first = fuse(ir.from_proto(parser.parse_model(text)), "primitive").model
    check(check(first, form, library), "primitive", library)
