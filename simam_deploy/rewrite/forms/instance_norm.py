"""SimAM as InstanceNormalization: 5 operators for 11. M = H*W, or L, or D*H*W, fixed.

    z = InstanceNormalization(x; scale = sqrt((M-1) / 4M), epsilon = λ (M-1) / M);  y = x * Sigmoid(z*z + 1/2)
Exact in real arithmetic: with the biased variance σ², v + λ = M/(M-1) (σ² + λ (M-1)/M).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

import numpy as np
import onnx_ir as ir

from simam_deploy.block import Block
from simam_deploy.formula import shortest
from simam_deploy.graph.number_types import HALF
from simam_deploy.rewrite.forms.node_builder import Writer

NAME = "instance_norm"
EPILOGUE = False
FLOAT = ir.DataType.FLOAT
AXES = {3: "CL", 4: "CHW", 5: "CDHW"}
"""Axes behind N, by rank."""


def reasons_against(block: Block) -> list[str]:
    """Reject dynamic axes but N, as scale and epsilon depend on them; float64 has no kernel in ONNX Runtime."""
    reasons = [
        f"{axis} is not fixed"
        for axis, size in zip(AXES[len(block.shape)], block.shape[1:], strict=True)
        if not isinstance(size, int)
    ]
    if block.dtype not in (FLOAT, *HALF):
        reasons.append(f"x is {block.dtype.name}; InstanceNormalization runs in FLOAT")
    return reasons


def functions(opset: int, ops: Iterable[str], types: Collection[ir.DataType]) -> list[ir.Function]:
    """None."""
    del opset, ops, types
    return []


def nodes(block: Block, opset: int, types: Collection[ir.DataType] = ()) -> list[ir.Node]:
    """Five operators, two more with casts. float16 and bfloat16 are computed in float32."""
    del types
    write = Writer(block.node, opset)
    c, m = block.shape[1], block.map_size
    assert isinstance(c, int)
    assert m is not None
    x = write.op("Cast", block.x, name="float", to=FLOAT) if block.dtype in HALF else block.x
    scale = write.constant(np.full(c, math.sqrt((m - 1) / (4 * m))), "scale", FLOAT)
    bias = write.constant(np.zeros(c), "bias", FLOAT)
    z = write.op("InstanceNormalization", x, scale, bias, name="z", epsilon=shortest(block.e_lambda) * (m - 1) / m)
    t = write.op("Add", write.op("Mul", z, z, name="z2"), write.constant(0.5, "half_", FLOAT), name="t")
    y = write.op("Mul", x, write.op("Sigmoid", t, name="gate"), name="y")
    if block.dtype in HALF:
        write.op("Cast", y, name="half", to=block.dtype)
    write.nodes[-1].name = block.node
    return write.nodes
