"""SimAM as one node simam::SimAM, with a fallback definition: a model-local function of primitive operators.

A runtime with a kernel of that name runs the kernel; every other one runs the fallback definition. The attributes
formula.PLUGIN name the kernel to parsers of TensorRT, which prefer the definition without them. Statistics are
float32. One definition serves all blocks of a file: it computes M - 1 from the shape of x at run time. The types of
all x determine its casts:

| x of all blocks    | opset    | fallback definition                                            |
|--------------------|----------|----------------------------------------------------------------|
| float32            | any      | no cast                                                        |
| one 16-bit type    | any      | casts x to float32, and y to that type                         |
| more than one type | from 15  | casts x to float32, and y to the type of x (CastLike)          |
| more than one type | up to 14 | that for float32; casts stand around the nodes on 16-bit maps  |

Converters without CastLike (pnnx) read the first two. A file of the first kind that another tool converts to float16
does not load: ONNX Runtime, OpenVINO, TensorRT-RTX and the onnx checker find float16 and float32 in one operator (a
kernel of that name computes it correctly). `fuse` then writes the definition for the new type.
Before opset 13 no Constant takes its value from an attribute of the function: λ is the alpha of a Gemm of ones.

The op is 4-D. A block on (N, C, L) gains an axis H = 1 in front of it and loses it behind. With W = 1 instead, ONNX
Runtime took ten times as long, (1, 64, 16000) on a CPU, as it broadcasts along the last axis. A block on
(N, C, D, H, W) is reshaped to (N, C, D, H*W) and back: to constants for fixed H and W, else to the shape of x. In the
latter case an empty batch fails at run time, as the -1 for H*W is ambiguous.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from simam_deploy.block import Block
from simam_deploy.formula import DEFAULT_LAMBDA, OP_DOMAIN, OP_NAME, OPS, PLUGIN, Op
from simam_deploy.graph.number_types import HALF
from simam_deploy.rewrite.forms import epilogue
from simam_deploy.rewrite.forms.node_builder import Writer
from simam_deploy.rewrite.forms.primitive import runtime_n, simam

NAME = "function"
EPILOGUE = True
CAST_LIKE = 15
"""The first opset with CastLike."""
CONSTANT_OF_ATTRIBUTE = 13
"""The first opset whose Constant takes a number from an attribute of the function. OpenVINO fails in opset 12."""
FLOAT = ir.DataType.FLOAT
HW = (2, 3)
"""Axes of a plane of the op."""


def reasons_against(block: Block) -> list[str]:
    """Reject float64: the fallback definition computes in float32."""
    fits = block.dtype in (FLOAT, *HALF)
    return [] if fits else [f"x is {block.dtype.name}, the op takes FLOAT, FLOAT16 and BFLOAT16"]


def nodes(block: Block, opset: int, types: Collection[ir.DataType] = ()) -> list[ir.Node]:
    """One node. If x is not 4-D, one more in front and one behind, and their constants.

    types : of x of the blocks that share a fallback definition. Casts surround the node if that is for another type.
    """
    write = Writer(block.node, opset)
    if len(types) > 1 and block.dtype != FLOAT and _type_of_definition(types, opset) == FLOAT:
        write.op("Cast", _node(write, _cast(write, block)), name="y_half", to=block.dtype)
    else:
        _node(write, block)
    write.nodes[-1].name = block.node
    return write.nodes


def _cast(write: Writer, block: Block) -> Block:
    """Cast x and the residual of `block` to float32."""
    behind = block.epilogue
    if behind is not None and behind.residual is not None:
        behind = replace(behind, residual=write.op("Cast", behind.residual, name="residual_float", to=FLOAT))
    return replace(block, x=write.op("Cast", block.x, name="float", to=FLOAT), dtype=FLOAT, epilogue=behind)


def _node(write: Writer, block: Block) -> ir.Value:
    """Write the node and the reshapes around it; return the result."""
    attributes: dict[str, Any] = {"domain": OP_DOMAIN, "e_lambda": block.e_lambda, **PLUGIN}
    if len(block.shape) == 4:
        behind = [] if block.epilogue is None else epilogue.inputs(write, block.epilogue)
        return write.op(block.op, block.x, *behind, name="y", **attributes)
    if len(block.shape) == 3:
        flat = write.squeeze("Unsqueeze", block.x, [2], "flat")
        y = write.op(OP_NAME, flat, name="simam", **attributes)
        return write.squeeze("Squeeze", y, [2], "y")
    there, back = _sizes(write, block)
    flat = write.op("Reshape", block.x, there, name="flat")
    y = write.op(OP_NAME, flat, name="simam", **attributes)
    return write.op("Reshape", y, back, name="y")


def _sizes(write: Writer, block: Block) -> tuple[ir.Value, ir.Value]:
    """Shapes for the reshape of x : (N, C, D, H, W) and back. A 0 keeps the size."""
    h, w = block.shape[3:]
    int64 = ir.DataType.INT64
    if isinstance(h, int) and isinstance(w, int):
        return write.constant([0, 0, 0, h * w], "flat_sizes", int64), write.constant([0, 0, 0, h, w], "sizes", int64)
    return write.constant([0, 0, 0, -1], "flat_sizes", int64), write.op("Shape", block.x, name="sizes")


def functions(opset: int, ops: Iterable[str], types: Collection[ir.DataType]) -> list[ir.Function]:
    """Fallback definitions of `ops`, names of formula.OPS, for x : (N, C, H, W). types : of x of all their blocks."""
    return [_definition(name, OPS[name], opset, _type_of_definition(types, opset)) for name in ops]


def _type_of_definition(types: Collection[ir.DataType], opset: int) -> ir.DataType | None:
    """Type of x in a definition for `types`; None if it accepts each."""
    if len(types) == 1:
        return next(iter(types))
    return None if opset >= CAST_LIKE else FLOAT


def _definition(name: str, op: Op, opset: int, dtype: ir.DataType | None) -> ir.Function:
    """simam::SimAM(x; e_lambda), or with an epilogue (x, scale, bias[, residual]; e_lambda). Calls no function."""
    x, *given = inputs = [ir.Value(name=input_) for input_ in ("x", *epilogue.names(op))]
    write = Writer("", opset)
    wide = x if dtype == FLOAT else write.op("Cast", x, name="float", to=FLOAT)
    y = simam(write, wide, HW, runtime_n(write, x, HW, FLOAT), _lambda(write, opset), FLOAT)
    if op.affine:
        y = epilogue.in_definition(write, y, op, given, cast=dtype != FLOAT)
    if dtype is None:
        y = write.op("CastLike", y, x, name="y_like_x")
    elif dtype != FLOAT:
        y = write.op("Cast", y, name="y_half", to=dtype)
    graph = ir.Graph(inputs, [y], nodes=write.nodes, opset_imports={"": opset}, name=name)
    return ir.Function(OP_DOMAIN, name, graph=graph, attributes=[ir.AttrFloat32("e_lambda", DEFAULT_LAMBDA)])


def _lambda(write: Writer, opset: int) -> ir.Value:
    """Value of λ, from the attribute of the function."""
    float_ = ir.AttributeType.FLOAT
    if opset >= CONSTANT_OF_ATTRIBUTE:
        return write.op("Constant", name="e_lambda", value_float=ir.RefAttr("value_float", "e_lambda", float_))
    one, zero = (write.constant(np.full((1, 1), n), name, FLOAT) for n, name in ((1, "unit"), (0, "nought")))
    return write.op("Gemm", one, one, zero, name="e_lambda", alpha=ir.RefAttr("alpha", "e_lambda", float_))
