"""Blocks behind calls of functions: the sizes and the type of x are found through them."""

import onnx
import onnx_ir as ir
import pytest
from helpers.onnx_models import chain
from onnx import parser

from simam_deploy.graph.shapes.propagate import MOST_INSIDE, propagate
from simam_deploy.match.find import find
from simam_deploy.rewrite.fuse import fuse


def reshaped(x: str, y: str) -> str:
    """The sizes are computed so that onnx's inference does not follow them."""
    return f"""{y}_n = Shape <start: int = 0, end: int = 1> ({x})
    {y}_s = Concat <axis: int = 0> ({y}_n, rest)
    {y}_sizes = Max ({y}_s, {y}_s)
    {y} = Reshape ({x}, {y}_sizes)"""


def network(body: str, more_inputs: str = "") -> ir.Model:
    return ir.from_proto(
        parser.parse_model(f"""<ir_version: 8, opset_import: ["": 18]>
    net (float[n, 6, 4, 8] image{more_inputs}) => (float[n, k, h, w] out)
    <float n_a = {{31}}, float n_b = {{47}}, float n_c = {{47}}, float lam = {{0.1}}, float four = {{4}},
     float half = {{0.5}}, int64[2] hw = {{2, 3}}, int64 one = {{1}}, int64[3] rest = {{4, 6, 8}}>
    {{ {body} }}""")
    )


def test_sizes_behind_two_calls() -> None:
    model = network(f"""{chain("image", "a", "a")}
    a1 = Relu (a)
    {reshaped("a1", "r")}
    {chain("r", "b", "b")}
    b1 = Relu (b)
    {reshaped("b1", "q")}
    {chain("q", "c", "c")}
    out = Relu (c)""")
    fused = fuse(model, "function").model
    assert [node.op_type for node in fused.graph].count("SimAM") == 3
    found = find(fused)
    assert [block.shape for block in found.blocks] == [("n", 6, 4, 8), (None, 4, 6, 8), (None, 4, 6, 8)], found


@pytest.mark.parametrize("form", ["function", "primitive"])
def test_a_type_without_a_shape(form: str) -> None:
    model = network(
        f"""r = Reshape (image, sizes)
    s = Shape <start: int = 2> (r)
    m = ReduceProd <keepdims: int = 0> (s)
    k = Sub (m, one)
    n_d = Cast <to: int = 1> (k)
    {chain("r", "y", "d")}
    out = MaxPool <kernel_shape: ints = [1, 1]> (y)""",
        ", int64[rank] sizes",
    )
    fused = fuse(model, form).model
    (block,) = find(fused).blocks
    assert (block.form, block.dtype, block.shape) == (form, ir.DataType.FLOAT, (None,) * 4)


OWN = '<ir_version: 8, opset_import: ["": 18, "own": 1]> net (float[3, 8] x) => (y)'
INSIDE = '<domain: "own", opset_import: ["": 18, "own": 1]>'


def test_values_and_attributes_go_through_a_call() -> None:
    model = parser.parse_model(f"""{OWN} {{ sizes = own.rows <count = 6> (x)  y = Reshape (x, sizes) }}
    {INSIDE} rows <count: int = 2> (x) => (sizes) {{
        one = Constant <value_ints = [1]> ()
        rest = Constant <value_ints = [-1]> ()
        number = Constant <value_int: int = @count> ()
        first = Reshape (number, one)
        sizes = Concat <axis: int = 0> (first, rest)
    }}""")
    assert propagate(model)["y"] == (onnx.TensorProto.FLOAT, (6, 4))


def test_calls_within_bounds() -> None:
    """A function that calls itself is unknown; of calls without number, the first are gone through."""
    model = parser.parse_model(f"{OWN} {{ y = own.f (x) }} {INSIDE} f (x) => (y) {{ y = own.f (x) }}")
    assert propagate(model).keys() == {"x"}
    model = parser.parse_model(f"{OWN} {{ y = own.f (x) }} {INSIDE} f (x) => (y) {{ y = Concat <axis = 1> (x, x) }}")
    assert propagate(model)["y"] == (onnx.TensorProto.FLOAT, (3, 16))
    model.graph.node.extend(
        onnx.helper.make_node("f", ["x"], [f"y{at}"], domain="own") for at in range(MOST_INSIDE + 100)
    )
    assert len(propagate(model)) == 1 + MOST_INSIDE
