"""A value whose shape or type cannot be told costs the blocks that depend on it, and never the file."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.graphs import save, simam
from helpers.onnx_models import CHAIN, again
from onnx import helper, parser

from simam_deploy import open_session
from simam_deploy.graph import onnx_file
from simam_deploy.match.find import find
from simam_deploy.rewrite.fuse import fuse_file

FUNCTIONS = {
    "unknown, in a function": '<domain: "f", opset_import: ["" : 18, "my" : 1]> F (v) => (o) { o = my.Op (v) }',
    "not imported, in a function": '<domain: "f", opset_import: ["" : 18]> F (v) => (o) { o = my.Op (v) }',
    "range in a function": """<domain: "f", opset_import: ["" : 18]> F (v) => (o) {
        l = Shape <start: int = 3> (v)
        i = Squeeze (l)
        a = Constant <value_int: int = 0> ()
        b = Constant <value_int: int = 1> ()
        r = Range (a, i, b)
        f = CastLike (r, v)
        o = Add (v, f) }""",
}
ODD = {
    "range": "r = Range (zero, seven, one)  f = Cast <to: int = 1> (r)  o = Add (v, f)",
    "range of a size": """l = Shape <start: int = 3> (v)  i = Squeeze (l)  r = Range (zero, i, one)
        f = Cast <to: int = 1> (r)  o = Add (v, f)""",
    "range in an if": """o = If (yes) <
        then_branch = t () => (float a) { r = Range (zero, seven, one)  f = Cast <to: int = 1> (r)  a = Add (v, f) },
        else_branch = e () => (float b) { b = Relu (v) }>""",
    "unknown": "o = my.Op (v)",
    "not imported": "o = my.Op (v)",
    "unknown in an if": """o = If (yes) <then_branch = t () => (float a) { a = my.Op (v) },
        else_branch = e () => (float b) { b = Relu (v) }>""",
    "loop": """o, rows = Loop (seven, yes, v) <body = b (int64 i, bool go, float u) => (bool on, float p, float row) {
        on = Identity (go)  p = my.Op (u)  row = Relu (u) }>""",
    "sequence": "l = SequenceConstruct (v, v)  o = SequenceAt (l, one)",
    "sequence of an unknown": "u = my.Op (v)  l = SplitToSequence (u)  o = SequenceAt (l, zero)",
    "no such operator": "o = NotOfThisOpset (v)",
    "shapes that do not fit": "u = Concat <axis: int = 1> (v, hw)  w = Add (u, hw)  o = Relu (w)",
    **dict.fromkeys(FUNCTIONS, "o = f.F (v)"),
}
"""Nodes from v to o."""
TOLD = {"range", "range of a size", "range in a function", "sequence"}
"""Where the shape of o can be told all the same."""


def network(odd: str, size: str, behind: bool) -> onnx.ModelProto:
    """Block y of x. The odd nodes stand behind it, or between another input and block out."""
    v = "y" if behind else "image"
    nodes = ODD[odd].replace("(v", f"({v}").replace(", v", f", {v}").replace("= v", f"= {v}")
    imports = ", ".join(f'"{name}" : {version}' for name, version in {"": 18, "f": 1, "my": 1}.items())
    if "not imported" in odd:
        imports = imports.replace(', "my" : 1', "")
    proto = parser.parse_model(
        f"""<ir_version: 8, opset_import: [{imports}]>
        net (float[{size}] x, float[{size}] image) => (float y, float out)
        <int64[2] hw = {{2, 3}}, float n = {{34}}, float lam = {{0.1}}, float four = {{4}}, float half = {{0.5}},
         int64 zero = {{0}}, int64 one = {{1}}, int64 seven = {{7}}, bool yes = {{1}}>
        {{ {CHAIN} {nodes} {again("o", "out")} }}{FUNCTIONS.get(odd, "")}"""
    )
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    for at, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}_{at}"
    return proto


@pytest.mark.parametrize("size", ["2, 3, 5, 7", "n, 3, 5, 7"])
@pytest.mark.parametrize("odd", ODD)
def test_what_stands_in_front_of_one_block(odd: str, size: str, tmp_path: Path) -> None:
    onnx.save(network(odd, size, behind=False), tmp_path / "m.onnx")
    found = find(onnx_file.load(tmp_path / "m.onnx"))
    assert {"y"} <= {block.y.name for block in found.blocks} <= {"y", "out"}
    if odd in TOLD:
        assert [block.shape for block in found.blocks] == [(2 if size[0] == "2" else "n", 3, 5, 7)] * 2
    elif len(found.blocks) == 1:
        assert "the file does not tell" in str(found.near_misses[0])


@pytest.mark.parametrize("odd", ODD)
def test_what_stands_behind(odd: str, tmp_path: Path) -> None:
    onnx.save(network(odd, "n, 3, 5, 7", behind=True), tmp_path / "m.onnx")
    found = find(onnx_file.load(tmp_path / "m.onnx"))
    assert [block.shape for block in found.blocks if block.y.name == "y"] == [("n", 3, 5, 7)]
    fuse_file(tmp_path / "m.onnx", tmp_path / "fused.onnx")
    assert {"SimAM"} <= {node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node}


@pytest.mark.parametrize(
    "declared", ["float[1] half", "int64 half", "float[2, 2] hw", "float[2, 35] c_2", "int64 d_2"]
)
def test_a_declared_type_that_is_not_so(declared: str) -> None:
    """ONNX Runtime warns, and goes on."""
    proto = network("sequence", "n, 3, 5, 7", behind=False)
    proto.graph.value_info.extend(parser.parse_graph(f"g ({declared}) => (float a) {{}}").input)
    assert {"y", "out"} == {block.y.name for block in find(ir.from_proto(proto)).blocks}


# sizes below 0


@pytest.mark.parametrize("size", ["-1, 3, -1, -1", "-1, 3, 5, 7", "-7, -1, 5, -2", "n, 3, -1, w"])
@pytest.mark.parametrize("everywhere", [False, True])
def test_a_size_below_0_is_not_known(size: str, everywhere: bool) -> None:
    named = {"n": "n", "w": "w"}
    dims = tuple(named.get(d, int(d) if d.isdigit() else None) for d in size.split(", "))
    shape = CHAIN.replace(
        "v = Div (s, n)",
        """size = Shape (x)  hw_size = Gather (size, hw)  m = ReduceProd <keepdims: int = 0> (hw_size)
        less = Sub (m, one)  n_x = Cast <to: int = 1> (less)  v = Div (s, n_x)""",
    )
    proto = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 18]> net (float[n, 3, 5, 7] x) => (float[n, 3, 5, 7] y)
        <int64[2] hw = {{2, 3}}, int64 one = {{1}}, float lam = {{0.1}}, float four = {{4}}, float half = {{0.5}}>
        {{ {shape} }}"""
    )
    wanted = [helper.make_tensor_value_info("x", 1, [named.get(d) or int(d) for d in size.split(", ")])]
    if everywhere:
        wanted += [helper.make_tensor_value_info(name, 1, [-1, -1, -1, -1]) for name in ("c", "d", "e", "g")]
        proto.graph.value_info.extend(wanted[1:])
        proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, [-1, -1, -1, -1]))
    proto.graph.input[0].CopyFrom(wanted[0])
    (block,) = find(ir.from_proto(proto)).blocks
    assert block.shape == dims


