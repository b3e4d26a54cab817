"""Checks of an ONNX file against damage, each with its own error.

The onnx checker does not run: it is stricter than the runtimes.
"""

from __future__ import annotations

import math
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.descriptor import FieldDescriptor

from simam_deploy.errors import ModelFileError
from simam_deploy.graph.onnx_file import external
from simam_deploy.graph.onnx_file.constants import tensors
from simam_deploy.graph.traverse import fields, graphs, inside, messages, nodes
from simam_deploy.graph.traverse import tensors as tensor_protos
from simam_deploy.text import on_one_line

DEEPEST_CALLS = 100
"""Upper bound on nested function calls, as in onnx's shape inference."""
MOST_AXES = 64
"""Upper bound on the axes of a tensor, as in NumPy."""
MOST_NODES = 200_000
"""Upper bound on the nodes after inlining. Forty functions that each call the next twice are a small file."""

COSTS = {"NodeProto": 20, "AttributeProto": 15, "TensorProto": 30, "FunctionProto": 80}
COSTS |= dict.fromkeys(("TypeProto", "Tensor", "TensorShapeProto", "Dimension"), 1)
"""Cost of a message, in some 5 us: to read it and to search it for blocks. OTHER for any other message."""
OTHER = 5
MOST_COST = 1_500_000
"""Some eight seconds. A network of 20,000 nodes costs 1,300,000."""

_TYPES = {int(kind) for kind in ir.DataType} - {int(ir.DataType.UNDEFINED)}


def check_message(proto: onnx.ModelProto, source: Path) -> None:
    """Raise ModelFileError for content that onnx_ir would refuse or lose. Shortens the name of the default domain."""
    if not proto.ir_version or not proto.HasField("graph"):
        raise ModelFileError(f"{source} is not an ONNX file, or is truncated: it holds no graph")
    _check_axes(proto, source)
    outside = _check_messages(proto, source)
    if proto.ir_version > onnx.IR_VERSION:
        raise ModelFileError(
            f"{source} has IR version {proto.ir_version}; the installed onnx {onnx.__version__} reads up to "
            f"{onnx.IR_VERSION}\npip install --upgrade onnx"
        )
    imports = (*proto.opset_import, *(e for function in proto.functions for e in function.opset_import))
    for entry in (*imports, *nodes(proto)):
        if entry.domain == "ai.onnx":
            entry.domain = ""
    newest = onnx.defs.onnx_opset_version()
    opset = {entry.domain: entry.version for entry in proto.opset_import}.get("")
    if opset is None:
        raise ModelFileError(f"{source} names no opset: it is truncated, or holds no standard ONNX operators")
    if opset > newest:
        raise ModelFileError(
            f"{source} has opset {opset}; the installed onnx {onnx.__version__} knows up to {newest}\n"
            "pip install --upgrade onnx"
        )
    if opset < 1:
        raise ModelFileError(f"{source} is damaged: it has opset {opset}")
    if any(graph.sparse_initializer for graph in graphs(proto)):
        raise ModelFileError(f"{source} keeps weights as sparse tensors; make them dense first")
    if part := next((tensor for tensor in tensor_protos(proto) if tensor.HasField("segment")), None):
        raise ModelFileError(f"{source} keeps the weights {part.name!r} in segments, which nothing reads")
    if proto.training_info:
        raise ModelFileError(f"{source} holds training information, which would be lost; take it out first")
    if proto.functions:
        count_nodes(proto, source)
    _check_inputs(proto, source)
    _check_references(proto, source)
    external.check(outside, source)


def _check_axes(proto: onnx.ModelProto, source: Path) -> None:
    """Refuse shapes with more than MOST_AXES axes."""
    shapes = {tensor.name: len(tensor.dims) for tensor in tensor_protos(proto)}
    values = [v for graph in graphs(proto) for v in (*graph.input, *graph.output, *graph.value_info)]
    values += [v for function in proto.functions for v in function.value_info]
    shapes |= {value.name: len(value.type.tensor_type.shape.dim) for value in values}
    for name, axes in shapes.items():
        if axes > MOST_AXES:
            raise ModelFileError(f"{source} is damaged: {name!r} has {axes:,} axes; up to {MOST_AXES} are read")


