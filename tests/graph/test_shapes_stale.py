"""Shapes that a file declares for inner values, and that its inputs contradict, are not believed."""

import onnx
import onnx_ir as ir
import pytest
from helpers.onnx_models import model as simam
from onnx import helper

from simam_deploy.graph.shapes import Shapes
from simam_deploy.match.find import find

OF_INPUTS = {
    "fixed": "2, 3, 16, 16",
    "batch": "n, 3, 16, 16",
    "dynamic": "2, 3, h, w",
    "dynamic in all": "n, c, h, w",
    "one axis": "2, 3, 8, w",
}
BEFORE = {
    "an activation": "x = Relu (image)",
    "a stride": "x = MaxPool <kernel_shape: ints = [2, 2], strides: ints = [2, 2]> (image)",
    "two nodes": "w1 = Relu (image)\n   x = Neg (w1)",
    "sizes that are computed": "sh = Shape (image)\n   x = Reshape (image, sh)",
}


def declaring(model: ir.Model, **shapes: tuple[int | str, ...]) -> ir.Model:
    """The model with these shapes for inner values and outputs."""
    proto = ir.to_proto(model)
    for name, shape in shapes.items():
        found = [value for value in proto.graph.output if value.name == name]
        for value in found or [proto.graph.value_info.add()]:
            value.CopyFrom(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    return ir.from_proto(proto)


def stale(sizes: str, before: str, size: int = 8) -> ir.Model:
    """A block with M - 1 = size * size - 1, right for the shape that is declared alone."""
    model = simam(shape=sizes, before=before, n=size * size - 1)
    names = ("w1", "x", "c", "d", "z", "g", "y", "out")
    return declaring(model, **dict.fromkeys(names, (2, 3, size, size)))


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("sizes", OF_INPUTS.values(), ids=OF_INPUTS)
def test_a_count_that_is_right_for_the_declared_shape_alone(sizes: str, before: str) -> None:
    given = stale(sizes, before, size=6)
    found = find(given)
    assert not found.blocks
    assert "M - 1 is a constant, right only where the map has H*W = 36" in str(found.near_misses[0])


def test_an_output_with_a_stale_shape() -> None:
    model = simam(shape="2, 3, 16, 16", outputs="x", n=63)
    assert not find(declaring(model, x=(2, 3, 8, 8), out=(2, 3, 8, 8))).blocks


def test_a_stale_shape_in_a_branch() -> None:
    inner = ir.to_proto(simam(n=63))
    shapes = [helper.make_tensor_value_info(name, 1, (2, 3, 8, 8)) for name in ("x", "y")]
    chain = list(inner.graph.node)
    body = helper.make_graph(chain, "body", [], [inner.graph.output[0]], value_info=shapes)
    del body.output[0].type.tensor_type.shape.dim[:]
    neg = helper.make_node("Neg", ["image"], ["n_out"])
    other = helper.make_graph([neg], "other", [], [helper.make_tensor_value_info("n_out", 1, None)])
    image, flag = helper.make_tensor_value_info("image", 1, (2, 3, 16, 16)), helper.make_tensor_value_info("f", 9, [])
    graph = helper.make_graph(
        [helper.make_node("If", ["f"], ["res"], then_branch=body, else_branch=other)],
        "net",
        [image, flag],
        [helper.make_tensor_value_info("res", 1, None)],
        list(inner.graph.initializer),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    assert not find(ir.from_proto(model)).blocks


def test_a_shape_that_is_right_for_the_input_is_one_still() -> None:
    model = declaring(simam(shape="2, 3, 16, 16", n=255), x=(2, 3, 16, 16), y=(2, 3, 16, 16))
    assert [block.shape for block in find(model).blocks] == [(2, 3, 16, 16)]


@pytest.mark.parametrize("behind", [False, True], ids=["x", "in front of x"])
def test_the_file_is_believed_where_inference_knows_nothing(behind: bool) -> None:
    """And what follows from it is inferred: a stale shape behind it is none."""
    proto = ir.to_proto(simam(shape="2, 3, 16, 16"))
    proto.opset_import.append(helper.make_opsetid("of.others", 1))
    first = proto.graph.node[0]
    first.domain, first.op_type = "of.others", "Thing"
    if behind:
        first.output[0] = "w1"
        proto.graph.node.insert(1, helper.make_node("Relu", ["w1"], ["x"]))
    shapes = {"w1": (2, 3, 5, 7), "x": (9, 9, 9, 9)} if behind else {"x": (2, 3, 5, 7)}
    model = declaring(ir.from_proto(proto), **shapes)
    x = next(node for node in model.graph if node.op_type == "ReduceMean").inputs[0]
    assert x is not None
    assert Shapes(model).declared(x) == (2, 3, 5, 7)
    assert [block.shape for block in find(model).blocks] == [(2, 3, 5, 7)]
