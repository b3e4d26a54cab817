"""Names: none, the same twice, too long."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from hostile.parts import Files, block, network, row

FILES = Files()


@FILES.add
def the_same_name_twice() -> onnx.ModelProto:
    return network([helper.make_node("Relu", ["x"], ["y"], name="n")] * 2)


@FILES.add
def an_initialiser_that_a_node_makes() -> onnx.ModelProto:
    model = network(row(["Relu"]))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "y"))
    return model


@FILES.add
def no_names() -> onnx.ModelProto:
    model = block()
    for node in model.graph.node:
        node.name = ""
    model.graph.name = ""
    model.graph.node.add(op_type="Relu", input=["x"], output=[""])
    model.graph.node.add(op_type="", input=[], output=[])
    model.graph.node.add()
    return model


@FILES.add
def empty_value_names() -> onnx.ModelProto:
    model = block()
    model.graph.input.add()
    model.graph.initializer.add()
    model.graph.output.add()
    return model


@FILES.add
def a_long_name() -> onnx.ModelProto:
    model = block()
    for node in model.graph.node:
        node.name = "a/" * 10**6
    return model


@FILES.add
def names_with_control_characters() -> onnx.ModelProto:
    model = block()
    for i, node in enumerate(model.graph.node):
        node.name = f"\x1b[31m[bold]\x00{i}\n\u202e"
    return model
