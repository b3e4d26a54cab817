"""Sizes of values: behind ONNX Runtime's own operators, in sub-graphs, and in functions call by call."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from helpers.onnx_models import chain
from onnx import TensorProto, helper, numpy_helper, parser

from simam_deploy.graph import onnx_file
from simam_deploy.graph.shapes import Shapes
from simam_deploy.match.find import find

LEVELS = {
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
OURS = {
    "none": set(),
    "basic": set(),
    "extended": {"FusedConv", "FusedMatMul", "QuickGelu", "Gelu"},
    "all": {"Conv", "MaxPool", "Upsample", "ReorderInput", "ReorderOutput", "FusedMatMul", "QuickGelu", "Gelu"},
}
"""Operators of ONNX Runtime's own that each level puts in."""


def network(size: str) -> onnx.ModelProto:
    """Convolutions with Relu, SiLU and Gelu, pooling, upsampling, a product of matrices: SimAM at 4x6 and at 8x12."""
    text = f"""<ir_version: 8, opset_import: ["": 18]>
    net (float[{size}] image) => (float[n, 20, h2, w2] out)
    <int64[2] hw = {{2, 3}}, float n_a = {{23}}, float n_b = {{95}}, float lam = {{0.1}}, float four = {{4}},
     float half = {{0.5}}, float[4] twice = {{1, 1, 2, 2}}, float scale = {{0.5}},
     float root = {{1.4142135}}, float one = {{1}}>
    {{
    c1 = Conv <pads: ints = [1, 1, 1, 1], strides: ints = [2, 2]> (image, w1)
    r1 = Relu (c1)
    p1 = MaxPool <kernel_shape: ints = [2, 2], strides: ints = [2, 2]> (r1)
    c2 = Conv <pads: ints = [1, 1, 1, 1]> (p1, w2)
    s2 = Sigmoid (c2)
    a = Mul (c2, s2)
    {chain("a", "b", "a")}
    u = Resize <mode: string = "nearest", coordinate_transformation_mode: string = "asymmetric",
                nearest_mode: string = "floor"> (b, , twice)
    c3 = Conv (u, w3)
    c4 = Div (c3, root)
    c5 = Erf (c4)
    c6 = Add (c5, one)
    c7 = Mul (c3, c6)
    d = Mul (c7, half)
    t = Transpose <perm: ints = [0, 1, 3, 2]> (d)
    mm = MatMul (d, t)
    scaled = Mul (mm, scale)
    f = MatMul (scaled, d)
    {chain("f", "y", "b")}
    out = Relu (y)
    }}"""
    model = parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, shape in (("w1", (16, 3, 3, 3)), ("w2", (20, 16, 3, 3)), ("w3", (20, 20, 1, 1))):
        weights = 0.1 * rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weights, name))
    for at, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{at}"
    return model


def optimised(model: onnx.ModelProto, level: str, path: Path) -> onnx.ModelProto:
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(path)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("size", ["1, 3, 16, 24", "n, 3, 16, 24"])
def test_files_that_onnx_runtime_optimised(level: str, size: str, tmp_path: Path) -> None:
    model = optimised(network(size), level, tmp_path / "o.onnx")
    there = {node.op_type for node in model.graph.node if node.domain}
    assert there >= OURS[level] or level == "all", "else this tests nothing"  # blocks of channels: not on every CPU
    found = find(onnx_file.load(tmp_path / "o.onnx"))
    assert [(b.shape[1:], b.e_lambda) for b in found.blocks] == [((20, 4, 6), 0.1), ((20, 8, 12), 0.1)]


@pytest.mark.parametrize("level", ["extended", "all"])
def test_the_sizes_are_those_of_a_run(level: str, tmp_path: Path) -> None:
    """Each stand-in has the shape that ONNX Runtime's operator gives."""
    model = optimised(network("1, 3, 16, 24"), level, tmp_path / "o.onnx")
    del model.graph.value_info[:]
    shapes = Shapes(ir.from_proto(model))
    (trial,) = shapes.trials
    assert set(trial) >= {output for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name != "out")
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS["none"]
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    run = session.run(None, {"image": np.zeros((1, 3, 16, 24), np.float32)})
    padded = {node.output[0] for node in model.graph.node if node.op_type == "ReorderInput"}
    for output, value in zip(session.get_outputs(), run, strict=True):
        if output.name in padded:  # the one difference: C is rounded up there, and cut off behind
            assert trial[output.name][2:] == value.shape[2:]
        else:
            assert trial[output.name] == value.shape, output.name


