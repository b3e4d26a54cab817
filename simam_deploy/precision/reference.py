"""The low reference: how near a network of a 16-bit type can come to the truth. See compare/limits.py."""

from __future__ import annotations

from contextlib import suppress

import onnx_ir as ir

from simam_deploy.errors import NoBlockError
from simam_deploy.formula import OP_DOMAIN
from simam_deploy.graph.onnx_file import half_types
from simam_deploy.graph.round_low import to_float32
from simam_deploy.precision.low_types import LowType
from simam_deploy.precision.to_low import to_low
from simam_deploy.rewrite.fuse import fuse

STORED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that read and write 16-bit values in the reference, besides ours."""


def low_reference(model: ir.Model, low: LowType) -> ir.Model:
    """`model` with 16-bit weights, and 16-bit inputs and outputs of convolutions, matrix products and SimAM.

    All else is float32, whatever the model says. Raises InputError as `to_low`.
    """
    wide = to_float32(model) if half_types(model) else model
    with suppress(NoBlockError):
        wide = fuse(wide, "function").model

    def keep(node: ir.Node) -> str:
        return "" if node.op_type in STORED or node.domain == OP_DOMAIN else "between stored values"

    return to_low(wide, low, keep=keep).model
