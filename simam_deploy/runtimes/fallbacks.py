"""Check that the fallback definition of an operator in a file computes what the kernel computes.

A runtime chooses a kernel by the name of a node alone, whatever the function in the file does and whatever its
defaults are. So the function is compared with the operator before a kernel replaces it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache

import onnx
import onnx_ir as ir
from onnx import TensorProto, helper

from simam_deploy.formula import DEFAULT_LAMBDA, INT8_DOMAIN, OP_DOMAIN, OPS
from simam_deploy.graph.traverse import nodes
from simam_deploy.match import int8_nodes
from simam_deploy.match.find import find
from simam_deploy.text import on_one_line

CLOSE = 1e-6
"""Relative tolerance of λ."""
MOST_CALLS = 64
"""Upper bound on calls with different attributes in one file. Each takes some 30 ms."""
SHAPE = (2, 3, 7, 11)
"""Shape of x in the comparison."""
TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
"""Types of x. The definition may be for one of them only."""

Attributes = dict[str, onnx.AttributeProto]


def difference(model: onnx.ModelProto) -> str:
    """Reason why a kernel would compute other numbers than a fallback definition in the file, or "".

    model : as in the file, without default attributes written into the calls.
    """
    bodies = {(f.domain, f.name, f.overload): f for f in model.functions}
    if not any(domain in (OP_DOMAIN, INT8_DOMAIN) and name in OPS for domain, name, _ in bodies):
        return ""
    for function in model.functions:
        if function.domain == INT8_DOMAIN and function.name in OPS and int8_nodes.differs(function):
            return f"the fallback definition of {INT8_DOMAIN}::{function.name} is not that of this package"
    compared: set[bytes] = set()
    for call in _calls(model.graph.node, bodies, {}):
        alone = onnx.NodeProto()
        alone.CopyFrom(call)
        del alone.input[:], alone.output[:]
        alone.ClearField("name")
        alone.ClearField("doc_string")
        key = alone.SerializeToString(deterministic=True)
        if key in compared:
            continue
        compared.add(key)
        if len(compared) > MOST_CALLS:
            return f"nodes of {OP_DOMAIN} have more than {MOST_CALLS} different sets of attributes"
        parts = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
        parts.functions.extend(_needed(bodies, (call.domain, call.op_type, call.overload)))
        if differs := _difference(key, parts.SerializeToString(deterministic=True)):
            return f"the fallback definition of {OP_DOMAIN}::{call.op_type} at {_name(call)} {differs}"
    return ""


def _calls(
    sequence: Iterable[onnx.NodeProto],
    bodies: dict[tuple[str, str, str], onnx.FunctionProto],
    given: Attributes,
    seen: set[object] | None = None,
) -> Iterator[onnx.NodeProto]:
    """Calls of our operators that have a fallback definition, with resolved attributes.

    given : attributes of the enclosing function.
    """
    seen = set() if seen is None else seen
    for node in sequence:
        identifier = (node.domain, node.op_type, node.overload)
        body = bodies.get(identifier)
        for attribute in node.attribute:
            for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _calls(graph.node, bodies, given, seen)
        if body is None:
            continue
        attributes = dict(_resolved(node.attribute, given))
        if node.domain == OP_DOMAIN and node.op_type in OPS:
            call = onnx.NodeProto()
            call.CopyFrom(node)
            del call.attribute[:]
            call.attribute.extend(attributes[name] for name in sorted(attributes))
            yield call
            continue
        attributes = {**{a.name: a for a in body.attribute_proto}, **attributes}
        key = (identifier, *(attributes[name].SerializeToString(deterministic=True) for name in sorted(attributes)))
        if key not in seen:
            seen.add(key)
            yield from _calls(body.node, bodies, attributes, seen)


def _resolved(
    attributes: Iterable[onnx.AttributeProto], given: Attributes
) -> Iterator[tuple[str, onnx.AttributeProto]]:
    for attribute in attributes:
        if not attribute.ref_attr_name:
            yield attribute.name, attribute
        elif attribute.ref_attr_name in given:
            copy = onnx.AttributeProto()
            copy.CopyFrom(given[attribute.ref_attr_name])
            copy.name = attribute.name
            yield attribute.name, copy


def _needed(
    bodies: dict[tuple[str, str, str], onnx.FunctionProto], identifier: tuple[str, str, str]
) -> list[onnx.FunctionProto]:
    """The function and all that it calls."""
    found: dict[tuple[str, str, str], onnx.FunctionProto] = {}
    queue = [identifier]
    while queue:
        if (identifier := queue.pop()) in bodies and identifier not in found:
            found[identifier] = bodies[identifier]
            held = onnx.ModelProto(functions=[bodies[identifier]])
            queue += [(node.domain, node.op_type, node.overload) for node in nodes(held)]
    return [found[identifier] for identifier in sorted(found)]


@lru_cache(maxsize=256)
def _difference(call: bytes, functions: bytes) -> str:
    """Difference between the definition of one call and the operator, or "".

    call : a node without inputs and outputs.  functions : a model without a graph.
    """
    node = onnx.NodeProto.FromString(call)
    said = next((a.f for a in node.attribute if a.name == "e_lambda" and a.type == onnx.AttributeProto.FLOAT), None)
    taken = DEFAULT_LAMBDA if said is None else said
    why = ""
    for dtype in TYPES:
        try:
            found = find(ir.from_proto(_model(node, functions, dtype)))
        except Exception as error:  # an invalid definition raises many types
            return f"cannot be compared with the kernel: {on_one_line(str(error))}"
        if found.blocks:
            got = found.blocks[0].e_lambda
            if math.isclose(got, taken, rel_tol=CLOSE):
                return ""
            default = ", its default where the node has no e_lambda" if said is None else ""
            return (
                f"takes λ = {got:g}, and the kernel takes λ = {taken:g}{default}; "
                "make the file anew with: simam-deploy fuse FILE -o OUT.onnx"
            )
        why = why or next((reason for miss in found.near_misses for reason in miss.reasons), "")
    return f"is not {node.op_type}" + (f": {on_one_line(why)}" if why else "")


def _model(node: onnx.NodeProto, functions: bytes, dtype: int) -> onnx.ModelProto:
    """A model of the call alone, for x of that type."""
    op = OPS[node.op_type]
    parameters = ["scale", "bias"] if op.affine else []
    maps = ["x", *(["residual"] if op.residual else [])]
    model = onnx.ModelProto()
    model.ParseFromString(functions)
    node.input[:] = [maps[0], *parameters, *maps[1:]]
    node.output[:] = ["y"]
    model.graph.CopyFrom(
        helper.make_graph(
            [node],
            "call",
            [helper.make_tensor_value_info(name, dtype, SHAPE) for name in maps],
            [helper.make_tensor_value_info("y", dtype, SHAPE)],
            [helper.make_tensor(name, TensorProto.FLOAT, SHAPE[1:2], [1.5, -2.0, 0.5]) for name in parameters],
        )
    )
    return model


def _name(node: onnx.NodeProto) -> str:
    return repr(on_one_line(node.name or next(iter(node.output), "")))
