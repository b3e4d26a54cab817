"""Everything in an ONNX model, also what is inside nodes and functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx


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
    """Every node: of the graph, of graphs inside nodes, of functions."""
    yield from _nodes(model.graph.node)
    for function in model.functions:
        yield from _nodes(function.node)


def _nodes(sequence: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in sequence:
        yield node
        for attribute in node.attribute:
            for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _nodes(graph.node)


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every constant: initializers and tensors in attributes, sparse ones as their values and indices."""
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
