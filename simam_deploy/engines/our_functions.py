"""Fallback definitions of our operators, settled before a parser reads them: in place of their calls, or left out.

The parsers of TensorRT read model-local functions less well than nodes. They warn of every node in a definition that
two blocks share, as its name occurs twice. That of 10.1, by its source, takes a tensor of the graph for the input of
a function if both have one name. Some prefer a definition to a plugin.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import helper

from simam_deploy.formula import OP_DOMAIN, OPS, PLUGIN
from simam_deploy.graph import traverse

Bodies = dict[str, onnx.FunctionProto]


def settle(model: onnx.ModelProto, *, plugin: bool) -> list[str]:
    """Take the fallback definitions out of `model`, which changes. Returns the names of the calls that they replaced.

    plugin : whether plugins compute the nodes. If not, the nodes of the definition take the place of each call, named
    `call/name`. A definition in another opset than its caller's stays.
    """
    traverse.say_defaults(model)
    opset = _opset(model)
    bodies = {f.name: f for f in model.functions if f.domain == OP_DOMAIN and f.name in OPS and _opset(f) == opset}
    others = [f for f in model.functions if (f.domain, f.name) not in {(OP_DOMAIN, name) for name in bodies}]
    settled: list[str] = []
    if plugin:
        for node in traverse.nodes(model):
            _name_plugin(node)
    else:
        for scope in (*traverse.graphs(model), *(f for f in others if _opset(f) == opset)):
            settled += _settle(scope, bodies)
        called = {node.op_type for node in traverse.nodes(model) if _body(node, bodies)}
        others += [bodies[name] for name in sorted(called)]
    del model.functions[:]
    model.functions.extend(others)
    return settled


def _name_plugin(node: onnx.NodeProto) -> None:
    """Write the attributes of formula.PLUGIN, if `node` is ours and lacks them."""
    given = {attribute.name for attribute in node.attribute}
    if node.domain == OP_DOMAIN and node.op_type in OPS:
        node.attribute.extend(helper.make_attribute(*pair) for pair in PLUGIN.items() if pair[0] not in given)


def _settle(scope: onnx.GraphProto | onnx.FunctionProto, bodies: Bodies) -> list[str]:
    calls = [node for node in scope.node if _body(node, bodies)]
    if not calls:
        return []
    taken = {name for node in scope.node for name in (node.name, *node.output)}
    nodes: list[onnx.NodeProto] = []
    for node in scope.node:
        body = _body(node, bodies)
        nodes += [node] if body is None else _in_place(node, body, taken)
    del scope.node[:]
    scope.node.extend(nodes)
    return [_name(call) for call in calls]


def _opset(scope: onnx.ModelProto | onnx.FunctionProto) -> int:
    return next((entry.version for entry in scope.opset_import if entry.domain in ("", "ai.onnx")), 0)


def _body(node: onnx.NodeProto, bodies: Bodies) -> onnx.FunctionProto | None:
    return bodies.get(node.op_type) if node.domain == OP_DOMAIN else None


def _name(node: onnx.NodeProto) -> str:
    return node.name or node.output[0]


def _in_place(call: onnx.NodeProto, body: onnx.FunctionProto, taken: set[str]) -> Iterator[onnx.NodeProto]:
    """The nodes of `body` with the values and the attributes of `call`."""
    attributes = {attribute.name: attribute for attribute in call.attribute}
    outer = {"": "", **dict.fromkeys(body.input, "")}
    for formal, given in ((body.input, call.input), (body.output, call.output)):
        outer |= zip(formal, given, strict=False)
    prefix = _name(call)
    inner = {name for node in body.node for name in (_name(node), *node.output)}
    while any(f"{prefix}/{name}" in taken for name in inner):
        prefix += "_"
    taken |= {f"{prefix}/{name}" for name in inner}  # another call may have the same name
    for node in body.node:
        new = onnx.NodeProto()
        new.CopyFrom(node)
        new.name = f"{prefix}/{_name(node)}"
        new.input[:] = [outer.get(name, f"{prefix}/{name}") for name in node.input]
        new.output[:] = [outer.get(name, f"{prefix}/{name}") for name in node.output]
        del new.attribute[:]
        for attribute in node.attribute:
            held = attributes.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute
            if held is not None:
                new.attribute.add().CopyFrom(held)
                new.attribute[-1].name = attribute.name
        yield new
