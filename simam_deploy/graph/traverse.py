"""Iterators over an ONNX model, including graphs inside nodes and functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

import onnx
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message


def graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The graph and every graph inside a node, also inside functions."""
    yield from inside(model.graph)
    for function in model.functions:
        yield from _graphs(function.node)


def inside(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """`graph` and every graph inside its nodes."""
    yield graph
    yield from _graphs(graph.node)


def _graphs(sequence: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for node in _nodes(sequence):
        for attribute in node.attribute:
            yield from [attribute.g] if attribute.HasField("g") else attribute.graphs


def nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of the graph, of graphs inside nodes, and of functions."""
    yield from _nodes(model.graph.node)
    for function in model.functions:
        yield from _nodes(function.node)


def _nodes(sequence: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in sequence:
        yield node
        for attribute in node.attribute:
            for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _nodes(graph.node)


def say_defaults(model: onnx.ModelProto) -> None:
    """Write the default attributes of functions into each call without them.

    The evaluator and the inliner of onnx 1.23 ignore defaults.
    """
    defaults = {(f.domain, f.name, f.overload): f.attribute_proto for f in model.functions if f.attribute_proto}
    for node in nodes(model) if defaults else ():
        given = {attribute.name for attribute in node.attribute}
        held = defaults.get((node.domain, node.op_type, node.overload), ())
        node.attribute.extend(attribute for attribute in held if attribute.name not in given)


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every constant: initializers and tensors in attributes. A sparse tensor yields its values and its indices."""
    sparse: list[onnx.SparseTensorProto] = []
    for graph in graphs(model):
        yield from graph.initializer
        sparse += graph.sparse_initializer
    attributes = [a for node in nodes(model) for a in node.attribute]
    attributes += [a for function in model.functions for a in function.attribute_proto]
    for attribute in attributes:
        yield from [attribute.t] if attribute.HasField("t") else attribute.tensors
        sparse += [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else attribute.sparse_tensors
    for pair in sparse:
        yield pair.values
        yield pair.indices


def messages(root: Message) -> Iterator[Message]:
    """`root` and every message inside it, in any field."""
    queue = [root]
    while queue:
        message = queue.pop()
        yield message
        for name, repeated in fields(message.DESCRIPTOR)[FieldDescriptor.TYPE_MESSAGE]:
            if repeated:
                queue += getattr(message, name)
            elif message.HasField(name):
                queue.append(getattr(message, name))


@cache
def fields(kind: Descriptor) -> dict[int, list[tuple[str, bool]]]:
    """String and message fields of a message type: name, and whether it is repeated."""
    held: dict[int, list[tuple[str, bool]]] = {FieldDescriptor.TYPE_STRING: [], FieldDescriptor.TYPE_MESSAGE: []}
    for field in kind.fields:
        if field.type in held:
            held[field.type].append((field.name, not field.has_presence))
    return held
