"""The rank of a value whose shape is not known, from the convolutions and poolings around it."""

from __future__ import annotations

from itertools import islice

import onnx_ir as ir

from simam_deploy.graph.shapes import Shapes
from simam_deploy.match.op_sets import ELEMENTWISE, KEEPING_RANK

MOST_NODES = 200


def rank_near(value: ir.Value, shapes: Shapes) -> int | None:
    """The rank implied by the nearest convolution, pooling or known shape, across operators that keep the rank.

    None if there is none within MOST_NODES. Operators of other domains, such as FusedConv, count by their names.
    """
    queue, seen = [value], {value}
    nodes = 0
    while queue and nodes < MOST_NODES:
        value = queue.pop(0)
        dims = shapes.declared(value)
        if dims is not None:
            return len(dims)
        producer = value.producer()
        behind = (use.node for use in islice(value.uses(), MOST_NODES))
        for node in (*behind, *([] if producer is None else [producer])):
            nodes += 1
            given = _of_window(node, value, shapes)
            if given is not None:
                return given
            if node.op_type in ELEMENTWISE | KEEPING_RANK and not node.domain:
                near = [v for v in (node.inputs[0], node.outputs[0]) if v is not None and v not in seen]
                seen.update(near)
                queue += near
    return None


def _of_window(node: ir.Node, value: ir.Value, shapes: Shapes) -> int | None:
    """Rank of the data of a convolution or a pooling; None for its weights and for other nodes."""
    if value is not node.inputs[0] and value is not node.outputs[0]:
        return None
    if "Conv" in node.op_type and len(node.inputs) > 1 and node.inputs[1] is not None:
        weight = shapes.declared(node.inputs[1])
        return None if weight is None else len(weight)
    window = node.attributes.get("kernel_shape") if "Pool" in node.op_type else None
    return None if window is None or window.is_ref() else len(window.as_ints()) + 2
