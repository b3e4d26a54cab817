"""The number types that a model computes in: fp32, fp16, bf16, int8, or int8 and a 16-bit type."""

from __future__ import annotations

import onnx_ir as ir

from simam_deploy.graph.onnx_file import half_types

HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
UP_TO_32_BITS = (ir.DataType.FLOAT, *HALF)
INTEGER_LAYERS = frozenset(
    {"ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "QLinearConv", "QLinearMatMul", "QGemm"}
)
"""Convolutions and matrix products of integers, of ONNX and of ONNX Runtime."""
INTEGER_OPS = INTEGER_LAYERS | {
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "DynamicQuantizeMatMul",
}
"""Operators of a quantised network, of ONNX and of ONNX Runtime."""
SHORT = {"FLOAT16": "fp16", "BFLOAT16": "bf16"}


def precision(model: ir.Model) -> str:
    """fp32, fp16, bf16, fp16+bf16, int8, int8+fp16, ... : fp32 unless another type is in the model."""
    low = [SHORT[name] for name in half_types(model)]
    parts: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    quantised = any(node.op_type in INTEGER_OPS for part in parts for node in part.all_nodes())
    return "+".join([*["int8"] * quantised, *low]) or "fp32"
