"""Our operators on 8-bit integers: what they stand for, and what a search finds."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.on_integers import E_LAMBDA, exact, model_of, numbers
from onnx.reference import ReferenceEvaluator

from simam_deploy.compare.matrix import expose
from simam_deploy.formula import OPS
from simam_deploy.match.find import find
from simam_deploy.match.int8_nodes import differs, names, opened
from simam_deploy.rewrite.fuse import fuse


def ops(model: ir.Model) -> list[str]:
    return [f"{node.domain}.{node.op_type}".removeprefix(".") for node in model.graph]


def test_inputs() -> None:
    assert names("SimAM") == ["x", "x_scale", "x_zero_point", "y_scale", "y_zero_point"]
    assert names("SimAMAffineAddRelu") == [
        *("x", "x_scale", "x_zero_point", "scale", "bias"),
        *("residual", "residual_scale", "residual_zero_point", "y_scale", "y_zero_point"),
    ]


@pytest.mark.parametrize("name", OPS)
def test_definition_and_opened_model_compute_the_formula(name: str) -> None:
    proto = model_of(name)
    onnx.checker.check_model(proto, full_check=True)
    model = opened(ir.from_proto(proto))
    assert not any(node.domain == "simam.int8" for node in model.graph)
    feed = {value.name: numbers(np.uint8)[value.name] for value in proto.graph.input}
    for way in (proto, ir.to_proto(model)):
        (y,) = ReferenceEvaluator(way).run(None, feed)
        assert np.abs(y - np.clip(exact(name, np.uint8), 0, 255)).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("name", OPS)
def test_find_sees_the_block(name: str) -> None:
    found = find(ir.from_proto(model_of(name)))
    (block,) = found.blocks
    assert (block.node, block.op, block.shape) == ("block", name, (2, 6, 5, 7))
    assert (block.e_lambda, block.form, block.dtype) == (E_LAMBDA, "function", ir.DataType.FLOAT)
    assert found.near_misses == ()


def test_fuse_writes_the_float_node_between_its_roundings() -> None:
    model = ir.from_proto(model_of("SimAMAffineRelu"))
    before = ir.to_proto(model).SerializeToString()
    made = fuse(model, "function", epilogue=True)
    assert [op for op in ops(made.model) if op != "Constant"] == [
        *("Transpose", "DequantizeLinear", "simam.SimAMAffineRelu", "QuantizeLinear", "Transpose"),
    ]
    assert "nodes on 8-bit integers are float nodes between their roundings again" in made.notes
    assert {function.domain for function in made.model.functions.values()} == {"simam"}
    assert "simam.int8" not in made.model.opset_imports
    assert ir.to_proto(model).SerializeToString() == before


def test_gates_are_exposed() -> None:
    model, taps, left = expose(ir.from_proto(model_of("SimAM")))
    assert [(tap.block, left) for tap in taps] == [("block", [])]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_a_model_without_such_nodes_is_itself() -> None:
    model = opened(ir.from_proto(model_of("SimAM")))
    assert opened(model) is model


@pytest.mark.parametrize("part", ["node", "perm", "default", "input"])
def test_another_definition_is_not_opened(part: str) -> None:
    proto = model_of("SimAMAffineAdd")
    (function,) = [f for f in proto.functions if f.domain == "simam.int8"]
    assert not differs(function)
    if part == "node":
        function.node[0].op_type = "Identity"
    elif part == "perm":
        function.node[0].attribute[0].ints[:] = [0, 3, 2, 1]
    elif part == "default":
        function.attribute_proto[0].f = 0.5
    else:
        function.input[0], function.input[3] = function.input[3], function.input[0]
    assert differs(function)
    model = ir.from_proto(proto)
    assert opened(model) is model


def test_nodes_that_are_no_calls_of_it_stay() -> None:
    proto = model_of("SimAMAffine")
    (node,) = proto.graph.node
    held = [*node.input]
    for inputs in (held[:-1], [*held, held[-1]], [*held[:2], "", *held[3:]]):
        node.input[:] = inputs
        model = ir.from_proto(proto)
        assert opened(model) is model
        assert find(model).blocks == ()


def test_a_call_in_a_function_keeps_its_definition() -> None:
    proto = model_of("SimAM")
    inner = onnx.NodeProto()
    inner.CopyFrom(proto.graph.node[0])
    theirs = onnx.helper.make_function("acme", "Block", [*inner.input], [*inner.output], [inner], proto.opset_import)
    proto.functions.append(theirs)
    proto.opset_import.append(onnx.helper.make_opsetid("acme", 1))
    given = [*proto.graph.node[0].input]
    proto.graph.node.append(onnx.helper.make_node("Block", ["y", *given[1:]], ["z"], domain="acme"))
    proto.graph.output[0].name = "z"
    model = opened(ir.from_proto(proto))
    assert ("simam.int8", "SimAM", "") in model.functions
    onnx.checker.check_model(ir.to_proto(model))
