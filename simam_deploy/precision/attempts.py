"""A network with some of its layers converted: what layers cost is found with these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from simam_deploy.precision.calibrate import Calibration
from simam_deploy.precision.low_types import LowType
from simam_deploy.precision.quantise import quantise
from simam_deploy.precision.quantised import LayerRow
from simam_deploy.precision.slots import FLOAT
from simam_deploy.precision.to_low import Keep, to_low

Reasons = Mapping[str, str]
"""Name of a node -> why it stays float32."""


@dataclass(frozen=True)
class Attempt:
    """model : with float32 inputs and outputs.  layers : those that are converted."""

    model: ir.Model
    layers: tuple[LayerRow, ...]


Try = Callable[[Reasons, str | None], Attempt]
"""Makes an attempt: with these layers in float32, or with one alone converted."""


def int8_attempts(calibration: Calibration, target: str, keep_float: Reasons) -> Try:
    """Attempts of `quantise`. keep_float : nodes that stay float32 in all."""

    def made(kept: Reasons, only: str | None) -> Attempt:
        found = quantise(calibration, target, keep_float={**keep_float, **kept}, only=only)
        return Attempt(found.model, tuple(row for row in found.rows if not row.reason))

    return made


def low_attempts(model: ir.Model, low: LowType, keep: Keep, unfit: Mapping[str, str]) -> Try:
    """Attempts of `to_low` on a flat model, with its arguments. Every node is a layer: each rounds its result."""

    def made(kept: Reasons, only: str | None) -> Attempt:
        def stays(node: ir.Node) -> str:
            other = "" if only in (None, node.name) else "another one is asked for alone"
            return other or kept.get(str(node.name), "") or keep(node)

        found = to_low(model, low, keep=stays, unfit=unfit, keep_io=True)
        left = {row.node for row in found.kept}
        nodes = (node for node in model.graph.all_nodes() if any(v.dtype == FLOAT for v in node.outputs))
        layers = [node for node in nodes if node.name not in left]
        return Attempt(found.model, tuple(LayerRow(str(node.name), node.op_type, "") for node in layers))

    return made