def _check_messages(proto: onnx.ModelProto, source: Path) -> list[onnx.TensorProto]:
    """Refuse a cost above MOST_COST, and strings that are not UTF-8, which protobuf returns as bytes.

    Clears negative sizes: they count as unknown, as in ONNX Runtime. Returns the tensors with values in another file.
    """
    outside, cost = [], 0
    for message in messages(proto):
        cost += COSTS.get(message.DESCRIPTOR.name, OTHER)
        if cost > MOST_COST:
            raise ModelFileError(
                f"{source} is not read: it holds more nodes, attributes, weights and values than networks do, which "
                f"would take minutes (a node counts as {COSTS['NodeProto']}, and all may be {MOST_COST:,})"
            )
        for name, repeated in fields(message.DESCRIPTOR)[FieldDescriptor.TYPE_STRING]:
            value = getattr(message, name)
            for text in value if repeated else (value,):
                if isinstance(text, bytes):
                    kind = message.DESCRIPTOR.name.removesuffix("Proto")
                    raise ModelFileError(f"{source} is damaged: {name} {text!r} of a {kind} is not UTF-8")
        if isinstance(message, onnx.TensorShapeProto.Dimension):
            if message.dim_value < 0:
                message.ClearField("dim_value")
        elif isinstance(message, onnx.TensorProto) and external.is_outside(message):
            outside.append(message)
    return outside


