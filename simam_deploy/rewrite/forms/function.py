"""SimAM as one node simam::SimAM whose body, in primitive operators, travels in the file as a model-local function.

A runtime that has a kernel of that name takes the node; every other one runs the body. Statistics are float32. One
body serves all blocks of a file: M - 1 comes from the shape of x at run time, and the types of all x make the body:

| x of all blocks    | opset    | the body                                                             |
|--------------------|----------|----------------------------------------------------------------------|
| float32            | any      | has no cast                                                          |
| one 16-bit type    | any      | casts x to float32, and y to that type                               |
| more than one type | from 15  | casts x to float32, and y to the type of x (CastLike)                |
| more than one type | up to 14 | is that for float32, and casts stand around the nodes on 16-bit maps |

Converters without CastLike (pnnx) read the first two. A file of the first kind that another tool converts to float16
does not load as it is: ONNX Runtime, OpenVINO, TensorRT-RTX and the onnx checker find float16 and float32 in one
operator (a kernel of that name computes it right). `fuse` then writes the body for the new type.
Before opset 13 no Constant takes its value from an attribute of the function: λ is the alpha of a Gemm of ones.

The op is 4-D. A block on (N, C, L) gets an axis H = 1 in front of it and loses it behind; with W = 1 ONNX Runtime
took ten times as long, (1, 64, 16000) on a CPU, as it broadcasts along the last axis. A block on (N, C, D, H, W) is
reshaped to (N, C, D, H*W) and back, to constants where H and W are fixed and to the shape of x where not; then an
empty batch is refused at run time, as the -1 that stands for H*W could be anything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from simam_deploy.block import Block
from simam_deploy.formula import DEFAULT_LAMBDA, OP_DOMAIN, OP_NAME, OPS, Op
from simam_deploy.match.op_sets import HALF
from simam_deploy.rewrite.forms import epilogue
from simam_deploy.rewrite.forms.node_builder import Writer
from simam_deploy.rewrite.forms.primitive import body, runtime_n

NAME = "function"
EPILOGUE = True
CAST_LIKE = 15
"""The first opset with CastLike."""
CONSTANT_OF_ATTRIBUTE = 13
"""From here on a Constant takes a number from an attribute of the function. In opset 12 OpenVINO cannot."""
FLOAT = ir.DataType.FLOAT
HW = (2, 3)
"""The axes of a plane, as the op has them."""


def reasons_against(block: Block) -> list[str]:
    """A float64 block has no body: it would be computed in float32."""
    fits = block.dtype in (FLOAT, *HALF)
    return [] if fits else [f"x is {block.dtype.name}, the op takes FLOAT, FLOAT16 and BFLOAT16"]


def nodes(block: Block, opset: int, types: Collection[ir.DataType] = ()) -> list[ir.Node]:
    """One node; where x is not 4-D, one more in front and one behind, and what those need.

    types : of x of the blocks that share a body. Where that is for another type, casts stand around.
    """
    write = Writer(block.node, opset)
    if len(types) > 1 and block.dtype != FLOAT and _type_of_body(types, opset) == FLOAT:
        write.op("Cast", _node(write, _cast(write, block)), name="y_half", to=block.dtype)
    else:
        _node(write, block)
    write.nodes[-1].name = block.node
    return write.nodes


def _cast(write: Writer, block: Block) -> Block:
    """`block` with x, and a residual, in float32."""
    behind = block.epilogue
    if behind is not None and behind.residual is not None:
        behind = replace(behind, residual=write.op("Cast", behind.residual, name="residual_float", to=FLOAT))
    return replace(block, x=write.op("Cast", block.x, name="float", to=FLOAT), dtype=FLOAT, epilogue=behind)


def _node(write: Writer, block: Block) -> ir.Value:
    """The node, and what it needs around it; its result."""
    e_lambda = block.e_lambda
    if len(block.shape) == 4:
        behind = [] if block.epilogue is None else epilogue.inputs(write, block.epilogue)
        return write.op(block.op, block.x, *behind, name="y", domain=OP_DOMAIN, e_lambda=e_lambda)
    if len(block.shape) == 3:
        flat = write.squeeze("Unsqueeze", block.x, [2], "flat")
        y = write.op(OP_NAME, flat, name="simam", domain=OP_DOMAIN, e_lambda=e_lambda)
        return write.squeeze("Squeeze", y, [2], "y")
    there, back = _sizes(write, block)
    flat = write.op("Reshape", block.x, there, name="flat")
    y = write.op(OP_NAME, flat, name="simam", domain=OP_DOMAIN, e_lambda=e_lambda)
    return write.op("Reshape", y, back, name="y")


def _sizes(write: Writer, block: Block) -> tuple[ir.Value, ir.Value]:
    """What x : (N, C, D, H, W) is reshaped to, and y back. A 0 keeps the size that is there."""
    h, w = block.shape[3:]
    int64 = ir.DataType.INT64
    if isinstance(h, int) and isinstance(w, int):
        return write.constant([0, 0, 0, h * w], "flat_sizes", int64), write.constant([0, 0, 0, h, w], "sizes", int64)
    return write.constant([0, 0, 0, -1], "flat_sizes", int64), write.op("Shape", block.x, name="sizes")


def functions(opset: int, ops: Iterable[str], types: Collection[ir.DataType]) -> list[ir.Function]:
    """The bodies of `ops`, names of formula.OPS, for x : (N, C, H, W). types : of x of the blocks that share them."""
    return [_body(name, OPS[name], opset, _type_of_body(types, opset)) for name in ops]


def _type_of_body(types: Collection[ir.DataType], opset: int) -> ir.DataType | None:
    """The type of x in a body that serves `types`; None if it takes each."""
    if len(types) == 1:
        return next(iter(types))
    return None if opset >= CAST_LIKE else FLOAT


def _body(name: str, op: Op, opset: int, dtype: ir.DataType | None) -> ir.Function:
    """simam::SimAM(x; e_lambda), or with an epilogue (x, scale, bias[, residual]; e_lambda). It calls no other."""
    x, *given = inputs = [ir.Value(name=input_) for input_ in ("x", *epilogue.names(op))]
    write = Writer("", opset)
    wide = x if dtype == FLOAT else write.op("Cast", x, name="float", to=FLOAT)
    y = body(write, wide, HW, runtime_n(write, x, HW, FLOAT), _lambda(write, opset), FLOAT)
    if op.affine:
        y = epilogue.in_body(write, y, op, given, cast=dtype != FLOAT)
    if dtype is None:
        y = write.op("CastLike", y, x, name="y_like_x")
    elif dtype != FLOAT:
        y = write.op("Cast", y, name="y_half", to=dtype)
    graph = ir.Graph(inputs, [y], nodes=write.nodes, opset_imports={"": opset}, name=name)
    return ir.Function(OP_DOMAIN, name, graph=graph, attributes=[ir.AttrFloat32("e_lambda", DEFAULT_LAMBDA)])


def _lambda(write: Writer, opset: int) -> ir.Value:
    """λ, from the attribute of the function."""
    float_ = ir.AttributeType.FLOAT
    if opset >= CONSTANT_OF_ATTRIBUTE:
        return write.op("Constant", name="e_lambda", value_float=ir.RefAttr("value_float", "e_lambda", float_))
    one, zero = (write.constant(np.full((1, 1), n), name, FLOAT) for n, name in ((1, "unit"), (0, "nought")))
    return write.op("Gemm", one, one, zero, name="e_lambda", alpha=ir.RefAttr("alpha", "e_lambda", float_))
