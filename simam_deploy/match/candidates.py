"""Candidate subgraphs of an ONNX graph between x and y = x * gate(x): closed and without parameters.

`judge` checks whether one of them computes SimAM.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, replace
from heapq import heappop, heappush

import onnx_ir as ir

from simam_deploy.match.dataflow import MOST_NODES, Flow, constant, origin
from simam_deploy.match.op_sets import (
    GATES,
    IN_INFERENCE,
    MEASURES,
    NORMALIZATIONS,
    PASSING,
    STATISTICS,
)
from simam_deploy.match.subgraph import MOST_AROUND, MOST_NAMED, Subgraph, is_simam_node

MOST_WIDENINGS = 8
"""Upper bound on the casts, reshapes and Identities behind y that join the block. A second fuse takes the next."""


_HANDING_ON = IN_INFERENCE | {"Cast", "CastLike", "Identity"}


_NORMALIZED = NORMALIZATIONS | {"MeanVarianceNormalization"}


_SQUARES = NORMALIZATIONS | {"MeanVarianceNormalization", "Pow", "ReduceL2", "ReduceSumSquare"}


@dataclass(frozen=True)
class DeadEnd:
    """A subgraph that resembles SimAM but has more than one data input."""

    reason: str


def candidates_at(node: ir.Node, flow: Flow, ends: Set[ir.Value] = frozenset()) -> list[Subgraph] | DeadEnd:
    """Candidate subgraphs that end in `node`, or in a cast or reshape right behind it. Narrowest first, mostly one.

    ends : results of blocks. The search does not go past them.
    """
    if flow.gate(node) is None and not is_simam_node(node):
        return []
    y, *others = node.outputs
    if not _is_used(y) or any(
        _is_used(v) for v in others
    ):  # a call with more outputs stays: the search goes on in its body
        return []
    starts, dead_end = _starts(y, flow, ends)
    if not starts:
        return dead_end or []
    candidates = [_subgraph(x, y, nodes, flow) for x, nodes in starts[:1]]
    if not _has_deviations(candidates[0].flat, flow):
        return []
    behind: list[ir.Node] = []
    for further in _passed_on(y, flow):
        behind.append(further)
        candidates += [_subgraph(x, further.outputs[0], [*nodes, *behind], flow) for x, nodes in starts]
    return candidates


def gates_at(value: ir.Value, flow: Flow) -> list[Subgraph]:
    """Candidate subgraphs that compute `value` as the gate of one x. Narrowest first.

    A gate needs a mean and a variance, hence two reductions over a plane or one normalization.
    """
    starts, _ = _starts(value, flow, frozenset(), through=True)
    candidates = [_subgraph(x, value, nodes, flow) for x, nodes in starts]
    return [
        replace(subgraph, is_gate=True)
        for subgraph in candidates
        if _has_deviations(subgraph.flat, flow) and _gathers_twice(subgraph)
    ]


def _gathers_twice(subgraph: Subgraph) -> bool:
    operators = [node.op_type for node in subgraph.flat]
    return sum(op in STATISTICS for op in operators) > 1 or not _NORMALIZED.isdisjoint(operators)


def _is_used(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _starts(
    y: ir.Value, flow: Flow, ends: Set[ir.Value], *, through: bool = False
) -> tuple[list[tuple[ir.Value, list[ir.Node]]], DeadEnd | None]:
    """Candidates for x, with the nodes from x to y: values through which all data to y passes.

    Walks back from y, latest value first. Past the first candidate it follows casts and reshapes only, or every
    operator with `through`.
    """
    opened = {y}
    count = itertools.count()
    latest = [(-_position(y, flow), next(count), y)]
    stuck: set[ir.Value] = set()
    nodes: list[ir.Node] = []
    found: list[tuple[ir.Value, list[ir.Node]]] = []
    while opened:
        value = heappop(latest)[-1]
        if value not in opened:
            continue
        node = value.producer()
        if not stuck and len(opened) == 1 and _is_gated(nodes, flow):
            found.append((value, list(nodes)))
            passing = through or (node is not None and node.op_type in PASSING and not node.domain)
            if node is None or not passing or len(found) > MOST_WIDENINGS:
                break
        opened.discard(value)
        expandable = value not in ends and node is not None and (flow.known(node) or is_simam_node(node))
        if node is None or not expandable or len(nodes) >= MOST_NODES:
            stuck.add(value)
            if len(stuck) > 1 or found:
                break
            continue
        nodes.append(node)
        flow.steps += 1
        opened.difference_update(node.outputs)
        for v in flow.data(node):
            if v not in stuck and v not in opened:
                opened.add(v)
                heappush(latest, (-_position(v, flow), next(count), v))
    return found, None if found or stuck & ends else _dead_end(nodes, {*stuck, *opened}, flow)


def _position(value: ir.Value, flow: Flow) -> int:
    node = value.producer()
    return -1 if node is None else flow.order[node]


def _is_gated(nodes: list[ir.Node], flow: Flow) -> bool:
    operators: set[str] = set()
    for node in nodes:
        if is_simam_node(node):
            return True
        body = flow.body(node)
        operators |= {node.op_type} if body is None else body.operators
    return bool(operators & GATES and operators & STATISTICS)


def _dead_end(nodes: list[ir.Node], left: set[ir.Value], flow: Flow) -> DeadEnd | None:
    """The dead end to report for a gate on a statistic of squares that depends on several values."""
    if len(left) < 2 or not _has_deviations(nodes, flow) or not _is_gated(nodes, flow):
        return None
    made = sorted((_position(v, flow), str(v.name), v.producer()) for v in left)
    named = ", ".join(f"{name!r} ({'an input' if n is None else n.op_type})" for _, name, n in made[:MOST_NAMED])
    named += f" and {len(made) - MOST_NAMED:,} more" if len(made) > MOST_NAMED else ""
    return DeadEnd(f"it is made of more than one value: {named}; SimAM is made of x alone")


def _has_deviations(nodes: Iterable[ir.Node], flow: Flow) -> bool:
    """Whether a node subtracts data from data, or squares data. Squeeze-and-excitation does neither."""
    for node in nodes:
        twice = node.op_type == "Mul" and len({same_numbers(value, flow) for value in node.inputs}) == 1
        if twice or node.op_type in _SQUARES or is_simam_node(node):
            return True
        if node.op_type == "Sub" and len(flow.data(node)) == 2:
            return True
    return False


def same_numbers(value: ir.Value | None, flow: Flow) -> ir.Value | None:
    """The value in front of casts, Identities and idle Dropouts that has the numbers of `value`."""
    for _ in range(MOST_WIDENINGS):
        node = None if value is None else value.producer()
        if node is None or node.domain or node.op_type not in _HANDING_ON or not flow.known(node):
            break
        value = node.inputs[0]
    return value


def _passed_on(y: ir.Value, flow: Flow) -> Iterator[ir.Node]:
    """The chain of casts and reshapes behind y, as long as each value has one use."""
    for _ in range(MOST_WIDENINGS):
        uses = [use for use in y.uses() if use.node.op_type not in MEASURES]
        if len(uses) != 1 or y.is_graph_output():
            return
        node = uses[0].node
        if node.op_type not in PASSING or node.domain or flow.data(node) != [y] or node.graph is not _graph(y):
            return
        yield node
        y = node.outputs[0]


def _graph(y: ir.Value) -> ir.Graph | None:
    node = y.producer()
    return None if node is None else node.graph


def _subgraph(x: ir.Value, y: ir.Value, nodes: list[ir.Node], flow: Flow) -> Subgraph:
    inside = sorted(nodes, key=flow.order.__getitem__)
    made = {v for node in inside for v in node.outputs} | {x}
    around: dict[ir.Node, None] = {}
    constants: dict[ir.Value, None] = {}
    sizes: dict[ir.Node, None] = {}
    queue = [v for node in inside for v in node.inputs if v is not None and v in flow.fixed]
    while queue and len(around) <= MOST_AROUND:
        value = queue.pop()
        node = value.producer()
        if constant(value) is not None:
            constants[value] = None
        elif node is not None and node not in around and node not in sizes:
            if node.op_type in MEASURES and node.inputs[0] not in made:
                sizes[node] = None
            else:
                around[node] = None
                queue += [v for v in node.inputs if v is not None and v in flow.fixed]
    return Subgraph(
        x,
        y,
        tuple(inside),
        tuple(sorted(around, key=flow.order.__getitem__)),
        tuple(sorted(sizes, key=flow.order.__getitem__)),
        tuple(constants),
        tuple(str(v.name) for v in dict.fromkeys(map(origin, constants)) if v in flow.defaults),
        tuple(_flat(inside, flow)),
    )


def _flat(nodes: Iterable[ir.Node], flow: Flow, fixed: frozenset[ir.Value] = frozenset()) -> Iterator[ir.Node]:
    """The data nodes, with each function call replaced by the data nodes of its body.

    fixed : inputs of the enclosing function that do not depend on data in this call.
    """
    for node in nodes:
        function = flow.model.functions.get(node.op_identifier())
        if function is None or flow.body(node) is None:
            yield node
            continue
        given = dict(zip(function.inputs, node.inputs, strict=False))
        still = {inner for inner, v in given.items() if v is None or v in flow.fixed or v in fixed}
        steps = []
        for step in function.all_nodes():
            if step.op_type in MEASURES or all(v in still for v in flow.data(step)):
                still.update(step.outputs)
            else:
                steps.append(step)
        yield from _flat(steps, flow, frozenset(still))
