"""Nodes of an onnx_ir graph as an ONNX model in float64, and parts of such a model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from hashlib import sha256

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from simam_deploy.errors import InputError
from simam_deploy.formula import Array
from simam_deploy.graph.shapes.types import Identifier
from simam_deploy.graph.traverse import say_defaults
from simam_deploy.match.dataflow import constant
from simam_deploy.match.op_sets import FLOATS, MEASURES

MOST_CONSTANTS = 2**24
"""Upper bound on a constant, in bytes. A SimAM block has constants of a few numbers."""


def inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Inline the functions of `model` and convert them to its opset.

    Without conversion the inliner leaves a body of another opset, and the evaluator would go by the operator's name.
    Raises InputError if a call is left.
    """
    say_defaults(model)
    inlined = onnx.inliner.inline_local_functions(model, convert_version=True)
    if left := inlined.functions:
        raise InputError(f"the body of {left[0].domain}::{left[0].name} cannot be inlined")
    del inlined.graph.value_info[:]  # what a function declares may be wrong
    return inlined


def kind(model: onnx.ModelProto) -> bytes:
    """Digest of the model without its scalars: models that differ in λ and M alone are of one kind."""
    masked = onnx.ModelProto()
    masked.CopyFrom(model)
    attributes = [a for node in masked.graph.node if node.op_type == "Constant" for a in node.attribute]
    for tensor in (*masked.graph.initializer, *(a.t for a in attributes if a.HasField("t"))):
        if tensor.data_type == TensorProto.DOUBLE and math.prod(tensor.dims) == 1:
            tensor.ClearField("raw_data")
    for attribute in attributes:
        attribute.ClearField("f")
    return sha256(masked.SerializeToString(deterministic=True)).digest()


def placed(model: onnx.ModelProto, size: tuple[int, ...], sizes: Mapping[str, Array]) -> onnx.ModelProto:
    """A copy with x of that size and constants for the sizes measured elsewhere."""
    placed = onnx.ModelProto()
    placed.CopyFrom(model)
    placed.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.DOUBLE, size))
    placed.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in sizes.items())
    return placed


def computing(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The part that computes from sizes of x and constants alone; None if the data does not use it."""
    known = {tensor.name for tensor in model.graph.initializer} | {value.name for value in model.graph.input[1:]}
    nodes = []
    made: set[str] = set()
    used: set[str] = set()
    for node in model.graph.node:
        if (node.op_type in MEASURES and node.input[0] == "x") or all(name in known for name in node.input if name):
            nodes.append(node)
            known |= set(node.output)
            made |= set(node.output)
        else:
            used |= made & set(node.input)
    if not used:
        return None
    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.node[:], part.graph.output[:]
    part.graph.node.extend(nodes)
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(used))
    return part


def renamed(node: ir.Node, names: dict[ir.Value, str]) -> onnx.NodeProto:
    """A copy of `node` with these names for its values, without name and metadata."""
    made = ir.serde.serialize_node(node)
    outside = _outside(node)
    for attribute in made.attribute:
        if attribute.name in outside:
            attribute.t.CopyFrom(ir.serde.serialize_tensor(outside[attribute.name]))
    made.name = ""
    made.doc_string = ""
    del made.metadata_props[:]
    made.input[:] = ["" if v is None or not v.name else names[v] for v in node.inputs]
    made.output[:] = [names[v] if v.name else "" for v in node.outputs]
    return made


def widened(value: ir.Value, name: str) -> TensorProto:
    """A constant with that name, floats as float64."""
    tensor = constant(value)
    assert tensor is not None
    array = _small(tensor, value.name).numpy()
    return numpy_helper.from_array(array.astype(np.float64) if tensor.dtype in FLOATS else array, name)


def called(nodes: Iterable[ir.Node], model: ir.Model) -> list[onnx.FunctionProto]:
    """The functions that `nodes` call, directly or through others."""
    found: dict[Identifier, ir.Function] = {}
    queue = list(nodes)
    while queue:
        identifier = queue.pop().op_identifier()
        if identifier in model.functions and identifier not in found:
            found[identifier] = model.functions[identifier]
            queue.extend(found[identifier].all_nodes())
    return [_serialised(model.functions[identifier]) for identifier in sorted(found)]


def _serialised(function: ir.Function) -> onnx.FunctionProto:
    copy = function.clone()
    for node in copy.all_nodes():
        for name, tensor in _outside(node).items():
            node.attributes[name] = ir.AttrTensor(name, tensor)
    return ir.serde.serialize_function(copy)


def _outside(node: ir.Node) -> dict[str, ir.TensorProtocol]:
    """Tensor attributes stored in another file, loaded."""
    tensors = {
        name: attribute.as_tensor()
        for name, attribute in node.attributes.items()
        if attribute.type is ir.AttributeType.TENSOR and not attribute.is_ref()
    }
    return {
        name: ir.Tensor(_small(tensor, node.name).numpy(), dtype=tensor.dtype)
        for name, tensor in tensors.items()
        if isinstance(tensor, ir.ExternalTensor)
    }


def _small(tensor: ir.TensorProtocol, name: str | None) -> ir.TensorProtocol:
    if tensor.nbytes > MOST_CONSTANTS:
        raise InputError(f"its constant {name!r} has {tensor.size:,} values; SimAM has no weights")
    return tensor


def measure(node: ir.Node, shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Output of a Shape or Size node for an input of that shape."""
    if node.op_type == "Size":
        return np.array(np.prod(shape), dtype=np.int64)
    start, end = (node.attributes[k].as_int() if k in node.attributes else None for k in ("start", "end"))
    return np.array(shape[start:end], dtype=np.int64)