def test_an_operator_that_nobody_knows_stays_unknown() -> None:
    text = """<ir_version: 8, opset_import: ["": 18, "com.microsoft": 1]>
    net (float[1, 3, 8, 8] x) => (float[] y) { a = com.microsoft.Strange (x)
                                              b = com.microsoft.FusedMatMul <transBatchA: int = 1> (x, x)
                                              y = Add (a, b) }"""
    model = ir.from_proto(parser.parse_model(text))
    assert [Shapes(model).declared(node.outputs[0]) for node in model.graph][:2] == [None, None]


def branches() -> ir.Model:
    """An If whose branches use the same inner name for different shapes."""
    text = """<ir_version: 8, opset_import: ["": 18]>
    net (float[1, 3, 8, 8] x, bool cond) => (float[n, c, h, w] y)
    {
    y = If (cond) <
        then_branch = small () => (float[n, c, h, w] s) { a = MaxPool <kernel_shape: ints = [2, 2]> (x)
                                                         s = Relu (a) },
        else_branch = large () => (float[n, c, h, w] l) { a = Concat <axis: int = 1> (x, x)
                                                         l = Relu (a) } >
    }"""
    return ir.from_proto(parser.parse_model(text))


def test_branches_that_use_one_name_twice() -> None:
    model = branches()
    shapes = Shapes(model)
    found = [shapes.declared(graph[0].outputs[0]) for graph in model.graph.subgraphs()]
    assert sorted(found) == [(1, 3, 7, 7), (1, 6, 8, 8)]
    (trial,) = shapes.trials
    assert "a" not in trial, "it has two shapes"
    assert trial["x"] == (1, 3, 8, 8)


FUNCTIONS = """
    <domain: "f", opset_import: ["": 18, "f": 1]>
    twice <k> (v, to) => (r) { a = Relu (v)
                               b = Reshape (a, to)
                               c = Concat <axis: int = @k> (b, b)
                               r = f.once (c) }
    <domain: "f", opset_import: ["": 18]>
    once (v) => (r) { r = Relu (v) }
    <domain: "f", opset_import: ["": 18]>
    never (v) => (r) { r = Relu (v) }
"""


def test_functions_call_by_call() -> None:
    """From the graph, from a sub-graph, from another function; with attributes and constants of the call."""
    text = f"""<ir_version: 8, opset_import: ["": 18, "f": 1]>
    net (float[1, 3, 8, 8] x, bool cond) => (float[n, c] y)
    <int64[2] flat = {{1, -1}}, int64[2] tall = {{-1, 1}}>
    {{
    p = f.twice <k: int = 0> (x, flat)
    y = If (cond) <
        then_branch = one () => (float[n, c] o) {{ h = Cast <to: int = 10> (x)
                                                  q = f.twice <k: int = 1> (h, tall)
                                                  o = Cast <to: int = 1> (q) }},
        else_branch = two () => (float[n, c] u) {{ q = f.twice <k: int = 0> (x, flat)
                                                  u = Relu (q) }} >
    }}
    {FUNCTIONS}"""
    model = ir.from_proto(parser.parse_model(text))
    shapes = Shapes(model)
    twice, once, never = (model.functions[("f", name, "")] for name in ("twice", "once", "never"))
    assert shapes.inside(never) == []
    f32, f16 = ir.DataType.FLOAT, ir.DataType.FLOAT16
    calls = shapes.inside(twice)
    assert [(call["a"], call["b"], call["c"], call["r"]) for call in calls] == [
        ((f32, (1, 3, 8, 8)), (f32, (1, 192)), (f32, (2, 192)), (f32, (2, 192))),
        ((f16, (1, 3, 8, 8)), (f16, (192, 1)), (f16, (192, 2)), (f16, (192, 2))),
    ]
    assert sorted(call["v"][1] for call in shapes.inside(once)) == [(2, 192), (192, 2)]


def test_weights_are_left_out_of_inference() -> None:
    """They may be most of a file; also those of sub-graphs and constants, and none of them is opened."""
    big = numpy_helper.from_array(np.zeros((1, 3, 64, 64), np.float32), "big")
    inner = helper.make_graph(
        [helper.make_node("Add", ["x", "big"], ["s"])],
        "inner",
        [],
        [helper.make_tensor_value_info("s", TensorProto.FLOAT, None)],
        [big],
    )
    nodes = [
        helper.make_node("Constant", [], ["k"], value=big),
        helper.make_node("If", ["cond"], ["i"], then_branch=inner, else_branch=inner),
        helper.make_node("Mul", ["k", "i"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 1, 1]),
            helper.make_tensor_value_info("cond", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))
    shapes = Shapes(model)
    assert shapes._skeleton.ByteSize() < 1000
    assert [shapes.declared(node.outputs[0]) for node in model.graph] == [(1, 3, 64, 64)] * 3