def _check_inputs(proto: onnx.ModelProto, source: Path) -> None:
    """Refuse an input of size 0."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    for value in proto.graph.input:
        sizes = [d.dim_value if d.HasField("dim_value") else "?" for d in value.type.tensor_type.shape.dim]
        if 0 in sizes and value.name not in weights:
            raise ModelFileError(
                f"{source} takes an input {value.name!r} of size {'x'.join(map(str, sizes))}, which holds nothing\n"
                "export it with the size that it is for, or with that axis dynamic"
            )


def _check_references(proto: onnx.ModelProto, source: Path) -> None:
    """Refuse references to function attributes outside functions."""
    for node in (node for graph in inside(proto.graph) for node in graph.node):
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                raise ModelFileError(
                    f"{source} is damaged: {attribute.name!r} of node {node.name!r} ({node.op_type}) refers to an "
                    f"attribute {attribute.ref_attr_name!r} of a function, and the node is in none"
                )


def cost_of(proto: onnx.ModelProto) -> int:
    """Cost to read a model, in the unit of COSTS."""
    return sum(COSTS.get(message.DESCRIPTOR.name, OTHER) for message in messages(proto))


def count_nodes(proto: onnx.ModelProto, source: Path, each_call: int = 0) -> int:
    """Number of nodes after inlining, plus `each_call` for each call of a function.

    Raises ModelFileError for recursive functions, too many levels of calls, or too many nodes.
    """
    bodies = {(f.domain, f.name, f.overload): Counter[tuple[str, str, str]]() for f in proto.functions}
    main = Counter((n.domain, n.op_type, n.overload) for n in nodes(onnx.ModelProto(graph=proto.graph)))
    for function in proto.functions:
        alone = onnx.ModelProto(functions=[function])
        bodies[(function.domain, function.name, function.overload)].update(
            (n.domain, n.op_type, n.overload) for n in nodes(alone)
        )
    try:
        order = list(TopologicalSorter({f: bodies.keys() & body.keys() for f, body in bodies.items()}).static_order())
    except CycleError as error:
        names = " -> ".join(on_one_line(f"{domain}::{name}") for domain, name, _ in error.args[1][:9])
        raise ModelFileError(f"{source} is damaged: functions call themselves: {names}") from None
    size: dict[tuple[str, str, str], int] = {}
    depth: dict[tuple[str, str, str], int] = {}
    for function_id in order:
        body = bodies[function_id]
        size[function_id] = each_call + sum(count * size.get(callee, 1) for callee, count in body.items())
        depth[function_id] = 1 + max((depth.get(callee, 0) for callee in body), default=0)
    whole = sum(count * size.get(callee, 1) for callee, count in main.items())
    deepest = max(depth.values(), default=0)
    if bodies and (whole > MOST_NODES or deepest > DEEPEST_CALLS):
        raise ModelFileError(
            f"{source} has functions that call each other {deepest} levels deep, and {whole:,} nodes "
            f"with all of them in place; up to {DEEPEST_CALLS} levels and {MOST_NODES:,} nodes are read"
        )
    return whole


def check_graphs(model: ir.Model, source: Path) -> None:
    """Raise ModelFileError for damaged weights and for values without a producer. Sorts the nodes if needed."""
    for tensor in tensors(model):
        if any(not isinstance(d, int) or d < 0 for d in tensor.shape.numpy()):
            raise ModelFileError(f"{source} is damaged: its weights {tensor.name!r} have the shape {tensor.shape}")
        if isinstance(tensor, ir.TensorProtoTensor):
            _check_inline(tensor, source)
        elif isinstance(tensor, ir.StringTensor) and len(tensor.string_data()) != tensor.size:
            raise ModelFileError(f"{source} is damaged: {tensor.name!r} has not {tensor.size} texts")
    for graph in _roots(model):
        made: set[ir.Node] = set()
        in_order = True
        for node in graph.all_nodes():
            _check_type(node, source)
            for value in node.inputs:
                if value is not None:
                    _check_made(value, node, source)
                    in_order &= value.producer() is None or value.producer() in made
            made.add(node)
        for value in graph.outputs:
            _check_made(value, None, source)
        if not in_order:
            try:
                graph.sort()
            except ValueError:
                raise ModelFileError(f"{source} is damaged: nodes of {graph.name!r} wait for each other") from None


def _check_type(node: ir.Node, source: Path) -> None:
    to = node.attributes.get("to")
    if to is not None and to.type is ir.AttributeType.INT and not to.is_ref() and to.as_int() not in _TYPES:
        raise ModelFileError(f"{source} is damaged: node {node.name!r} casts to type {to.as_int()}, which is none")


def _check_made(value: ir.Value, reader: ir.Node | None, source: Path) -> None:
    if value.producer() is None and not value.is_graph_input() and not value.is_initializer():
        who = "an output of the graph is" if reader is None else f"node {reader.name!r} ({reader.op_type}) reads"
        raise ModelFileError(f"{source} is damaged: {who} {value.name!r}, which nothing makes")


def _roots(model: ir.Model) -> list[ir.Graph | ir.Function]:
    return [model.graph, *model.functions.values()]


def _check_inline(tensor: ir.TensorProtoTensor, source: Path) -> None:
    name, size = tensor.name, math.prod(tensor.shape.numpy())
    if tensor.raw.HasField("raw_data"):
        if len(tensor.raw.raw_data) != tensor.nbytes:
            raise ModelFileError(
                f"{source} is damaged: its weights {name!r} are {len(tensor.raw.raw_data)} bytes, "
                f"where {tensor.dtype.name} {list(tensor.shape)} takes {tensor.nbytes}"
            )
        return
    fields = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
    held = sum(len(getattr(tensor.raw, field)) for field in fields)
    each = 2 if tensor.dtype in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128) else min(tensor.dtype.bitwidth / 8, 1)
    if held != math.ceil(size * each):
        raise ModelFileError(
            f"{source} is damaged: its weights {name!r} are {held} numbers, "
            f"where {tensor.dtype.name} {list(tensor.shape)} takes {math.ceil(size * each)}"
        )
