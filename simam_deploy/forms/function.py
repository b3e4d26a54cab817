"""SimAM as one node simam::SimAM whose body, in primitive operators, travels in the file as a model-local function.

A runtime that has a kernel of that name takes the node; every other one runs the body. The body casts x to float32
and back, so that it stays right in a file that somebody converts to half precision around it; on float32 the casts
are no-ops that runtimes drop. M - 1 comes from the shape of x at run time, as one body serves all blocks of a file.

The op is 4-D. A block on (N, C, L) gets an axis H = 1 in front of it and loses it behind; with W = 1 ONNX Runtime
took ten times as long, (1, 64, 16000) on a CPU, as it broadcasts along the last axis. A block on (N, C, D, H, W) is
reshaped to (N, C, D, H*W) and back, to constants where H and W are fixed and to the shape of x where not; then an
empty batch is refused at run time, as the -1 that stands for H*W could be anything.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from simam_deploy.blocks import Block
from simam_deploy.forms import tail
from simam_deploy.forms.primitive import body, runtime_n
from simam_deploy.forms.writer import Writer
from simam_deploy.formula import DEFAULT_LAMBDA, OP_DOMAIN, OP_NAME, OPS, Op
from simam_deploy.recognise.operators import HALF

NAME = "function"
MIN_OPSET = 17
NEIGHBOURS = True
FLOAT = ir.DataType.FLOAT
HW = (2, 3)
"""The axes of a plane, as the op has them."""


def reasons_against(block: Block) -> list[str]:
    """A float64 block has no body: it would be computed in float32."""
    fits = block.dtype in (FLOAT, *HALF)
    return [] if fits else [f"x is {block.dtype.name}, the op takes FLOAT, FLOAT16 and BFLOAT16"]


def nodes(block: Block, opset: int) -> list[ir.Node]:
    """One node; where x is not 4-D, one more in front and one behind, and what those need."""
    e_lambda = ir.AttrFloat32("e_lambda", block.e_lambda)
    write = Writer(block.node, opset)
    if len(block.shape) == 4:
        behind = [] if block.tail is None else tail.inputs(write, block.tail)
        return [*write.nodes, ir.Node(OP_DOMAIN, block.op, [block.x, *behind], [e_lambda], name=block.node)]
    if len(block.shape) == 3:
        flat = write.squeeze("Unsqueeze", block.x, [2], "flat")
        y = write.op(OP_NAME, flat, name="simam", domain=OP_DOMAIN, e_lambda=e_lambda)
        write.squeeze("Squeeze", y, [2], "y")
    else:
        there, back = _sizes(write, block)
        flat = write.op("Reshape", block.x, there, name="flat")
        y = write.op(OP_NAME, flat, name="simam", domain=OP_DOMAIN, e_lambda=e_lambda)
        write.op("Reshape", y, back, name="y")
    write.nodes[-1].name = block.node
    return write.nodes


def _sizes(write: Writer, block: Block) -> tuple[ir.Value, ir.Value]:
    """What x : (N, C, D, H, W) is reshaped to, and y back. A 0 keeps the size that is there."""
    h, w = block.shape[3:]
    int64 = ir.DataType.INT64
    if isinstance(h, int) and isinstance(w, int):
        return write.constant([0, 0, 0, h * w], "flat_sizes", int64), write.constant([0, 0, 0, h, w], "sizes", int64)
    return write.constant([0, 0, 0, -1], "flat_sizes", int64), write.op("Shape", block.x, name="sizes")


def functions(opset: int, ops: Iterable[str] = (OP_NAME,)) -> list[ir.Function]:
    """The bodies of `ops`, names of formula.OPS, for x : (N, C, H, W) of any float type."""
    return [_body(name, OPS[name], opset) for name in ops]


def _body(name: str, op: Op, opset: int) -> ir.Function:
    """simam::SimAM(x; e_lambda), or with neighbours (x, scale, bias[, residual]; e_lambda). It calls no other."""
    x, *given = inputs = [ir.Value(name=input_) for input_ in ("x", *tail.names(op))]
    write = Writer("", opset)
    wide = write.op("Cast", x, name="float", to=FLOAT)
    n = runtime_n(write, x, HW, FLOAT)
    from_attribute = ir.RefAttr("value_float", "e_lambda", ir.AttributeType.FLOAT)
    e_lambda = write.op("Constant", name="e_lambda", value_float=from_attribute)
    y = body(write, wide, HW, n, e_lambda, FLOAT)
    if op.affine:
        y = tail.in_body(write, y, op, given)
    like_x = write.op("CastLike", y, x, name="y_like_x")
    graph = ir.Graph(inputs, [like_x], nodes=write.nodes, opset_imports={"": opset}, name=name)
    return ir.Function(OP_DOMAIN, name, graph=graph, attributes=[ir.AttrFloat32("e_lambda", DEFAULT_LAMBDA)])
