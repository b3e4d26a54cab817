"""Operators in a piece that may act only where no probe looks."""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx_ir as ir

from simam_deploy.match.dataflow import constant
from simam_deploy.match.op_sets import (
    FLOATS,
    KNOWN,
    MEASURES,
    PICKING,
    PIECEWISE,
    SHAPING,
    STATISTICS,
    UNEVEN,
    WIDE_INTEGERS,
    cast_to,
)
from simam_deploy.match.subgraph import Cut, is_simam_node

MOST_PERIOD = 64
"""Of remainders that sizes are judged for, one by one: networks pad to a multiple of 32 or 64."""


def doubts(cut: Cut) -> tuple[str, ...]:
    """Why no probe of `cut` can be trusted; empty if it can."""
    return (*_on_data(cut), *_on_sizes(cut))


def may_hide(node: ir.Node) -> str:
    """What is said of an operator on data whose work no probe may show."""
    return f"{node.op_type} {node.name!r} may change values that no probe has"


def period(cut: Cut) -> int:
    """After how many sizes the remainders in what `cut` computes of sizes come again; 1 where it takes none.

    More than MOST_PERIOD, and those by no constant, are left out: they are doubts.
    """
    found = 1
    for node in cut.around:
        if node.op_type == "Mod" and cut.sizes and math.lcm(found, by := _divisor(node)) <= MOST_PERIOD:
            found = math.lcm(found, by)
    return found


def _divisor(node: ir.Node) -> int:
    """What a Mod divides by; a number too large where it is no constant above 0."""
    tensor = None if len(node.inputs) < 2 or node.inputs[1] is None else constant(node.inputs[1])
    if tensor is None or tensor.size != 1 or tensor.dtype not in WIDE_INTEGERS:
        return MOST_PERIOD + 1
    by = int(tensor.numpy().reshape(()))
    return by if 0 < by <= MOST_PERIOD else MOST_PERIOD + 1


def _on_data(cut: Cut) -> Iterator[str]:
    for node in cut.flat:
        here = "" if node in cut.inside else "in the body of a function, "
        to = cast_to(node)
        if node in cut.two_sided:  # these show both their sides, or not: judge.py
            continue
        if node.op_type in PIECEWISE or (to is not None and to not in FLOATS):
            yield f"{here}{may_hide(node)}"
        elif node.op_type in PICKING and here:
            yield f"{here}{node.op_type} {node.name!r} picks out a part of x"
        elif node.op_type not in KNOWN and not is_simam_node(node):
            yield f"{here}{node.op_type} {node.name!r} is not known"


def _on_sizes(cut: Cut) -> Iterator[str]:
    """Numbers computed of sizes that may be others at a size that is not tried. Shapes and axes may."""
    repeats = period(cut)
    of_sizes: set[ir.Value] = set()
    doubtful: dict[ir.Value, ir.Node] = {}
    for node in cut.around:
        inputs = [v for v in node.inputs if v is not None]
        if node.op_type in MEASURES or any(v in of_sizes or v.producer() in cut.sizes for v in inputs):
            of_sizes.update(node.outputs)
            judged = node.op_type == "Mod" and repeats % _divisor(node) == 0
            cause = (
                node
                if _is_uneven(node) and not judged
                else next((doubtful[v] for v in inputs if v in doubtful), None)
            )
            if cause is not None:
                doubtful.update((v, cause) for v in node.outputs)
    for node in cut.inside:
        takes_shapes = node.op_type in SHAPING | PICKING | STATISTICS
        for v in node.inputs[:1] if takes_shapes else node.inputs:
            if v in doubtful:
                yield f"{doubtful[v].op_type} {doubtful[v].name!r} may give another number at other sizes"


def _is_uneven(node: ir.Node) -> bool:
    to = cast_to(node)
    has_upper_bound = node.op_type == "Clip" and len(node.inputs) > 2 and node.inputs[2] is not None
    return node.op_type in UNEVEN or has_upper_bound or (to is not None and to not in FLOATS + WIDE_INTEGERS)
