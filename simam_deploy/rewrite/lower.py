"""Replace blocks by the nodes of a form. Removes only nodes that no other node uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType

import onnx_ir as ir

from simam_deploy.block import Block
from simam_deploy.match.op_sets import PASSING
from simam_deploy.rewrite.forms import epilogue as epilogue_form
from simam_deploy.rewrite.functions import scope_of, scopes
from simam_deploy.rewrite.unique_names import make_unique, name_blocks


@dataclass(frozen=True)
class Lowered:
    """Result of the lowering."""

    sources: tuple[Block, ...]
    """The original blocks, with the names of the new nodes."""
    blocks: tuple[Block, ...]
    """The same blocks in the new model."""
    nodes: frozenset[ir.Node]
    """All new nodes."""
    inner: frozenset[ir.Value]
    """Values between the new nodes."""
    notes: tuple[str, ...]


def lower(model: ir.Model, blocks: Sequence[Block], form: ModuleType, *, epilogue: bool) -> Lowered:
    """Write `blocks` of `model` in `form`, in place.

    epilogue : write an epilogue inside the node; otherwise in standard operators behind it.
    """
    sources = [
        named
        for scope in scopes(model)
        for named in name_blocks(scope, [block for block in blocks if scope_of(block, model) is scope])
    ]
    types = {block.dtype for block in sources}
    nodes: set[ir.Node] = set()
    inner: set[ir.Value] = set()
    written: list[Block] = []
    new_value: dict[ir.Value, ir.Value] = {}
    for block in reversed(sources):  # from the end, as the y of one block may be the x of the next
        opset = scope_of(block, model).opset_imports[""]
        core, behind = _nodes(form, block, opset, types, epilogue)
        new_value[block.y] = _replace(block, [*core, *behind])
        nodes.update(core, behind)
        inner.update(value for node in [*core, *behind][:-1] for value in node.outputs)
        written.append(
            replace(
                block,
                y=core[-1].outputs[0],
                form=form.NAME,
                inside=tuple(core),
                shared=(),
                defaults=(),
                epilogue=None if behind else block.epilogue,
            )
        )
    now = [_with_new_values(block, new_value) for block in reversed(written)]
    return Lowered(
        tuple(sources), tuple(now), frozenset(nodes), frozenset(inner), (*_shared(sources), *_defaults(sources))
    )


def clean_names(model: ir.Model, lowered: Lowered) -> None:
    """Give new nodes and values unique names in their graph or function."""
    for scope in scopes(model):
        make_unique(scope, lowered.nodes, lowered.inner)


def _nodes(
    form: ModuleType, block: Block, opset: int, types: set[ir.DataType], epilogue: bool
) -> tuple[list[ir.Node], list[ir.Node]]:
    """Nodes of the block in a form, and of its epilogue behind it unless the node holds it."""
    if block.epilogue is None or epilogue:
        return list(form.nodes(block, opset, types)), []
    core: list[ir.Node] = form.nodes(replace(block, epilogue=None), opset, types)
    y = core[-1].outputs[0]
    y.name, y.type, y.shape = f"{block.node}/y", ir.TensorType(block.dtype), ir.Shape(block.shape)
    return core, epilogue_form.nodes(block, y, opset)


def _replace(block: Block, nodes: Sequence[ir.Node]) -> ir.Value:
    """Replace a block by `nodes`, and remove nodes that only the block used. Returns the new y, with the old name."""
    last = block.inside[-1]
    graph = last.graph
    assert graph is not None
    old, new = block.y, nodes[-1].outputs[0]
    new.type, new.shape = old.type, old.shape
    new.metadata_props.update(old.metadata_props)
    ir.convenience.replace_nodes_and_values(graph, last, [], nodes, [old], [new])
    old.name = f"{old.name}/replaced"
    _remove_unused(last)
    return new


def _remove_unused(last: ir.Node) -> None:
    """Remove `last` and all that only it used, including constants and initialisers."""
    queue = [last]
    unused: dict[ir.Node, ir.Graph | ir.Function] = {}
    while queue:
        node = queue.pop()
        if node.graph is None or node in unused or any(v.uses() or v.is_graph_output() for v in node.outputs):
            continue
        inputs = [v for v in node.inputs if v is not None]
        unused[node] = node.graph
        for at in range(len(node.inputs)):
            node.replace_input_with(at, None)
        for value in inputs:
            producer = value.producer()
            if producer is not None:
                queue.append(producer)
            elif not value.uses() and not value.is_graph_input() and isinstance(value.graph, ir.Graph):
                value.graph.initializers.pop(str(value.name), None)
    for graph in set(unused.values()):  # all at once: each call reads all outputs of the graph
        graph.remove([node for node, held in unused.items() if held is graph])


def _with_new_values(block: Block, new_value: dict[ir.Value, ir.Value]) -> Block:
    """The block with x and residual updated to the new y of other blocks."""
    epilogue = block.epilogue
    if epilogue is not None and epilogue.residual is not None:
        epilogue = replace(epilogue, residual=new_value.get(epilogue.residual, epilogue.residual))
    return replace(block, x=new_value.get(block.x, block.x), epilogue=epilogue)


def _shared(blocks: Sequence[Block]) -> list[str]:
    """Notes on nodes of replaced blocks that stay, as others use them."""
    return [
        f"{block.node}: {', '.join(block.shared)}; so that stays, and is computed twice"
        for block in blocks
        if any(node.graph is not None and node.op_type not in PASSING for node in block.inside)
    ]


def _defaults(blocks: Sequence[Block]) -> list[str]:
    """Notes on graph inputs that stay without a use."""
    return [
        f"{block.node}: judged with the defaults of the inputs {', '.join(map(repr, block.defaults))}; "
        "these may be fed as before, and change nothing in it any more"
        for block in blocks
        if block.defaults
    ]
