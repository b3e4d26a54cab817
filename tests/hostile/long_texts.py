"""Texts of megabytes, in every field that holds a text."""

from collections.abc import Callable
from functools import partial

import onnx
from onnx import helper

from hostile.parts import F, Files, block, network

FILES = Files()
LONG = "n" * (3 * 10**6)


@FILES.add
def long_value_names() -> onnx.ModelProto:
    model = block()
    for node in model.graph.node:
        if node.output[0] not in ("out",):
            node.output[0] += LONG if node.output[0] == "e" else ""
        node.input[:] = [i + LONG if i == "e" else i for i in node.input]
    return model


def _names_x(model: onnx.ModelProto) -> None:
    for other in model.graph.node:
        other.input[:] = [i + LONG if i == "x" else i for i in other.input]
        other.output[:] = [o + LONG if o == "x" else o for o in other.output]


def _last(model: onnx.ModelProto) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.output[0] == "y")


def _add_domain(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Relu", ["x"], ["o"], domain=LONG))
    model.opset_import.append(helper.make_opsetid(LONG, 1))


def _write(field: str, *parts: object) -> None:
    for part in parts:
        setattr(part, field, LONG)


TEXTS: dict[str, Callable[[onnx.ModelProto], object]] = {
    "node": lambda m: _write("name", _last(m)),
    "every_node": lambda m: _write("name", *m.graph.node),
    "domain": _add_domain,
    "operator": lambda m: m.graph.node.append(helper.make_node(LONG, ["x"], ["o"])),
    "attribute": lambda m: _last(m).attribute.append(helper.make_attribute(LONG, 1)),
    "string": lambda m: _last(m).attribute.append(helper.make_attribute("s", LONG)),
    "doc": lambda m: _write("doc_string", m, m.graph, _last(m)),
    "metadata": lambda m: m.metadata_props.add(key=LONG, value=LONG),
    "metadata_of_a_node": lambda m: _last(m).metadata_props.add(key=LONG, value=LONG),
    "x": _names_x,
    "dimension": lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_param", LONG),
    "initializer": lambda m: m.graph.initializer.add(name=LONG, data_type=F, dims=[1], float_data=[1]),
    "graph": lambda m: _write("name", m.graph),
    "producer": lambda m: m.MergeFrom(onnx.ModelProto(producer_name=LONG, producer_version=LONG, domain=LONG)),
}


def text(change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    model = block()
    change(model)
    return model


for _name, _change in TEXTS.items():
    FILES.add(partial(text, _change), f"long_{_name}")


@FILES.add
def long_function_names() -> onnx.ModelProto:
    return network(
        [helper.make_node(LONG, ["x"], ["y"], domain="f")],
        [
            helper.make_function(
                "f", LONG, ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], [helper.make_opsetid("", 18)]
            )
        ],
    )


@FILES.add
def long_names_of_many_nodes() -> onnx.ModelProto:
    model = block()
    for i in range(100):
        model.graph.node.append(helper.make_node("Relu", ["x"], [f"{'v' * 30000}{i}"], name="m" * 30000))
    return model