def test_a_constant_n_is_no_block_where_a_size_is_below_0() -> None:
    proto = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 18]> net (float[1, 3, 5, 7] x) => (float y)
        <int64[2] hw = {{2, 3}}, float n = {{34}}, float lam = {{0.1}}, float four = {{4}}, float half = {{0.5}}>
        {{ {CHAIN} }}"""
    )
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    assert len(find(ir.from_proto(proto)).blocks) == 1
    proto.graph.input[0].type.tensor_type.shape.dim[3].dim_value = -1
    found = find(ir.from_proto(proto))
    assert not found.blocks
    assert "M - 1 is a constant" in str(found.near_misses[0])


def test_a_size_below_0_takes_any_input(tmp_path: Path) -> None:
    path = save(simam("1, 3, 5, 7"), tmp_path / "m.onnx")
    proto = onnx.load(path)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = value.type.tensor_type.shape.dim[2].dim_value = -1
    onnx.save(proto, path)
    fuse_file(path, tmp_path / "fused.onnx")
    with open_session(tmp_path / "fused.onnx", "ort") as session:
        assert [spec.shape for spec in (*session.inputs, *session.outputs)] == [(None, 3, None, 7)] * 2
        assert session.run({"x": np.ones((2, 3, 4, 7), np.float32)})["y"].shape == (2, 3, 4, 7)


# what stands behind, where the sizes are not fixed


HEADS = {
    "anchors of one size": "f = Flatten (p)  o = Add (f, anchors)",
    "anchors, of a grid": "o = Add (y, grid)",
    "padding by a remainder": """l = Shape <start: int = 3> (y)  k = Mod (l, seven)
        a = Concat <axis: int = 0> (six, k)  o = Pad (y, six, half)  b = Concat <axis: int = 1> (o, grid)""",
    "a fixed view": "o = Reshape (y, fixed)",
    "windows": """l = Shape (y)  i = Gather (l, three)  h = Div (i, seven)  k = Concat <axis: int = 0> (four_sizes, h)
        o = Reshape (y, k)  b = Add (o, grid)""",
}
ON_SHAPE = """size = Shape <start: int = 2> (image)
    half_size = Div (size, two)
    m = ReduceProd <keepdims: int = 0> (half_size)
    less = Sub (m, one)
    n = Cast <to: int = 1> (less)
    x = MaxPool <kernel_shape: ints = [2, 2], strides: ints = [2, 2]> (image)
"""
"""M taken from the shape of the input, as it is where a network passes sizes on."""


@pytest.mark.parametrize("head", HEADS)
def test_a_head_that_fits_one_size(head: str, tmp_path: Path) -> None:
    """Its block is found at all sizes for which x can be inferred: those of the image are not fixed."""
    proto = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 18]> net (float[n, 3, h, w] image) => (float y, float o)
        <int64[2] hw = {{2, 3}}, float lam = {{0.1}}, float four = {{4}}, float half = {{0.5}}, int64 one = {{1}},
         int64 two = {{2}}, int64[1] three = {{3}}, int64[1] seven = {{7}}, int64[6] six = {{0, 0, 0, 0, 0, 0}},
         int64[3] four_sizes = {{1, 3, -1}}, int64[3] fixed = {{1, 3, 400}},
         float[1, 399] anchors = {{{", ".join(["1"] * 399)}}}, float[1, 3, 19, 7] grid = {{{", ".join(["1"] * 399)}}}>
        {{ {ON_SHAPE} {CHAIN} p = Relu (y) {HEADS[head]} }}"""
    )
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    (block,) = find(ir.from_proto(proto)).blocks
    assert [block.y.name, block.shape[:2]] == ["y", ("n", 3)]
    assert not any(isinstance(d, int) for d in block.shape[2:])
