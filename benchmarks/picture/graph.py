"""The nodes of one SimAM block in a file that Ultralytics exported, before and after `fuse`."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from benchmarks.picture.svg import Card
from simam_deploy.graph import onnx_file
from simam_deploy.match.find import find
from simam_deploy.rewrite.fuse import fuse

FILE = "yolo11n-17-dynamic-slim.onnx"
STEP, TOP, BOX = 36, 96, (96, 24)
"""Pixels from one rank to the next, of the first, and of a box."""
LANES = (190, 320, 430)
AFTER = 640
ROUTES = (70, 92, 114)
"""Where edges that pass by others run down."""


def picture() -> str:
    """The SVG."""
    (path,) = (Path(__file__).parents[2]).glob(f"tests/**/{FILE}")
    model = onnx_file.load(path)
    fused = fuse(model).model
    block = find(model).blocks[0]
    first = block.x.producer()
    assert first is not None
    nodes = [first, *_between(block.x, block.y)]
    ranks = _ranks(nodes)
    card = Card(800, TOP + STEP * max(ranks.values()) + 40, "One SimAM block before and after fuse")
    card.text(30, 36, f"Before: SimAM as the exporter writes it, {len(nodes) - 1} nodes", size=15)
    card.text(AFTER - 120, 36, "After: one node", size=15)
    card.text(30, 58, f"the whole file: {len(list(model.graph))} nodes", color="faint")
    card.text(AFTER - 120, 58, f"the whole file: {len(list(fused.graph))} nodes", color="faint")
    places = _places(nodes, ranks)
    _edges(card, nodes, ranks, places)
    for node in nodes:
        _node(card, *places[node], node.op_type)
    _after(card, fused, first.op_type, block.node)
    return card.svg()


def _between(x: ir.Value, y: ir.Value) -> list[ir.Node]:
    """The nodes on the way from x to y, in graph order."""
    found: set[ir.Node] = set()
    queue = [y]
    while queue:
        value = queue.pop()
        node = value.producer()
        if value is not x and node is not None and node not in found:
            found.add(node)
            queue += [v for v in node.inputs if v is not None]
    graph = next(iter(found)).graph
    assert graph is not None
    return [node for node in graph if node in found]


def _ranks(nodes: list[ir.Node]) -> dict[ir.Node, int]:
    """The longest way from the first node."""
    ranks: dict[ir.Node, int] = {}
    for node in nodes:
        before = [ranks[p] for v in node.inputs if v is not None and (p := v.producer()) in ranks]
        ranks[node] = 1 + max(before) if before else 0
    return ranks


def _places(nodes: list[ir.Node], ranks: dict[ir.Node, int]) -> dict[ir.Node, tuple[float, float]]:
    """The middle of each box. Nodes that compute sizes stand beside those on data."""
    sizes: set[ir.Node] = set()
    for node in nodes:
        made_of = [v.producer() for v in node.inputs if v is not None and v.producer() in ranks]
        if node.op_type == "Shape" or (made_of and all(p in sizes for p in made_of)):
            sizes.add(node)
    places: dict[ir.Node, tuple[float, float]] = {}
    for node in nodes:
        lane = int(node in sizes)
        y = TOP + STEP * ranks[node]
        while (LANES[lane], y) in places.values():
            lane += 1
        places[node] = (LANES[lane], y)
    return places


def _edges(
    card: Card, nodes: list[ir.Node], ranks: dict[ir.Node, int], places: dict[ir.Node, tuple[float, float]]
) -> None:
    half = BOX[1] / 2
    by_others: list[tuple[float, float]] = []
    for node in nodes:
        for producer in dict.fromkeys(v.producer() for v in node.inputs if v is not None and v.producer() in ranks):
            assert producer is not None
            (x0, y0), (x1, y1) = places[producer], places[node]
            if x0 != x1:
                y2, y3 = y0 + half, y1 - half
                card.line(f"M{x0},{y2} C{x0},{y2 + 14} {x1},{y3 - 14} {x1},{y3}", arrow=True)
            elif any(x == x0 and y0 < y < y1 for x, y in places.values()):
                by_others.append((y0, y1))
            else:
                card.line(f"M{x0},{y0 + half} V{y1 - half}", arrow=True)
    x = LANES[0] - BOX[0] / 2
    for left, (y0, y1) in zip(ROUTES, sorted(by_others, key=lambda ends: ends[0] - ends[1]), strict=True):
        bend = f"Q{left},{y0} {left},{y0 + 8} V{y1 - 8} Q{left},{y1} {left + 8},{y1}"
        card.line(f"M{x},{y0} H{left + 8} {bend} H{x}", arrow=True)


def _node(card: Card, x: float, y: float, name: str, *, ours: bool = False) -> None:
    width, height = BOX
    card.box(x - width / 2, y - height / 2, width, height, "ours" if ours else "box", line="ours" if ours else "line")
    card.text(x, y + 4, name, color="on" if ours else "text", size=12, anchor="middle")


def _after(card: Card, fused: ir.Model, first: str, name: str) -> None:
    (node,) = (node for node in fused.graph if node.name == name)
    body = fused.functions[node.op_identifier()]
    y = TOP + STEP * 2
    card.line(f"M{AFTER},{TOP + BOX[1] / 2} V{y - BOX[1] / 2}", arrow=True)
    _node(card, AFTER, TOP, first)
    _node(card, AFTER, y, node.op_type, ours=True)
    lines = [
        f"{node.domain}::{node.op_type}, e_lambda = {node.attributes['e_lambda'].as_float():g}",
        "A kernel of that name takes the node.",
        "Without one, its fallback definition runs:",
        f"{len(list(body))} nodes, once in the file for all blocks.",
    ]
    for at, line in enumerate(lines):
        card.text(AFTER, y + 44 + 20 * at, line, color="faint", anchor="middle")
