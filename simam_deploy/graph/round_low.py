"""An oracle of 16-bit arithmetic: a float32 model that rounds each result as the 16-bit model stores it.

A GPU stores float16 or bfloat16 values and accumulates in float32: a convolution, a matrix product or a reduction
rounds its result once. `round_low` makes a model of that kind. It inlines all functions, computes every 16-bit value
in float32, and puts Cast(float16), Cast(float32) behind each operator that makes one. A cast to float32 in the
original ends the rounding, so float32 islands stay float32.

Limits. Each operator rounds once, whatever a runtime does inside it: a softmax or a normalization that stores its
steps in 16 bits is worse. A runtime that fuses operators rounds less often. Sums run in another order than on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, NameFixPass

from simam_deploy.errors import InputError
from simam_deploy.graph.number_types import HALF
from simam_deploy.graph.onnx_file import constants
from simam_deploy.graph.shapes import Shapes
from simam_deploy.graph.to_float64 import NAMES_A_TYPE
from simam_deploy.graph.versions import with_one_opset

FLOAT = ir.DataType.FLOAT
EXACT = frozenset(
    {
        *("Abs", "Concat", "Constant", "ConstantOfShape", "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather"),
        *("GatherElements", "GatherND", "Identity", "If", "Loop", "MaxPool", "Neg", "Pad", "Relu", "Reshape", "Scan"),
        *("Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where"),
    }
)
"""Operators whose results are values of their inputs, or were rounded inside."""


def round_low(model: ir.Model) -> ir.Model:
    """Copy a model; compute in float32 and round each float16 or bfloat16 result to its type.

    Inputs and outputs of a 16-bit type become float32, and hold values of that type as long as the inputs do. A model
    without 16-bit types computes the same as before.
    Raises InputError if a function cannot be inlined, or if the type of a result is unknown.
    """
    low = model.clone()
    inline(low)
    types = _low_values(low)
    _widen(low)
    for value, dtype in types.items():
        node = value.producer()
        if node is not None and (node.domain or node.op_type not in EXACT):
            _round(value, node, dtype)
    NameFixPass()(low)
    return low


def to_float32(model: ir.Model) -> ir.Model:
    """Copy a model; store and compute its 16-bit values in float32, without rounding. Raises as `round_low`."""
    wide = model.clone()
    inline(wide)
    _widen(wide)
    return wide


def inline(model: ir.Model, criteria: Callable[[ir.Function], bool] | None = None) -> None:
    """Inline functions, in place. criteria : which; default all. Raises InputError if one cannot be inlined.

    A function of another opset is read in that of the model where its operators are the same in both. Others are
    refused, as in ONNX Runtime.
    """
    with_one_opset(model, [f for f in model.functions.values() if criteria is None or criteria(f)])
    try:
        InlinePass(criteria)(model)
    except (ir.passes.PassError, ValueError) as error:
        raise InputError(
            f"a function of the model cannot be inlined: {error.__cause__ or error}\n"
            "onnx.inliner.inline_local_functions(model, convert_version=True) may do it"
        ) from error


def _low_values(model: ir.Model) -> dict[ir.Value, ir.DataType]:
    """The 16-bit tensors with their types, also in subgraphs. Sequences hold tensors that are rounded already."""
    shapes = Shapes(model)
    values = dict.fromkeys(
        value
        for graph in model.graphs()
        for value in (*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs))
    )
    known = {value: shapes.known_dtype(value) for value in values if is_tensor(value)}
    found = {value: dtype for value, dtype in known.items() if dtype in HALF}
    untold = (value for value in values if value.name and known.get(value, FLOAT) is None)
    for value in untold:
        node = value.producer()
        if node is not None and node.domain and any(v in found for v in node.inputs):
            raise InputError(
                f"{node.domain}::{node.op_type} takes 16-bit values, and the type of its result {value.name!r} "
                "is unknown, so nobody knows whether to round it; declare it in the file (value_info)"
            )
    return found


def _widen(model: ir.Model) -> None:
    """Declare and store everything of a 16-bit type as float32, in place."""
    constants.replace(model, _wide)
    for graph in model.graphs():
        for value in (*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)):
            if value.type is not None and value.dtype in HALF:
                value.type = with_dtype(value.type, FLOAT)
        for node in graph:
            for name in NAMES_A_TYPE:
                attribute = node.attributes.get(name)
                if attribute is not None and attribute.as_int() in HALF:
                    node.attributes[name] = ir.AttrInt64(name, FLOAT)


def _wide(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    if tensor.dtype not in HALF:
        return tensor
    return ir.Tensor(tensor.numpy().astype(np.float32), name=tensor.name)


def _round(value: ir.Value, node: ir.Node, dtype: ir.DataType) -> None:
    """Insert the two casts behind `node`. The rounded value takes the name, which may be that of an output."""
    graph, uses = node.graph, list(value.uses())
    assert graph is not None
    down = ir.node("Cast", [value], {"to": dtype})
    up = ir.node("Cast", down.outputs, {"to": FLOAT})
    rounded = up.outputs[0]
    graph.insert_after(node, [down, up])
    for use in uses:
        use.node.replace_input_with(use.idx, rounded)
    for at, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[at] = rounded
    rounded.name, value.name = value.name, f"{value.name}/exact"
    rounded.shape, rounded.type = value.shape, ir.TensorType(FLOAT)


def is_tensor(value: ir.Value) -> bool:
    """Whether `value` is no sequence and no optional, as far as declared."""
    return value.type is None or isinstance(value.type, ir.TensorType)


def with_dtype(kind: ir.TypeProtocol, dtype: ir.DataType) -> ir.TypeProtocol:
    """A new type of another element type. A clone of a model shares its types with the original."""
    if isinstance(kind, ir.SequenceType | ir.OptionalType):
        return type(kind)(with_dtype(kind.elem_type, dtype))
    return ir.SparseTensorType(dtype) if isinstance(kind, ir.SparseTensorType) else ir.TensorType(dtype)
