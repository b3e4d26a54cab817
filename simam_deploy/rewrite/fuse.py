"""ONNX model -> the same model with its SimAM blocks in one form, and what happened to each."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx_ir as ir

from simam_deploy.artifacts import manifest
from simam_deploy.artifacts.atomic import refuse_overwriting_inputs, staging
from simam_deploy.block import Block, NearMiss
from simam_deploy.errors import FormError, InputError, NoBlockError
from simam_deploy.formula import OP_DOMAIN, OP_NAME, OP_VERSION, OPS
from simam_deploy.graph import onnx_file
from simam_deploy.graph.shapes import Dims, Shapes
from simam_deploy.graph.versions import refuse_old, with_functions, with_one_opset
from simam_deploy.match.find import find
from simam_deploy.match.op_sets import PASSING
from simam_deploy.rewrite.epilogue import with_epilogues
from simam_deploy.rewrite.forms import epilogue as epilogue_form
from simam_deploy.rewrite.forms import form_named
from simam_deploy.rewrite.unique_names import make_unique, name_blocks
from simam_deploy.text import counted, on_one_line

BODIES = {(OP_DOMAIN, name, "") for name in OPS}
"""The identifiers of the functions that are the bodies of our operators."""


@dataclass(frozen=True)
class BlockRow:
    """What became of one block."""

    node: str
    shape: Dims
    dtype: str
    e_lambda: float
    found: str
    """The form it had."""
    form: str
    """The form it has now."""
    op: str
    """The operator of formula.OPS that it is: SimAM, or one with what follows SimAM in it."""


@dataclass(frozen=True)
class Fused:
    """The new model and its report."""

    model: ir.Model
    rows: tuple[BlockRow, ...]
    near_misses: tuple[NearMiss, ...]
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """In one line, how many blocks were written, and how many near misses were not."""
        left = f", {counted(len(self.near_misses), 'near miss')} left alone" if self.near_misses else ""
        return f"written: {counted(len(self.rows), 'SimAM block')}{left}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        misses = [miss.as_dict() for miss in self.near_misses]
        return {"blocks": [asdict(row) for row in self.rows], "near_misses": misses, "notes": list(self.notes)}


def fuse(
    model: ir.Model,
    form: str = "function",
    on_progress: Callable[[str], None] | None = None,
    *,
    repair: bool = False,
    epilogue: bool = False,
) -> Fused:
    """Write every SimAM block of `model` in `form`; all else keeps its nodes, names, weights, opset and metadata.

    `model` is not changed; the result shares its weights. A block already in the asked form is written anew with
    the same names, so fusing twice gives the same file. Inner values that others use too stay, and `notes` says so.
    repair : also write the near misses whose only fault is a constant M - 1 for another size of the map; M then comes
    from the shape of x.
    epilogue : fold what follows SimAM into its node where one operator does it all (epilogue.py), for the forms
    that have a node. Otherwise, nodes that have it folded in are taken apart again.
    Raises NoBlockError when there is no block (with the near misses), FormError when a block cannot be written so
    (with every block and every reason) or the opset is older than 7, InputError when there is no such form or the
    file is specialised.
    """
    chosen = form_named(form, epilogue=epilogue)
    _refuse_specialised(model)
    result = model.clone()
    found = find(result, on_progress)
    repaired = [miss for miss in found.near_misses if repair and miss.repaired is not None]
    blocks = _in_order(result, [*found.blocks, *(miss.repaired for miss in repaired if miss.repaired is not None)])
    misses = tuple(miss for miss in found.near_misses if miss not in repaired)
    if not blocks:
        raise NoBlockError(_nothing_found(misses))
    _refuse(form, blocks, result)
    _declare_calls(form, blocks, result)
    notes = with_one_opset(result, [block.function for block in blocks if block.function is not None])
    notes += [f"{miss.node}: M - 1, a constant before, now comes from the shape of x" for miss in repaired]
    if epilogue:
        grown, stopped = with_epilogues(result, blocks)
        blocks = _in_order(result, grown)  # by where they end now: one may take in the y of another
        notes += stopped
    ops = {block.op for block in blocks} if epilogue else {OP_NAME}
    kept = _nodes_of_our_names(result, blocks)
    for node in kept:
        changes = form == "function" or (form == "custom_op" and node.op_identifier() in result.functions)
        if node.op_type in ops and changes:
            raise FormError(
                f"form {form!r} would change node {node.name!r}, which has the name {OP_DOMAIN}::{node.op_type} and "
                f"is not {node.op_type}, as one body serves the whole file\nuse --form primitive, or mend the node"
            )
    called = _called(result)
    blocks = [
        named
        for scope in _scopes(result)
        for named in name_blocks(scope, [block for block in blocks if _scope(block, result) is scope])
    ]
    written: set[ir.Node] = set()
    inner: set[ir.Value] = set()
    types = {block.dtype for block in blocks}
    for block in reversed(blocks):  # from the end, as the y of one block may be the x of the next
        nodes = _nodes(chosen, block, _scope(block, result).opset_imports[""], types, epilogue)
        _replace(block, nodes)
        written.update(nodes)
        inner.update(value for node in nodes[:-1] for value in node.outputs)
    notes += _shared(blocks) + _defaults(blocks)
    for scope in _scopes(result):
        make_unique(scope, written, inner)
    for identifier in BODIES - {node.op_identifier() for node in kept}:
        result.functions.pop(identifier, None)
    bodies = chosen.functions(result.opset_imports[""], sorted(ops), types)
    for function in bodies:
        result.functions[function.identifier()] = function
    for identifier in called - _called(result) - BODIES:
        del result.functions[identifier]
    for scope in _scopes(result):
        version = scope.opset_imports.pop(OP_DOMAIN, OP_VERSION)
        ours = any(f.domain == OP_DOMAIN for f in result.functions.values()) and scope is result.graph
        if ours or any(node.domain == OP_DOMAIN for node in scope.all_nodes()):
            scope.opset_imports[OP_DOMAIN] = version
    if bodies:
        notes += with_functions(result)
    rows = [
        BlockRow(b.node, b.shape, b.dtype.name, b.e_lambda, b.form, form, b.op if epilogue else OP_NAME)
        for b in blocks
    ]
    return Fused(result, tuple(rows), misses, tuple(notes))


def _refuse_specialised(model: ir.Model) -> None:
    if mark := manifest.specialised(model.metadata_props):
        raise InputError(
            f"the file is specialised for {mark.get('machine')}, where nothing is left to fuse; "
            "start again from the portable file that it was made from"
        )


def _in_order(model: ir.Model, blocks: list[Block]) -> list[Block]:
    """As their results come in the graph, then in the functions."""
    order = {node: i for i, node in enumerate(node for scope in _scopes(model) for node in scope.all_nodes())}
    return sorted(blocks, key=lambda block: order[block.inside[-1]])


def _scopes(model: ir.Model) -> list[ir.Graph | ir.Function]:
    """What has names and opsets of its own: the graph, and each function but our bodies."""
    return [model.graph, *(f for f in model.functions.values() if f.identifier() not in BODIES)]


def _called(model: ir.Model) -> set[tuple[str, str, str]]:
    called = {node.op_identifier() for scope in _scopes(model) for node in scope.all_nodes()}
    return called & model.functions.keys()


def _scope(block: Block, model: ir.Model) -> ir.Graph | ir.Function:
    """The one of `_scopes` that the block is in."""
    return model.graph if block.function is None else block.function


def _refuse(form: str, blocks: list[Block], model: ir.Model) -> None:
    """Raise FormError, with every block and reason, if the form cannot write one of them."""
    refuse_old([model.graph, *(_scope(block, model) for block in blocks)])
    chosen = form_named(form)
    refusals = [(block, chosen.reasons_against(block)) for block in blocks]
    if any(reasons for _, reasons in refusals):
        raise FormError(_refused(form, [(b, r) for b, r in refusals if r]))


def _declare_calls(form: str, blocks: list[Block], model: ir.Model) -> None:
    """Declare the types of what functions with a block make, as ONNX Runtime cannot tell them behind a bare node.

    Inside other functions that cannot be: raises FormError.
    """
    functions = [block.function for block in blocks if block.function is not None and form == "custom_op"]
    holding = {function.identifier() for function in functions}
    for scope in _scopes(model)[1:]:
        for node in scope.all_nodes():
            if node.op_identifier() in holding:
                called, caller = (on_one_line(name) for name in (f"{node.domain}::{node.op_type}", scope.name or ""))
                raise FormError(
                    f"form 'custom_op' cannot lower the SimAM block in the function {called}, "
                    f"which the function {caller} calls: ONNX Runtime does not open such a file\n"
                    "put the functions in place first (onnx.inliner), or use --form function"
                )
    shapes = Shapes(model)
    for node in model.graph.all_nodes() if holding else ():
        for value in node.outputs if node.op_identifier() in holding else ():
            if value.type is None and (dtype := shapes.known_dtype(value)) is not None:
                value.type = ir.TensorType(dtype)


def _shared(blocks: list[Block]) -> list[str]:
    """What stays of replaced blocks, as others use it."""
    return [
        f"{block.node}: {', '.join(block.shared)}; so that stays, and is computed twice"
        for block in blocks
        if any(node.graph is not None and node.op_type not in PASSING for node in block.inside)
    ]


def _defaults(blocks: list[Block]) -> list[str]:
    """Inputs of the graph that stay, and are of no use any more."""
    return [
        f"{block.node}: judged with the defaults of the inputs {', '.join(map(repr, block.defaults))}; "
        "these may be fed as before, and change nothing in it any more"
        for block in blocks
        if block.defaults
    ]


def _nodes_of_our_names(model: ir.Model, blocks: list[Block]) -> list[ir.Node]:
    """Nodes of our operators that are near misses: they stay as they are, and so does the body they may have."""
    inside = {node for block in blocks for node in block.inside}
    everything = (node for scope in _scopes(model) for node in scope.all_nodes())
    return [n for n in everything if n.domain == OP_DOMAIN and n.op_type in OPS and n not in inside]


def _nodes(chosen: ModuleType, block: Block, opset: int, types: set[ir.DataType], epilogue: bool) -> list[ir.Node]:
    """The block in a form, with what follows it inside the node or behind it."""
    if block.epilogue is None or epilogue:
        return list(chosen.nodes(block, opset, types))
    core: list[ir.Node] = chosen.nodes(replace(block, epilogue=None), opset, types)
    y = core[-1].outputs[0]
    y.name, y.type, y.shape = f"{block.node}/y", ir.TensorType(block.dtype), ir.Shape(block.shape)
    return [*core, *epilogue_form.nodes(block, y, opset)]


def _replace(block: Block, nodes: list[ir.Node]) -> None:
    """Put `nodes` where the block was; y keeps its name, and what the block alone used goes."""
    last = block.inside[-1]
    graph = last.graph
    assert graph is not None
    old = block.y
    new = nodes[-1].outputs[0]
    new.name, new.type, new.shape = old.name, old.type, old.shape
    new.metadata_props.update(old.metadata_props)
    graph.insert_before(last, nodes)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    old.name = f"{old.name}/replaced"
    _remove_unused(last)


def _remove_unused(last: ir.Node) -> None:
    """Remove `last` and whatever only it used, constants and initialisers included."""
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


def fuse_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    form: str = "function",
    on_progress: Callable[[str], None] | None = None,
    *,
    repair: bool = False,
    epilogue: bool = False,
) -> Fused:
    """`fuse` from one ONNX file to another, with a manifest beside it. Raises as `fuse`, `onnx_file.load` and
    `files.staging` do; nothing is written then, and `source` is never touched."""
    model = onnx_file.load(source)
    refuse_overwriting_inputs(target, [source, *onnx_file.weight_files(model, source)])
    with staging(target) as staged, onnx_file.blaming(source):
        fused = fuse(model, form, on_progress, repair=repair, epilogue=epilogue)
        write(fused, staged, manifest.file_source(Path(source)))
    return replace(fused, notes=(*fused.notes, *manifest.stale(Path(target))))


def write(
    fused: Fused,
    staged: Path,
    source: manifest.Record,
    packages: tuple[str, ...] = ("onnx", "onnx-ir"),
    mark: manifest.Record | None = None,
) -> manifest.Record:
    """Write the model and its manifest to `staged`, a path inside `files.staging`; return the manifest.

    mark : what the manifest says besides, in the file too.
    """
    blocks = [
        {"node": r.node, "op": r.op, "shape": list(r.shape), "dtype": r.dtype, "e_lambda": r.e_lambda}
        for r in fused.rows
    ]
    travelling = {**manifest.about(fused.rows[0].form, blocks), **(mark or {})}
    fused.model.metadata_props[manifest.PROPERTY] = json.dumps(travelling, ensure_ascii=False)
    onnx_file.save(fused.model, staged)
    made = manifest.record(travelling, source, packages)
    manifest.write(made, staged)
    return made
