"""The low reference: how near a network of a 16-bit type can come to the truth. See compare/limits.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

import onnx_ir as ir

from simam_deploy.errors import NoBlockError
from simam_deploy.formula import Array
from simam_deploy.graph.onnx_file import half_types
from simam_deploy.graph.round_low import to_float32
from simam_deploy.precision.flat import flat
from simam_deploy.precision.low_types import LowType
from simam_deploy.precision.peaks import beyond, peaks_of
from simam_deploy.precision.sites import REDUCTIONS, WHOLE
from simam_deploy.precision.to_low import to_low
from simam_deploy.rewrite.fuse import fuse

WIDE = REDUCTIONS | WHOLE | {"Div", "Exp", "Log", "Pow", "Reciprocal", "Softplus", "Sqrt", "Sub"}
"""Operators that overflow, cancel, or lose digits: float32 in the reference."""


def low_reference(model: ir.Model, low: LowType, feeds: Iterable[Mapping[str, Array]] = ()) -> ir.Model:
    """`model` in a low type, with SimAM as a node of ours, and all that is delicate in float32, whatever it was.

    Delicate are the operators of WIDE, constants that do not fit, and what is beyond the type on `feeds`.
    Raises InputError as `to_low`.
    """
    wide = to_float32(model) if half_types(model) else model
    with suppress(NoBlockError):
        wide = fuse(wide, "function").model
    wide, _ = flat(wide)
    unfit = beyond(peaks_of(wide, feeds), low)

    def keep(node: ir.Node) -> str:
        return "delicate" if node.op_type in WIDE else ""

    return to_low(wide, low, keep=keep, unfit=unfit).model
