"""Shapes at given input sizes, and the first node that refuses them."""

import onnx_ir as ir
import pytest
from helpers.graphs import BODY, parse

from simam_deploy.graph.shapes import Refusal, Shapes

HALF = "sh = Shape(x) i2 = Constant<value_ints=[2]>() h = Gather(sh, i2) h2 = Div(h, i2)"
X = "g (float[1,3,H,W] x) => (float[A] y)"
VIEW = "{ s = Constant<value_ints=[-1,64]>() [view] y = Reshape(x, s) }"
IF = """g (bool c, float[1,3,H,W] x) => (float[A] y) { [if] y = If(c)<
    then_branch = a () => (p) { s = Constant<value_ints=[-1,64]>() [view] p = Reshape(x, s) },
    else_branch = b () => (q) { t = Constant<value_ints=[-1,64]>() q = Reshape(x, t) }> }"""
FUNCTION = f'<domain: "simam", opset_import: ["" : 18]> F (x) => (y) {VIEW}'
CASES = {
    "concat": (
        f"{X} {{ p = MaxPool<kernel_shape=[2,2],strides=[2,2]>(x) s = Constant<value_floats=[1.0,1.0,2.0,2.0]>()"
        " u = Resize(p, ,s) [cat] y = Concat<axis=1>(x, u) }",
        Refusal("cat", "Concat", ((1, 3, 7, 5), (1, 3, 6, 4)), "Can't merge shape info"),
    ),
    "reshape": (f"{X} {VIEW}", Refusal("view", "Reshape", ((1, 3, 7, 5), (2,)), "Dimension could not be inferred")),
    "reshape to fixed sizes": (
        f"{X} {{ s = Constant<value_ints=[1,192]>() [view] y = Reshape(x, s) }}",
        Refusal("view", "Reshape", ((1, 3, 7, 5),), "105 values do not fill 1x192"),
    ),
    "reshape to computed sizes": (
        f"{X} {{ {HALF} a = Constant<value_ints=[1,3]>() b = Constant<value_ints=[2,-1]>()"
        " s = Concat<axis=0>(a, h2, b) [view] y = Reshape(x, s) }",
        Refusal("view", "Reshape", ((1, 3, 7, 5), (5,)), "Dimension could not be inferred"),
    ),
    "in a function": (
        f"{X} {{ [call] y = simam.F(x) }} {FUNCTION}",
        Refusal("view", "Reshape", ((1, 3, 7, 5), (2,)), "Dimension could not be inferred"),
    ),
    "in a branch, without a name": (
        IF.replace("[view]", ""),
        Refusal("", "Reshape", (), "Dimension could not be inferred"),
    ),
    "in a branch": (IF, Refusal("view", "Reshape", (), "Dimension could not be inferred")),
    "window": (
        f"{X} {{ [pool] y = MaxPool<kernel_shape=[6,6]>(x) }}",
        Refusal("pool", "MaxPool", ((1, 3, 7, 5),), "its window is larger than that: 1x3x2x0 would be left"),
    ),
    "blocks": (
        f"{X} {{ [s2d] y = SpaceToDepth<blocksize=2>(x) }}",
        Refusal("s2d", "SpaceToDepth", ((1, 3, 7, 5),), "the sides are no multiples of 2"),
    ),
    "without a name": (
        "g (float[1,3,H,W] x, float[1,3,8,8] z) => (float[A] y) { y = Add(x, z) }",
        Refusal("y", "Add", ((1, 3, 7, 5), (1, 3, 8, 8)), "Incompatible dimensions"),
    ),
}


def shapes_of(text: str) -> Shapes:
    return Shapes(ir.from_proto(parse(text)))


@pytest.mark.parametrize("name", CASES)
def test_the_node_that_refuses(name: str) -> None:
    text, wanted = CASES[name]
    shapes = shapes_of(text)
    assert shapes.at({"H": 8, "W": 8})[1] is None
    known, refusal = shapes.at({"H": 7, "W": 5})
    assert known["x"] == (1, 3, 7, 5)
    assert refusal is not None
    assert refusal._replace(reason="") == wanted._replace(reason="")
    assert refusal.reason.startswith(wanted.reason)


@pytest.mark.parametrize(
    "text",
    [
        "g (float[N,3] x) => (float[N,3] y) { y = RandomUniformLike<dtype=99>(x) }",
        """g (bool c, float[N,3] x) => (float[N,3] y) { y = If(c)<then_branch = a () => (p) { p = Relu(x) },
        else_branch = b () => (q) { q = Cast<to=10>(x) }> }""",
    ],
)
def test_types_are_no_matter_of_sizes(text: str) -> None:
    """The parser tells of them; at no size would the network run."""
    assert shapes_of(text).at({"N": 2})[1] is None


def test_shapes_are_those_of_the_sizes() -> None:
    shapes = shapes_of("g (float[N,3,H,W] x) => (float[N,3,H,W] y) { t = Relu(x) y = simam.SimAM(t) }" + BODY)
    assert shapes.at({"N": 2, "H": 5, "W": 7})[0]["t"] == (2, 3, 5, 7)
    assert shapes.at({"H": 5, "W": 7})[0]["y"] == (1, 3, 5, 7)
