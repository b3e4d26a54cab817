"""Circles, functions that never end, and what is nested too deeply."""

from functools import partial

import onnx
import onnx_ir as ir
from helpers.onnx_models import model as simam
from onnx import helper

from hostile.parts import Files, block, function, network, row
from simam_deploy.graph.onnx_file.stream import _front

FILES = Files()


@FILES.add
def circle() -> onnx.ModelProto:
    return network([helper.make_node("Add", ["x", "y"], ["a"]), helper.make_node("Relu", ["a"], ["y"])])


@FILES.add
def own_output() -> onnx.ModelProto:
    return network([helper.make_node("Mul", ["x", "y"], ["y"])])


@FILES.add
def circle_in_the_block() -> onnx.ModelProto:
    model = block()
    model.graph.node[1].input[0] = "z"
    return model


@FILES.add
def function_that_calls_itself() -> onnx.ModelProto:
    return network(row(["a"], "f"), [function("a", ["a"])])


@FILES.add
def functions_that_call_each_other() -> onnx.ModelProto:
    return network(row(["a"], "f"), [function("a", ["b"]), function("b", ["a"])])


@FILES.add
def billion_laughs() -> onnx.ModelProto:
    functions = [function(f"a{i}", [f"a{i + 1}"] * 2) for i in range(40)]
    return network(row(["a0"], "f"), [*functions, function("a40", ["Relu"])])


@FILES.add
def laughs_just_allowed() -> onnx.ModelProto:
    functions = [function(f"a{i}", [f"a{i + 1}"] * 2) for i in range(14)]
    return network(row(["a0"], "f"), [*functions, function("a14", ["Relu"])])


@FILES.add
def laughs_around_a_block() -> onnx.ModelProto:
    """So that shapes inside functions are asked for."""
    chain = ir.to_proto(simam(before="x = Identity (image)", after="out = Identity (y)"))
    body = [node for node in chain.graph.node if node.op_type != "Identity"]
    held = [helper.make_node("Constant", [], [t.name], value=t) for t in chain.graph.initializer]
    innermost = helper.make_function("f", "a13", ["x"], ["y"], [*held, *body], [helper.make_opsetid("", 18)])
    functions = [function(f"a{i}", [f"a{i + 1}"] * 2) for i in range(13)]
    return network(row(["a0"], "f"), [*functions, innermost])


@FILES.add
def functions_nested_deeply() -> onnx.ModelProto:
    functions = [function(f"a{i}", [f"a{i + 1}"]) for i in range(3000)]
    return network(row(["a0"], "f"), [*functions, function("a3000", ["Relu"])])


@FILES.add
def thousands_of_functions() -> onnx.ModelProto:
    names = [f"a{i}" for i in range(3000)]
    return network(row(names, "f"), [function(name, ["Relu"]) for name in names])


@FILES.add
def a_function_twice() -> onnx.ModelProto:
    return network(row(["a"], "f"), [function("a", ["Relu"]), function("a", ["Relu", "Relu"])])


def nested_ifs(levels: int) -> bytes:
    """Written field by field: protobuf itself would not. What stands before each level is listed from inside out."""
    innermost = network(row(["Relu"])).graph.node[0].SerializeToString()
    behind = _front(2, 1) + b"g" + _front(12, 3) + b"\n\x01y"
    kind = b"\xa0\x01\x05"
    before, size = [], len(innermost)
    for _ in range(levels):
        graph = _front(1, size)
        graph_size = len(graph) + size + len(behind)
        attribute = _front(1, 11) + b"then_branch" + _front(6, graph_size) + graph
        attribute_size = len(attribute) - len(graph) + graph_size + len(kind)
        node = _front(1, 4) + b"cond" + _front(2, 1) + b"y" + _front(4, 2) + b"If"
        before.append(node + _front(5, attribute_size) + attribute)
        size = len(before[-1]) - len(attribute) + attribute_size
    leaf = b"".join(reversed(before)) + innermost + (behind + kind) * levels
    model = network([])
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    graph += _front(1, len(leaf)) + leaf
    return model.SerializeToString() + _front(7, len(graph)) + graph


for _levels in (10, 30, 100, 1000, 20000):
    FILES[f"if_{_levels}_deep"] = partial(nested_ifs, _levels)
