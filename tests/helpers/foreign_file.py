"""A foreign ONNX file with a bit of everything in it, of which a test changes one thing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

WEIGHTS = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
Change = Callable[[onnx.ModelProto], None]


def network() -> onnx.ModelProto:
    """Convolution, a sub-graph with a weight of its own, a Constant, a function, and every kind of comment."""
    inner = helper.make_graph(
        [helper.make_node("Mul", ["y", "half"], ["halved"], name="inside/Mul")],
        "then",
        [],
        [helper.make_tensor_value_info("halved", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.float32(0.5).reshape(1), "half")],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["y"], ["same"])],
        "else",
        [],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", doc_string="a convolution", pads=[1, 1, 1, 1]),
        helper.make_node("Twice", ["c"], ["y"], name="twice", domain="ours"),
        helper.make_node("Constant", [], ["yes"], name="yes", value=numpy_helper.from_array(np.array(True))),
        helper.make_node("If", ["yes"], ["z"], name="if", then_branch=inner, else_branch=other),
    ]
    twice = helper.make_function(
        "ours", "Twice", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])], [helper.make_opsetid("", 18)]
    )
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, None, 8])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 4, None, 8])],
        [numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(np.arange(4, dtype=np.float32), "b")],
        doc_string="a graph",
        value_info=[helper.make_tensor_value_info("c", TensorProto.FLOAT, ["batch", 4, None, 8])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ours", 3)]
    model = helper.make_model(graph, functions=[twice], opset_imports=opsets, ir_version=9, producer_name="somebody")
    model.doc_string, model.model_version = "a model", 7
    helper.set_model_props(model, {"author": "us", "λ": "0,1"})
    return model


def write(path: Path, change: Change | None = None) -> Path:
    model = network()
    if change is not None:
        change(model)
    path.write_bytes(model.SerializeToString())
    return path


def outside(model: onnx.ModelProto, location: str = "w.bin", offset: int | None = 0, length: int | None = -1) -> None:
    """Point weight w to a file. length : its true length for -1."""
    tensor = model.graph.initializer[0]
    set_external_data(tensor, location, offset=offset, length=WEIGHTS.nbytes if length == -1 else length)
    tensor.ClearField("raw_data")
