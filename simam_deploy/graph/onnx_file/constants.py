"""Constants of a model: initialisers, and tensors in node attributes and in function defaults."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from copy import copy

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

Change = Callable[[ir.TensorProtocol], ir.TensorProtocol]


def tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """Every constant, including subgraphs and functions."""
    for value in _initializers(model):
        if value.const_value is not None:
            yield value.const_value
    for _, attribute in _attributes(model):
        yield from _held(attribute)


def replace(model: ir.Model, change: Change) -> None:
    """Replace every constant of `model` by `change(tensor)`, in place."""
    for value in _initializers(model):
        if value.const_value is not None:
            value.const_value = change(value.const_value)
    replace_in_attributes(model, change)


def lift(model: ir.Model) -> None:
    """Make every Constant node an initializer, in place.

    The pass names the tensors, which a clone shares with its original: so they are copied before.
    """
    replace_in_attributes(model, _copied)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)


def _copied(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.TensorProtoTensor(ir.to_proto(tensor)) if isinstance(tensor, ir.TensorProtoTensor) else copy(tensor)


def replace_in_attributes(model: ir.Model, change: Change) -> None:
    """Replace the constants in attributes alone."""
    for owner, attribute in list(_attributes(model)):
        old = _held(attribute)
        new = [change(tensor) for tensor in old]
        if any(a is not b for a, b in zip(old, new, strict=True)):
            one = attribute.type is ir.AttributeType.TENSOR
            owner[attribute.name] = ir.Attr(attribute.name, attribute.type, new[0] if one else new)


def _held(attribute: ir.Attr) -> list[ir.TensorProtocol]:
    one = attribute.type is ir.AttributeType.TENSOR
    return [attribute.as_tensor()] if one else list(attribute.as_tensors())


def _initializers(model: ir.Model) -> Iterator[ir.Value]:
    for root in _roots(model):
        for graph in (root, *root.subgraphs()):
            if isinstance(graph, ir.Graph):
                yield from graph.initializers.values()


def _attributes(model: ir.Model) -> Iterator[tuple[MutableMapping[str, ir.Attr], ir.Attr]]:
    """Attributes with tensors, each with the mapping that holds it."""
    owners = [function.attributes for function in model.functions.values()]
    owners += [node.attributes for graph in _roots(model) for node in graph.all_nodes()]
    for owner in owners:
        for attribute in owner.values():
            if attribute.type in (ir.AttributeType.TENSOR, ir.AttributeType.TENSORS) and not attribute.is_ref():
                yield owner, attribute


def _roots(model: ir.Model) -> Iterator[ir.Graph | ir.Function]:
    """The graph, the functions, and graphs that are defaults of functions."""
    yield model.graph
    for function in model.functions.values():
        yield function
        for attribute in function.attributes.values():
            if attribute.type is ir.AttributeType.GRAPH and not attribute.is_ref():
                yield attribute.as_graph()
            elif attribute.type is ir.AttributeType.GRAPHS and not attribute.is_ref():
                yield from attribute.as_graphs()
