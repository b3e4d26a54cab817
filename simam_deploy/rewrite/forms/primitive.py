"""SimAM in eleven primitive operators, for any runtime. M = H*W; a constant where all axes from 2 on are fixed.

    c = x - ReduceMean(x);  d = c*c;  y = x * Sigmoid(d / (4 (ReduceSum(d) / (M-1) + λ)) + 1/2)
With a dynamic axis, M - 1 is computed from Shape(x) as an integer and cast to the type of the statistics. float16
and bfloat16 are cast to float32 and back: M - 1 and the sums exceed their range. For (N, C, L) and (N, C, D, H, W)
the axes from 2 on are reduced directly, and M is their product.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import onnx_ir as ir

from simam_deploy.block import Block
from simam_deploy.graph.number_types import HALF
from simam_deploy.rewrite.forms.node_builder import Writer

NAME = "primitive"
EPILOGUE = False


def reasons_against(block: Block) -> list[str]:
    """Always empty: this form can lower every block."""
    del block
    return []


def functions(opset: int, ops: Iterable[str], types: Collection[ir.DataType]) -> list[ir.Function]:
    """None."""
    del opset, ops, types
    return []


def nodes(block: Block, opset: int, types: Collection[ir.DataType] = ()) -> list[ir.Node]:
    """Eleven operators, two more with casts, four more for a dynamic M; and the constants."""
    del types
    write = Writer(block.node, opset)
    axes = range(2, len(block.shape))
    dtype = ir.DataType.FLOAT if block.dtype in HALF else block.dtype
    x = write.op("Cast", block.x, name="float", to=dtype) if block.dtype in HALF else block.x
    m = block.map_size
    n = write.constant(m - 1, "n", dtype) if m is not None else runtime_n(write, block.x, axes, dtype)
    y = simam(write, x, axes, n, write.constant(block.e_lambda, "e_lambda", dtype), dtype)
    if block.dtype in HALF:
        write.op("Cast", y, name="half", to=block.dtype)
    write.nodes[-1].name = block.node
    return write.nodes


def runtime_n(write: Writer, x: ir.Value, axes: Sequence[int], dtype: ir.DataType) -> ir.Value:
    """Compute M - 1 at run time, with M the product of the sizes of x along `axes`."""
    which = write.constant(axes, "hw_axes", ir.DataType.INT64)
    hw = write.op("Gather", write.op("Shape", x, name="shape"), which, name="hw")
    m = write.op("ReduceProd", hw, name="m", keepdims=0)
    less = write.op("Sub", m, write.constant(1, "one", ir.DataType.INT64), name="n_int")
    return write.op("Cast", less, name="n", to=dtype)


def simam(
    write: Writer, x: ir.Value, axes: Sequence[int], n: ir.Value, e_lambda: ir.Value, dtype: ir.DataType
) -> ir.Value:
    """Write the formula for x, in the type of the statistics. axes : of a plane.  n : M - 1."""
    c = write.op("Sub", x, write.reduce("ReduceMean", x, axes, "mean"), name="c")
    d = write.op("Mul", c, c, name="d")
    v = write.op("Div", write.reduce("ReduceSum", d, axes, "sum"), n, name="v")
    t = write.op("Add", v, e_lambda, name="v_lambda")
    q = write.op("Mul", t, write.constant(4, "four", dtype), name="divisor")
    z = write.op("Add", write.op("Div", d, q, name="e"), write.constant(0.5, "half_", dtype), name="z")
    return write.op("Mul", x, write.op("Sigmoid", z, name="gate"), name="y")
