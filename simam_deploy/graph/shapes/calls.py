"""The body of a model-local function as a model of its own, for the inputs and attributes of one call."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from simam_deploy.graph.shapes.types import Identifier
from simam_deploy.graph.traverse import inside, nodes

Functions = Mapping[Identifier, onnx.FunctionProto]
Scope = Mapping[str, onnx.TypeProto | onnx.TensorProto]
"""Types of values by name, or the values themselves if constant."""


def identifier(part: onnx.FunctionProto | onnx.NodeProto) -> Identifier:
    """Domain, name and overload of a function, or of the function that a node may call."""
    return part.domain, part.name if isinstance(part, onnx.FunctionProto) else part.op_type, part.overload


def functions_of(model: onnx.ModelProto) -> Functions:
    """The functions of a model, by identifier."""
    return {identifier(function): function for function in model.functions}


def _called(function: onnx.FunctionProto, functions: Functions) -> list[onnx.FunctionProto]:
    """The functions that `function` calls, directly or through others."""
    found: dict[Identifier, onnx.FunctionProto] = {}
    queue = [function]
    while queue:
        for node in nodes(onnx.ModelProto(functions=[queue.pop()])):
            key = identifier(node)
            if key in functions and key not in found:
                found[key] = functions[key]
                queue.append(functions[key])
    return list(found.values())


def body_of(functions: Functions, call: onnx.NodeProto, scope: Scope) -> onnx.ModelProto:
    """The body of the called function as a model of its own, for this call.

    scope : the type of each input of the call, or its value if constant.
    """
    function = functions[identifier(call)]
    body = onnx.ModelProto(ir_version=onnx.IR_VERSION, opset_import=function.opset_import)
    body.graph.node.extend(function.node)
    for name, given in zip(function.input, call.input, strict=False):
        held = scope.get(given)
        if isinstance(held, onnx.TensorProto):
            body.graph.initializer.add().CopyFrom(held)
            body.graph.initializer[-1].name = name
        else:
            body.graph.input.add(name=name, type=held)
    body.functions.extend(_called(function, functions))
    body.graph.output.extend(onnx.ValueInfoProto(name=name) for name in function.output)
    given = {a.name: a for a in (*function.attribute_proto, *call.attribute)}
    for part in inside(body.graph):
        for node in part.node:
            for at in reversed(range(len(node.attribute))):
                attribute = node.attribute[at]
                if (wanted := attribute.ref_attr_name) in given:
                    name = attribute.name
                    attribute.CopyFrom(given[wanted])
                    attribute.name = name
                elif wanted:
                    del node.attribute[at]
    return body
