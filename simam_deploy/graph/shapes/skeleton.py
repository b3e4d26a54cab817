"""A reduced model for shape inference, and the inference itself."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
import onnx_ir as ir

from simam_deploy.graph.onnx_file.external import in_memory
from simam_deploy.graph.onnx_file.stream import without_values
from simam_deploy.graph.shapes import choices
from simam_deploy.graph.shapes.ort_ops import stand_in
from simam_deploy.graph.traverse import graphs, nodes

_LARGEST_CONSTANT = 1024
"""Bytes. Larger constants are left out: no shape is computed from them."""


def skeleton(model: ir.Model) -> onnx.ModelProto:
    """Copy a model for shape inference. Nodes keep their order.

    Drops the values of weights and the inner shapes that can be inferred; replaces ONNX Runtime's operators by
    standard ones.
    """
    copy = model.clone()
    functions = list(copy.functions.values())
    for graph in (*copy.graphs(), *(graph for function in functions for graph in function.subgraphs())):
        for value in graph.initializers.values():
            if value.const_value is not None:
                value.const_value = _light(value.const_value)
    for part in (copy.graph.all_nodes(), *(function.all_nodes() for function in functions)):
        for node in part:
            for name, attribute in list(node.attributes.items()):
                if attribute.type is ir.AttributeType.TENSOR and not attribute.is_ref():
                    node.attributes[name] = ir.AttrTensor(name, _light(attribute.as_tensor()))
    proto = ir.to_proto(copy)
    opset = model.opset_imports.get("", 0)
    bodies = {(function.domain, function.name) for function in proto.functions}
    for scope in (*graphs(proto), *proto.functions):
        stand_in(scope, opset, bodies)
    values = (v for graph in graphs(proto) for v in (*graph.input, *graph.value_info, *graph.output))
    for dim in (dim for value in values for dim in value.type.tensor_type.shape.dim):
        if dim.dim_value < 0:
            dim.ClearField("dim_value")
    for scope in (*graphs(proto), *proto.functions):
        _forget(scope, bodies)
    _import_all(proto, proto.graph.node, opset)
    for function in proto.functions:
        _import_all(function, function.node, opset)
    return proto


def _forget(scope: onnx.GraphProto | onnx.FunctionProto, bodies: set[tuple[str, str]]) -> None:
    """Drop declared shapes, except for outputs of operators that inference does not know."""
    kept = {
        name
        for node in scope.node
        if (node.domain, node.op_type) not in bodies and not onnx.defs.has(node.op_type, node.domain)
        for name in node.output
    }
    for at, value in reversed(list(enumerate(scope.value_info))):
        if value.name not in kept:
            del scope.value_info[at]
    for value in scope.output if isinstance(scope, onnx.GraphProto) else ():
        if value.name not in kept and value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")


def _import_all(scope: onnx.ModelProto | onnx.FunctionProto, sequence: Iterable[onnx.NodeProto], opset: int) -> None:
    """Import the domain of every node. Without an import, inference stops entirely."""
    graph = onnx.ModelProto(graph=onnx.GraphProto(node=sequence))
    for domain in {node.domain for node in nodes(graph)} - {entry.domain for entry in scope.opset_import}:
        scope.opset_import.add(domain=domain, version=1 if domain else opset)


def _light(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """The tensor; if it is large, a tensor whose values are in a file that does not exist."""
    if tensor.dtype is ir.DataType.STRING or tensor.nbytes > _LARGEST_CONSTANT:
        return without_values(tensor)
    return in_memory(tensor) if isinstance(tensor, ir.ExternalTensor) else tensor


def infer(model: onnx.ModelProto, *, strict: bool = False) -> onnx.ModelProto:
    """Run onnx's shape inference.

    strict : raise for a node that refuses its inputs. Otherwise its outputs are unknown, and inference overrides a
    declared type or rank that it contradicts, as in ONNX Runtime.
    """
    try:
        return onnx.shape_inference.infer_shapes(model, strict_mode=strict, data_prop=True)
    except Exception:  # of many types
        if strict:
            raise
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for scope in (*graphs(bare), *bare.functions):
        del scope.value_info[:]
        for value in scope.output if isinstance(scope, onnx.GraphProto) else ():
            value.ClearField("type")
    try:
        return onnx.shape_inference.infer_shapes(bare, data_prop=True)
    except Exception:  # propagate.py alone infers shapes then
        return bare


def resized(skeleton: onnx.ModelProto, sizes: dict[str, int]) -> onnx.ModelProto:
    """A copy with these input sizes and no other declared sizes."""
    proto = onnx.ModelProto()
    proto.CopyFrom(skeleton)
    for value in proto.graph.input:
        for key, axis in choices.keys(value.name, dims_of(value.type)):
            value.type.tensor_type.shape.dim[axis].dim_value = sizes[key]
    for graph in graphs(proto):
        for i, value in reversed(list(enumerate(graph.value_info))):
            if sizes or any(not d.HasField("dim_value") for d in value.type.tensor_type.shape.dim):
                del graph.value_info[i]
        for value in graph.output if sizes else ():
            value.type.tensor_type.ClearField("shape")
    return proto


def dims_of(kind: onnx.TypeProto) -> tuple[int | str | None, ...]:
    """Declared shape: a number, a name or None per axis."""
    return tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.tensor_type.shape.dim)
