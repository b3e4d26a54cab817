"""The sites of a network that sum, square or divide: where 16 bits may overflow, underflow or cancel.

A site is a SimAM block, or a reduction with the elementwise nodes that belong to it: those in front that centre and
square, and those behind on the reduced values, up to the node that brings them back to the whole map. So the variance
and the division of a hand-written LayerNorm, a GRN or an L2 norm are one site. Softmax and the normalizations of ONNX
are sites of one node. Reductions that share a node are one site.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from simam_deploy.block import Block, Found
from simam_deploy.graph.number_types import UP_TO_32_BITS
from simam_deploy.text import on_one_line

REDUCTIONS = frozenset(
    {
        *("ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp"),
        *("ReduceProd", "GlobalAveragePool", "GlobalLpPool", "LpPool", "CumSum", "Einsum"),
    }
)
WHOLE = frozenset(
    {
        *("Softmax", "LogSoftmax", "InstanceNormalization", "LayerNormalization", "GroupNormalization"),
        *("RMSNormalization", "LpNormalization", "MeanVarianceNormalization", "LRN", "SimplifiedLayerNormalization"),
    }
)
"""Operators that hold a whole site."""
IN_FRONT = frozenset(("Sub", "Pow", "Mul", "Abs", "Neg", "Cast", "Identity"))
BEHIND = frozenset(
    {
        *("Add", "Sub", "Mul", "Div", "Sqrt", "Pow", "Reciprocal", "Max", "Clip", "Abs", "Neg", "Cast", "Identity"),
        *("Reshape", "Unsqueeze", "Squeeze", "Expand", "Exp", "Log"),
    }
)
MOST_IN_FRONT = 3
"""Centring and squaring take two nodes, and a cast."""


@dataclass(frozen=True, eq=False)
class Site:
    """A part of the main graph.

    node : name of its last node.  kind : SimAM, or the operators that reduce.
    nodes : in graph order.  inputs, outputs : values that enter and leave it, outputs floats; weights are no inputs.
    """

    node: str
    kind: str
    nodes: tuple[ir.Node, ...]
    inputs: tuple[ir.Value, ...]
    outputs: tuple[ir.Value, ...]
    block: Block | None = None


def find_sites(model: ir.Model, found: Found) -> list[Site]:
    """All sites of the main graph of `model`, in graph order. found : its SimAM blocks."""
    order = {node: at for at, node in enumerate(model.graph)}
    blocks = [block for block in found.blocks if block.inside[-1] in order]
    taken = {node for block in blocks for node in block.inside}
    groups = [set(block.inside) for block in blocks]
    others = list(_merged(_regions(model.graph, taken)))
    sites = [_site(group, order, block) for group, block in zip(groups, blocks, strict=True)]
    sites += [_site(group, order, None) for group in others]
    return sorted((site for site in sites if site.inputs and site.outputs), key=lambda site: order[site.nodes[-1]])


def _regions(graph: ir.Graph, taken: set[ir.Node]) -> Iterator[set[ir.Node]]:
    for node in graph:
        if node in taken or node.domain or not _is_float(node.outputs[0]):
            continue
        if node.op_type in WHOLE:
            yield {node}
        elif node.op_type in REDUCTIONS:
            yield {node} | _in_front(node, graph, taken) | _behind(node, graph, taken)


def _in_front(node: ir.Node, graph: ir.Graph, taken: set[ir.Node]) -> set[ir.Node]:
    found: set[ir.Node] = set()
    front = node
    for _ in range(MOST_IN_FRONT):
        value = front.inputs[0] if front.inputs else None
        producer = None if value is None else value.producer()
        if producer is None or producer in taken or producer.graph is not graph or producer.op_type not in IN_FRONT:
            break
        found.add(producer)
        front = producer
    return found


def _behind(node: ir.Node, graph: ir.Graph, taken: set[ir.Node]) -> set[ir.Node]:
    """Nodes on the reduced values, and those that bring them back to a larger value."""
    found: set[ir.Node] = set()
    reduced = {node.outputs[0]}
    queue = [node.outputs[0]]
    while queue:
        for use in queue.pop().uses():
            user = use.node
            fits = user.graph is graph and user not in taken and not user.domain and user.op_type in BEHIND
            if not fits or user in found:
                continue
            found.add(user)
            others = [v for v in user.inputs if v is not None and v not in reduced]
            if all(_is_constant(v) for v in others):
                reduced.add(user.outputs[0])
                queue.append(user.outputs[0])
    return found


def _merged(regions: Iterable[set[ir.Node]]) -> list[set[ir.Node]]:
    """Regions that share a node become one."""
    merged: list[set[ir.Node]] = []
    for region in regions:
        whole = set(region)
        apart = []
        for other in merged:
            if other & whole:
                whole |= other
            else:
                apart.append(other)
        merged = [*apart, whole]
    return merged


def _site(group: set[ir.Node], order: dict[ir.Node, int], block: Block | None) -> Site:
    nodes = tuple(sorted(group, key=lambda node: order.get(node, -1)))
    made = {value for node in nodes for value in node.outputs}
    inputs = dict.fromkeys(
        value
        for node in nodes
        for value in node.inputs
        if value is not None and value not in made and not _is_constant(value)
    )
    leaving = tuple(
        value
        for node in nodes
        for value in node.outputs
        if _is_float(value) and (value.is_graph_output() or any(use.node not in group for use in value.uses()))
    )
    kind = "SimAM"
    if block is None:
        ops = (node.op_type for node in nodes if node.op_type in REDUCTIONS | WHOLE)
        kind = "+".join(dict.fromkeys(ops))
    last = nodes[-1]
    name = block.node if block is not None else last.name or str(last.outputs[0].name)
    outputs = leaving if block is None else tuple(v for v in leaving if v is block.y) or leaving
    return Site(on_one_line(name), kind, nodes, tuple(inputs), outputs, block)


def _is_constant(value: ir.Value) -> bool:
    producer = value.producer()
    return value.const_value is not None or (producer is not None and producer.op_type == "Constant")


def _is_float(value: ir.Value) -> bool:
    return value.dtype in UP_TO_32_BITS
