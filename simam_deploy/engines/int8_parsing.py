"""Quantised operators that TensorRT's parser refuses, seen in the file: it takes symmetric pairs alone.

Each was parsed by TensorRT-RTX 1.7, see tests/engines/test_int8_parsing.py. A zero point of uint8 that is 0 is taken.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from simam_deploy.formula import INT8_DOMAIN
from simam_deploy.graph.number_types import INTEGER_OPS
from simam_deploy.match.dataflow import constant

INT8 = "\nint8 for TensorRT is made of the float32 file: simam-deploy convert FLOAT.onnx --to int8 --target tensorrt"
"""Behind the parser's words for a quantised file. It takes no zero points and no integer biases."""
PAIR = ("QuantizeLinear", "DequantizeLinear")
MOST_NUMBERS = 2**16
"""Upper bound on a zero point that is read. There is one for a tensor, or one for each channel."""


def unparsed_int8(model: ir.Model) -> str:
    """Why the parser refuses the first quantised operator that it does not take; "" if it takes all."""
    parts: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for part in parts:
        for node in part.all_nodes():
            if reason := _reason(node):
                return f"{node.op_type} {node.name or node.outputs[0].name!r} {reason}"
    return ""


def _reason(node: ir.Node) -> str:
    if node.domain == INT8_DOMAIN:
        return "is SimAM on integers, for ONNX Runtime's CPU"
    if node.op_type not in PAIR:
        ours = node.op_type in INTEGER_OPS or node.op_type.startswith("QLinear")
        return "computes on integers" if ours else ""
    held = node.inputs[0]
    if node.op_type == "DequantizeLinear" and held is not None and _dtype(held) == ir.DataType.INT32:
        return "reads int32, as integer biases are stored"
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    tensor = None if zero is None else constant(zero)
    if tensor is not None and tensor.size <= MOST_NUMBERS and np.any(tensor.numpy().astype(np.int64)):
        return "has a zero point that is not 0"
    return ""


def _dtype(value: ir.Value) -> ir.DataType | None:
    tensor = constant(value)
    return value.dtype if tensor is None else tensor.dtype
