"""Operators in a subgraph that may act outside the probes alone."""

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
from simam_deploy.match.subgraph import Subgraph, is_simam_node

MOST_PERIOD = 64
"""Upper bound on the remainders of a size that are checked one by one. Networks pad to multiples of 32 or 64."""


def doubts(subgraph: Subgraph) -> tuple[str, ...]:
    """Reasons why probes cannot check `subgraph`; empty if they can."""
    return (*_on_data(subgraph), *_on_sizes(subgraph))


def may_hide(node: ir.Node) -> str:
    """Reason against an operator on data whose effect the probes may miss."""
    return f"{node.op_type} {node.name!r} may change values that no probe has"


def period(subgraph: Subgraph) -> int:
    """Period of the remainders that `subgraph` computes from sizes; 1 without any.

    Excludes periods above MOST_PERIOD and divisors that are no constant: `doubts` reports these.
    """
    found = 1
    for node in subgraph.around:
        if node.op_type == "Mod" and subgraph.sizes and math.lcm(found, by := _divisor(node)) <= MOST_PERIOD:
            found = math.lcm(found, by)
    return found


def _divisor(node: ir.Node) -> int:
    """The divisor of a Mod; MOST_PERIOD + 1 unless it is a constant from 1 to MOST_PERIOD."""
    tensor = None if len(node.inputs) < 2 or node.inputs[1] is None else constant(node.inputs[1])
    if tensor is None or tensor.size != 1 or tensor.dtype not in WIDE_INTEGERS:
        return MOST_PERIOD + 1
    by = int(tensor.numpy().reshape(()))
    return by if 0 < by <= MOST_PERIOD else MOST_PERIOD + 1


def _on_data(subgraph: Subgraph) -> Iterator[str]:
    for node in subgraph.flat:
        here = "" if node in subgraph.inside else "in the body of a function, "
        to = cast_to(node)
        if node in subgraph.two_sided:  # judge.py checks that both branches are reached
            continue
        if node.op_type in PIECEWISE or (to is not None and to not in FLOATS):
            yield f"{here}{may_hide(node)}"
        elif node.op_type in PICKING and here:
            yield f"{here}{node.op_type} {node.name!r} picks out a part of x"
        elif node.op_type not in KNOWN and not is_simam_node(node):
            yield f"{here}{node.op_type} {node.name!r} is not known"


def _on_sizes(subgraph: Subgraph) -> Iterator[str]:
    """Numbers computed from sizes that may differ at a size without a probe. Shapes and axes may differ."""
    repeats = period(subgraph)
    of_sizes: set[ir.Value] = set()
    doubtful: dict[ir.Value, ir.Node] = {}
    for node in subgraph.around:
        inputs = [v for v in node.inputs if v is not None]
        if node.op_type in MEASURES or any(v in of_sizes or v.producer() in subgraph.sizes for v in inputs):
            of_sizes.update(node.outputs)
            judged = node.op_type == "Mod" and repeats % _divisor(node) == 0
            cause = (
                node
                if _is_uneven(node) and not judged
                else next((doubtful[v] for v in inputs if v in doubtful), None)
            )
            if cause is not None:
                doubtful.update((v, cause) for v in node.outputs)
    for node in subgraph.inside:
        takes_shapes = node.op_type in SHAPING | PICKING | STATISTICS
        for v in node.inputs[:1] if takes_shapes else node.inputs:
            if v in doubtful:
                yield f"{doubtful[v].op_type} {doubtful[v].name!r} may give another number at other sizes"


def _is_uneven(node: ir.Node) -> bool:
    to = cast_to(node)
    has_upper_bound = node.op_type == "Clip" and len(node.inputs) > 2 and node.inputs[2] is not None
    return node.op_type in UNEVEN or has_upper_bound or (to is not None and to not in FLOATS + WIDE_INTEGERS)
