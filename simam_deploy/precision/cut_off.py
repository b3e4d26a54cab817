"""Layers whose result is mostly cut off, by a ReLU6 above all: what is left has the roundings of what was cut.

A convolution rounds its weights, and its sum, to half a unit of its largest products. If these reach 500 and Clip
leaves 6 of it, the sum is off by 1e-1 where it is between 0 and 6: 80 times the rounding of 6 itself. Pictures of 0
to 255 do so to the first layer of a MobileNetV2, and that one layer in float32 gains 8 dB.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from simam_deploy.formula import OP_DOMAIN
from simam_deploy.precision.targets import LAYERS

CUTS = frozenset(("Clip", "HardSigmoid", "Relu", "Sigmoid", "Tanh"))
"""Operators whose result may be far smaller than what enters."""
BETWEEN = frozenset(("Add", "BatchNormalization", "Div", "Identity", "Mul", "Sub"))
"""Operators that may stand between a layer and one of CUTS; SimAM too."""
CUT = 32.0
"""Ratio from which a layer stays in float32: 5 of float16's 11 bits are lost. SiLU and class scores stay below."""
MOST_BETWEEN = 4


def cut_off(model: ir.Model, peaks: Mapping[str, float]) -> dict[str, str]:
    """Values of the main graph from such a layer to the operator that cuts -> reason. peaks : of each value."""
    found: dict[str, str] = {}
    for node in model.graph:
        if node.domain or node.op_type not in CUTS or node.inputs[0] is None:
            continue
        entering, left = (peaks.get(str(value.name), 0.0) for value in (node.inputs[0], node.outputs[0]))
        if left and entering >= CUT * left and (path := _path(node.inputs[0], peaks)):
            reason = (
                f"{path[0]!r} reaches {entering:.3g}, and {node.op_type} leaves {left:.3g} of it, with the roundings "
                "of what is cut off"
            )
            found.update(dict.fromkeys(path, reason))
    return found


def _path(value: ir.Value | None, peaks: Mapping[str, float]) -> list[str]:
    """From a value back to the result of a layer, if nothing else uses them; else empty."""
    found: list[str] = []
    while value is not None and len(value.uses()) == 1 and not value.is_graph_output() and len(found) <= MOST_BETWEEN:
        found.append(str(value.name))
        node = value.producer()
        if node is None:
            break
        if node.op_type in LAYERS and not node.domain:
            return found
        if node.op_type not in BETWEEN and node.domain != OP_DOMAIN:
            break
        value = max((v for v in node.inputs if v is not None), key=lambda v: peaks.get(str(v.name), 0.0))
    return []
