"""Reasons in the file itself why a node stays in float32: its constants, and sizes. No samples are needed.

Constants. One that the type cannot hold keeps its node in float32. Its result may not fit either: x + -1e9 is -1e9 in
a masked attention, and max(x, 1e-12) in front of a division is 1e-12 where x is 0. In float16 the first becomes -inf,
and a row of those NaN; the second becomes 0. So the users of such a result stay too, and theirs, up to an operator
whose result is of another kind: a division, a softmax, a convolution.
A divisor is judged number by number, as a channel with a variance of 1e-12 would be divided by 0. Elsewhere small
numbers beside larger ones count as 0: they are below the rounding of a sum.

Sizes. Numbers that are computed from shapes may be large and are used as indices: H * W of a picture of 320x320 is
beyond float16, and 2049 becomes 2048. So they stay float32, and so does a node that takes one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from simam_deploy.match.op_sets import MEASURES, ON_SIZES, PICKING, SHAPING
from simam_deploy.precision.low_types import LowType
from simam_deploy.precision.slots import FLOAT, Slots

DIVISORS = {"Div": 1, "Mod": 1, "QuantizeLinear": 1, "Reciprocal": 0}
"""Index of the input that divides."""
BATCH_NORM_VARIANCE = 4
SUMS = frozenset(("Add", "Sub", "Sum"))
_MOVES = SHAPING | PICKING | {"Cast", "Identity", "Neg"}
LARGE = _MOVES | SUMS | {"Abs", "Mul", "Pad", "ScatterElements", "ScatterND", "Where"}
"""Operators that pass on a number that is too large."""
SMALL = _MOVES | {"Clip", "Log", "Max", "Mul", "Pow", "Reciprocal", "Sqrt"}
"""Operators that pass on a number that is too small."""
GUARDS = SUMS | {"Clip", "Max", "Where"}
"""Operators that set a lower limit, if one of their constants is small. A product with one is just small."""

FROM_SIZES = ON_SIZES - {"ConstantOfShape", "Sqrt"}
"""Operators whose results are sizes too. A root of a size fits and is no index: attentions scale by it."""


def reasons(nodes: Sequence[ir.Node], slots: Mapping[ir.Node, Slots], low: LowType) -> dict[ir.Node, str]:
    """Node of `slots` -> why it stays in float32. nodes : all, each behind those that it uses."""
    found = dict.fromkeys(_on_sizes(nodes, slots), "works with numbers that are computed from sizes")
    for node in slots:
        for passes, starts, reason in _misfits(node, slots[node][0], low):
            found.setdefault(node, reason)
            if starts:
                _spread(node, passes, reason, slots, found)
    for node in nodes:
        filled = node.attributes.get_tensor("value") if node.op_type == "ConstantOfShape" else None
        if filled is not None and filled.dtype == FLOAT and (reason := low.beyond(filled.numpy())):
            _spread(node, LARGE, reason, slots, found)
    return found


def _misfits(node: ir.Node, takes: set[int], low: LowType) -> Iterator[tuple[frozenset[str], bool, str]]:
    """For each constant that does not fit: what passes it on, whether the result is of its kind, and the reason."""
    op = node.op_type
    for at, value in enumerate(node.inputs):
        if value is None or value.const_value is None or value.dtype != FLOAT or at not in takes:
            continue
        constant = value.const_value.numpy()
        divides = DIVISORS.get(op) == at
        if reason := low.beyond(constant, room=2 if op in SUMS else 1):
            yield LARGE, op in LARGE and not divides, reason
        elif divides or (op == "BatchNormalization" and at == BATCH_NORM_VARIANCE):
            epsilon = 0.0 if divides else node.attributes.get_float("epsilon", 1e-5)
            if reason := low.lost(constant, beside=epsilon):
                yield frozenset(), False, reason
        elif reason := low.faint(constant):
            yield SMALL, op in GUARDS, reason


def _spread(
    node: ir.Node, passes: frozenset[str], reason: str, slots: Mapping[ir.Node, Slots], found: dict[ir.Node, str]
) -> None:
    """Add the users of the results of `node`, and their users where they pass on the number."""
    queue, seen = list(node.outputs), set(node.outputs)
    while queue:
        value = queue.pop()
        for use in value.uses():
            user = use.node
            if user not in slots or use.idx not in slots[user][0]:
                continue
            found.setdefault(user, f"takes {value.name!r}: {reason}")
            alone = all(v is None or v is value or v.const_value is not None for v in user.inputs)
            if user.op_type in passes and (alone or (passes is LARGE and user.op_type != "Mul")):
                queue += [v for v in user.outputs if v not in seen]
                seen.update(user.outputs)


def _on_sizes(nodes: Sequence[ir.Node], slots: Mapping[ir.Node, Slots]) -> list[ir.Node]:
    """Nodes that make or take a float number computed from sizes."""
    sizes: set[ir.Value] = set()
    for node in nodes:
        if node.domain:
            continue
        if node.op_type in MEASURES:
            sizes.update(node.outputs)
        elif node.op_type in FROM_SIZES:
            moved = node.op_type in SHAPING | {"Gather", "Slice", "Split"}
            read = [v for v in node.inputs[: 1 if moved else None] if v is not None and v.const_value is None]
            if read and all(v in sizes for v in read):
                sizes.update(node.outputs)
    return [
        node
        for node, (takes, gives) in slots.items()
        if any(v in sizes and at in takes and v.dtype == FLOAT for at, v in enumerate(node.inputs))
        or any(v in sizes and at in gives and v.dtype == FLOAT for at, v in enumerate(node.outputs))
    ]
