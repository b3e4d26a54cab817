"""Lowering of the epilogue: as inputs of our operator, in its fallback definition, or as standard operators."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from simam_deploy.block import Block, Epilogue
from simam_deploy.formula import Op
from simam_deploy.graph.number_types import HALF
from simam_deploy.rewrite.forms.node_builder import Writer

FLOAT = ir.DataType.FLOAT


def names(op: Op) -> list[str]:
    """Names of the inputs behind x."""
    return ["scale", "bias"] * op.affine + ["residual"] * op.residual


def inputs(write: Writer, epilogue: Epilogue) -> list[ir.Value]:
    """Inputs of our operator behind x."""
    held = [
        write.constant(values, name, FLOAT) for name, values in (("scale", epilogue.scale), ("bias", epilogue.bias))
    ]
    return held if epilogue.residual is None else [*held, epilogue.residual]


def in_definition(write: Writer, y: ir.Value, op: Op, given: Sequence[ir.Value], *, cast: bool) -> ir.Value:
    """Write activation(scale * y + bias + residual) in float32, with scale and bias of shape (C,).

    cast : whether to cast the residual to float32.
    """
    scale, bias = (write.squeeze("Unsqueeze", v, [1, 2], f"{v.name}_of_plane") for v in given[:2])
    y = write.op("Add", write.op("Mul", y, scale, name="scaled"), bias, name="affine")
    if op.residual:
        residual = write.op("Cast", given[2], name="residual_float", to=FLOAT) if cast else given[2]
        y = write.op("Add", y, residual, name="with_residual")
    return activated(write, y, op.activation)


def activated(write: Writer, y: ir.Value, activation: str) -> ir.Value:
    """Apply an activation of formula.ACTIVATIONS to y."""
    match activation:
        case "relu":
            return write.op("Relu", y, name="relu")
        case "silu":
            return write.op("Mul", y, write.op("Sigmoid", y, name="sigmoid"), name="silu")
    return y


def nodes(block: Block, y: ir.Value, opset: int) -> list[ir.Node]:
    """The epilogue of `block` behind y, in standard operators. 16-bit types are cast to float32 and back.

    New names start with block.node. BatchNormalization with mean 0, variance 1 and epsilon 0 is
    exactly scale * y + bias.
    """
    assert block.epilogue is not None
    epilogue, write, half = block.epilogue, Writer(f"{block.node}/behind", opset), block.dtype in HALF
    residual = epilogue.residual
    if half:
        y = write.op("Cast", y, name="y_float", to=FLOAT)
        residual = residual and write.op("Cast", residual, name="residual_float", to=FLOAT)
    if epilogue.affine:
        like = np.ones_like(epilogue.scale)
        held = {"scale": epilogue.scale, "bias": epilogue.bias, "zeros": 0 * like, "ones": like}
        given = (write.constant(values, name, FLOAT) for name, values in held.items())
        y = write.op("BatchNormalization", y, *given, name="affine", epsilon=0.0)
    if residual is not None:
        y = write.op("Add", y, residual, name="with_residual")
    y = activated(write, y, epilogue.activation)
    if half:
        write.op("Cast", y, name="half", to=block.dtype)
    return write.nodes
