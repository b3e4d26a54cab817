"""Unique names for new nodes and values. ONNX Runtime refuses two nodes, or two values, of one name in a graph.

All others keep their names. A scope is a graph or a function, with the graphs inside its If and Loop nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import onnx_ir as ir

from simam_deploy.block import Block
from simam_deploy.rewrite.functions import NameScope


def name_blocks(scope: NameScope, blocks: Sequence[Block]) -> list[Block]:
    """Give each of `blocks` in `scope` a unique name (`block.node`)."""
    theirs = {node for block in blocks for node in block.inside if node.name == block.node}
    taken = {node.name for node in scope.all_nodes() if node not in theirs}
    return [replace(block, node=_free(block.node, taken)) for block in blocks]


def make_unique(scope: NameScope, written: Collection[ir.Node], inner: Collection[ir.Value]) -> None:
    """Rename the nodes of `written` and the values of `inner` whose name occurs elsewhere in `scope`."""
    everything = list(scope.all_nodes())
    graphs = [scope, *scope.subgraphs()]
    values = {value.name for graph in graphs for value in graph.inputs}
    values |= {v.name for graph in graphs if isinstance(graph, ir.Graph) for v in graph.initializers.values()}
    values |= {value.name for node in everything for value in node.outputs if value not in inner}
    nodes = {node.name for node in everything if node not in written}
    for node in everything:
        if node in written:
            node.name = _free(str(node.name), nodes)
        for value in node.outputs:
            if value in inner:
                value.name = _free(str(value.name), values)


def _free(name: str, taken: set[str | None]) -> str:
    """Append underscores to `name` until it is not in `taken`; add it there."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name
