"""Texts with what a terminal acts on, in every field that holds a text, one file for each field."""

import json
from collections.abc import Callable
from functools import partial

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hostile.parts import F, Files, block, function, network

FILES = Files()
NASTY = "\x1b]0;owned\x07\x1b[31m\x9b2J\r\x08\x00\x7f\u202e\u2066\u2028\u200f[/red][bold]\nerror: all is well"
"""ESC, C1, carriage return and backspace, marks of direction, brackets of rich, and a line of its own."""


def nodes(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.name = node.op_type + NASTY


def values(model: onnx.ModelProto) -> None:
    graph = model.graph
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [f"{name}{NASTY}" for name in names]
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name += NASTY


def operator(model: onnx.ModelProto) -> None:
    model.graph.node[3].op_type = NASTY


def domain(model: onnx.ModelProto) -> None:
    model.graph.node[3].domain = NASTY


def attribute(model: onnx.ModelProto) -> None:
    model.graph.node[3].attribute.append(helper.make_attribute(NASTY, NASTY))


def missing_value(model: onnx.ModelProto) -> None:
    model.graph.node[3].input[0] = NASTY


def metadata(model: onnx.ModelProto) -> None:
    mark = {"machine": NASTY, "block": NASTY, "onnxruntime": NASTY}
    helper.set_model_props(model, {NASTY: NASTY, "simam_deploy": json.dumps({"specialised": mark})})


def comments(model: onnx.ModelProto) -> None:
    model.producer_name = model.producer_version = model.domain = model.doc_string = NASTY
    model.graph.name = model.graph.doc_string = model.graph.node[3].doc_string = NASTY


def sizes(model: onnx.ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = NASTY


def functions(model: onnx.ModelProto) -> None:
    model.functions.append(function(NASTY, ["Relu", NASTY]))


def functions_of_each_other(model: onnx.ModelProto) -> None:
    model.functions.extend([function(NASTY, [f"{NASTY}2"]), function(f"{NASTY}2", [NASTY])])


def weights(model: onnx.ModelProto) -> None:
    model.graph.initializer.add(name=NASTY, data_type=F, dims=[7], float_data=[1])


def location(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer.add(name=NASTY, data_type=F, dims=[7], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=NASTY.replace("\0", "").replace("/", ""))


def near_miss(model: onnx.ModelProto) -> None:
    (n,) = (weight for weight in model.graph.initializer if weight.name == "n")
    n.CopyFrom(numpy_helper.from_array(np.float32(35), "n"))
    nodes(model)


CHANGES: tuple[Callable[[onnx.ModelProto], None], ...] = (
    *(nodes, values, operator, domain, attribute, missing_value, metadata, comments, sizes, functions),
    *(functions_of_each_other, weights, location, near_miss),
)


def _changed(change: Callable[[onnx.ModelProto], None]) -> onnx.ModelProto:
    model = block()
    change(model)
    return model


for _change in CHANGES:
    FILES.add(partial(_changed, _change), f"text_in_{_change.__name__}")


@FILES.add
def text_in_an_unknown_operator() -> onnx.ModelProto:
    return network([helper.make_node(NASTY, ["x"], ["y"], name=NASTY, domain=NASTY)])
