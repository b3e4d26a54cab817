"""Whether a network takes inputs of given sizes, from shapes alone."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import onnx

from simam_deploy.graph.shapes.propagate import Refusal, first_output, propagate_with_refusals
from simam_deploy.graph.shapes.skeleton import infer
from simam_deploy.graph.shapes.types import StaticShape

TypedShapes = dict[str, tuple[int, StaticShape]]
_WINDOWS = ("AveragePool", "Conv", "ConvInteger", "ConvTranspose", "DeformConv", "LpPool", "MaxPool", "QLinearConv")
_SHAPE = "[ShapeInferenceError] "
_PREFIX = re.compile(r"\(op_type:([^,()]*)(?:, node name: (.*?))?\): (\[\w+\] )", re.DOTALL)


def inferred_with_refusal(model: onnx.ModelProto) -> tuple[onnx.ModelProto, TypedShapes, Refusal | None]:
    """onnx's inference, the shapes of `propagate`, and the first node that refuses its inputs.

    model : a skeleton with fixed input sizes.
    """
    error = ""
    try:
        inferred = infer(model, strict=True)
    except Exception as raised:  # of many types
        error = str(raised)
        inferred = infer(model)
    exact, refused = propagate_with_refusals(inferred)
    shapes = {name: shape for name, (_, shape) in exact.items()}
    for node in inferred.graph.node:
        refusal = refused.get(first_output(node))
        if refusal is not None and refusal.reason.startswith(_SHAPE):  # not: of types
            return inferred, exact, refusal._replace(reason=refusal.reason.removeprefix(_SHAPE).strip())
        if (misfit := _misfit(node, shapes)) is not None:
            return inferred, exact, misfit
    return inferred, exact, _told(error) if error else None


def _misfit(node: onnx.NodeProto, shapes: Mapping[str, StaticShape]) -> Refusal | None:
    """Sizes that onnx's inference lets pass."""
    x, y = (shapes.get(names[0]) if names else None for names in (node.input, node.output))
    if node.domain or x is None or y is None:
        return None
    reason = ""
    if node.op_type == "Reshape" and math.prod(x) != math.prod(y):
        reason = f"{math.prod(x)} values do not fill {'x'.join(map(str, y))}"
    elif node.op_type in _WINDOWS and min(y, default=1) < 1 <= min(x, default=1):
        reason = f"its window is larger than that: {'x'.join(map(str, y))} would be left"
    elif node.op_type == "SpaceToDepth":
        size = next((a.i for a in node.attribute if a.name == "blocksize"), 1)
        if any(side % size for side in x[2:]):
            reason = f"the sides are no multiples of {size}"
    return Refusal.of(node, [x], reason) if reason else None


def _told(error: str) -> Refusal | None:
    """The refusal of a node in a subgraph, from the words of onnx's inference. A node without a name has none."""
    found = list(_PREFIX.finditer(error))
    if not found or found[-1][3] != _SHAPE:
        return None
    return Refusal(found[-1][2] or "", found[-1][1], (), error[found[-1].end() :].strip())
