"""Selection of the blocks and epilogues for `fuse`, and reasons against others."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from simam_deploy.block import Block, Found, NearMiss
from simam_deploy.errors import FormError, NoBlockError
from simam_deploy.formula import OP_DOMAIN, OP_NAME, OPS
from simam_deploy.graph.versions import refuse_old
from simam_deploy.rewrite.epilogue import with_epilogues
from simam_deploy.rewrite.forms import form_named
from simam_deploy.rewrite.functions import scope_of, scopes


@dataclass(frozen=True)
class Chosen:
    """Selection of blocks to write."""

    blocks: tuple[Block, ...]
    """In the order of their ends."""
    ops: frozenset[str]
    """Names in formula.OPS of their new operators."""
    near_misses: tuple[NearMiss, ...]
    """Near misses, which stay unchanged."""
    kept: tuple[ir.Node, ...]
    """Nodes with names of our operators that are not in a block. They and their functions stay."""
    notes: tuple[str, ...]


def choose(model: ir.Model, found: Found, form: str, *, repair: bool, epilogue: bool) -> Chosen:
    """Choose the blocks of `found` to write in `form`. Does not change `model`.

    repair, epilogue : as in `fuse`.
    Raises NoBlockError without a block; FormError if the form cannot lower a block, with every block and reason, or
    if it would change a node that is no block.
    """
    repaired = [miss for miss in found.near_misses if repair and miss.repaired is not None]
    misses = tuple(miss for miss in found.near_misses if miss not in repaired)
    blocks = _in_order(model, [*found.blocks, *(miss.repaired for miss in repaired if miss.repaired is not None)])
    if not blocks:
        raise NoBlockError(_nothing_found(misses))
    _refuse(form, blocks, model)
    notes = [f"{miss.node}: M - 1, a constant before, now comes from the shape of x" for miss in repaired]
    if epilogue:
        grown, stopped = with_epilogues(model, blocks)
        blocks = _in_order(model, grown)  # by where they end now: one may take in the y of another
        notes += stopped
    ops = frozenset(block.op for block in blocks) if epilogue else frozenset({OP_NAME})
    kept = _nodes_of_our_names(model, blocks)
    for node in kept:
        changes = form == "function" or (form == "custom_op" and node.op_identifier() in model.functions)
        if node.op_type in ops and changes:
            raise FormError(
                f"form {form!r} would change node {node.name!r}, which has the name {OP_DOMAIN}::{node.op_type} and "
                f"is not {node.op_type}, as one fallback definition serves the whole file\n"
                "use --form primitive, or mend the node"
            )
    return Chosen(tuple(blocks), ops, misses, tuple(kept), tuple(notes))


def _in_order(model: ir.Model, blocks: list[Block]) -> list[Block]:
    """Sort by the position of y, in the graph and then in the functions."""
    order = {node: i for i, node in enumerate(node for scope in scopes(model) for node in scope.all_nodes())}
    return sorted(blocks, key=lambda block: order[block.inside[-1]])


def _nodes_of_our_names(model: ir.Model, blocks: list[Block]) -> list[ir.Node]:
    inside = {node for block in blocks for node in block.inside}
    everything = (node for scope in scopes(model) for node in scope.all_nodes())
    return [n for n in everything if n.domain == OP_DOMAIN and n.op_type in OPS and n not in inside]


def _refuse(form: str, blocks: list[Block], model: ir.Model) -> None:
    """Raise FormError, with every block and reason, if the form cannot lower one of them."""
    refuse_old([model.graph, *(scope_of(block, model) for block in blocks)])
    chosen = form_named(form)
    refusals = [(block, chosen.reasons_against(block)) for block in blocks]
    if any(reasons for _, reasons in refusals):
        raise FormError(_refused(form, [(b, r) for b, r in refusals if r]))


def _nothing_found(near_misses: tuple[NearMiss, ...]) -> str:
    if not near_misses:
        return (
            "found no SimAM block, nor anything like one (a product of x and a sigmoid of a spatial statistic of x)\n"
            "check that this is the network you mean: simam-deploy inspect FILE"
        )
    return "\n".join(("found no SimAM block; what came nearest:", *(str(miss) for miss in near_misses)))


def _refused(form: str, refusals: list[tuple[Block, list[str]]]) -> str:
    lines = []
    for block, reasons in refusals:
        lines.append(f"form {form!r} cannot lower the SimAM block at node {block.node!r}:")
        lines += [f"  {reason}" for reason in reasons]
    fixed = any("is not fixed" in reason for _, reasons in refusals for reason in reasons)
    mend = "export with fixed C, H and W (simam-deploy export --shape 1,3,224,224), or " if fixed else ""
    lines.append(f"{mend}use --form primitive")
    return "\n".join(lines)
