"""Specialise an ONNX model for one kind of CPU: ONNX Runtime's optimised graph, with SimAM in its blocked layout.

SimAM in NCHW costs a network more than its own time: ONNX Runtime reorders its input and output, and adjacent
convolutions lose their fusions (see blocked_layout.py). So while ONNX Runtime optimises the graph, a marker replaces
every SimAM: a MaxPool over 1x1, which supports the layout. No transposition moves through it, and a dilation of its
own, without effect over 1x1, keeps it unique. A residual enters by a Mul behind it. Then the markers become
`simam.nchwc::SimAM...`, which works in that layout.

The file runs only on CPUs with the same vector width and needs the op library. Elsewhere, `open_session` and the
operators raise an error.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from simam_deploy import native
from simam_deploy.artifacts import manifest
from simam_deploy.artifacts.atomic import refuse_overwriting_inputs, staging
from simam_deploy.errors import FormError, RuntimeUnavailable
from simam_deploy.formula import BLOCKED_DOMAIN, OP_DOMAIN, OP_VERSION, PLUGIN
from simam_deploy.graph import onnx_file
from simam_deploy.graph.shapes.types import StaticShape
from simam_deploy.ort_cpu import blocked_layout
from simam_deploy.ort_cpu.compare import compare, tapped
from simam_deploy.rewrite.fuse import fuse, write
from simam_deploy.rewrite.fused import BlockRow, Fused
from simam_deploy.text import Say, on_one_line

FIRST_MARK = 1_000_003
"""Dilation of the first marker."""


@dataclass(frozen=True, kw_only=True)
class Specialised(Fused):
    """The new model and its report. The form of a row is `blocked`, or `custom_op` for a block that stays in NCHW."""

    machine: str
    """Name in the op library. The file runs only on such machines."""
    block: int
    """Channels per block."""


def specialise(
    model: ir.Model,
    on_progress: Say | None = None,
    *,
    epilogue: bool = True,
    check: bool = True,
    sizes: Sequence[StaticShape] | None = None,
) -> Specialised:
    """Fuse `model` and specialise it for the CPU of this machine. Does not change `model`.

    check : compare the y of every operator of ours, and every float output, with the portable model on random inputs.
    sizes : one per input, for its dynamic axes; see inputs.cases.
    Raises as `fuse`; RuntimeUnavailable without ONNX Runtime, its blocked layout or the op library; FormError if a
    node with our name is another operator, if no block is in the blocked part of the graph, or if ONNX Runtime cannot
    load the result;
    VerificationError if a value differs by more than the share compare.SAME.
    """
    say = on_progress or (lambda _: None)
    library = native.library()
    if library is None:
        raise RuntimeUnavailable(f"specialising needs the operators of a specialised file\n{native.why_not()}")
    block = blocked_layout.block_size()
    fused = fuse(model, "custom_op", lambda node: say(f"check the block at {node}"), epilogue=epilogue)
    for node in fused.model.graph.all_nodes():
        if node.domain == OP_DOMAIN and node.op_identifier() in fused.model.functions:
            raise FormError(
                f"cannot specialise: node {on_one_line(node.name or str(node.outputs[0].name))!r} has the name "
                f"{OP_DOMAIN}::{node.op_type} and a fallback definition that is not that; the kernel would take it"
            )
    say("optimise with ONNX Runtime")
    wanted = {row.node for row in fused.rows if row.dtype == ir.DataType.FLOAT.name and len(row.shape) == 4}
    while True:
        marked, ours = _with_marks(fused.model, wanted)
        optimised = _optimised(marked, library)
        places = _places(optimised, ours)
        if len(places) == len(ours):
            break
        wanted -= {str(node.name) for mark, node in ours.items() if mark not in places}
    blocked = {str(node.name) for node in ours.values()}
    if not blocked:
        raise FormError(
            "ONNX Runtime uses no blocked layout around any SimAM block of this model, so there is nothing to gain\n"
            "ship the portable file (simam-deploy fuse without --specialise)"
        )
    for place in places.values():
        _put_back(optimised, place, block, library.machine)
    optimised.metadata_props.update(model.metadata_props)
    _tell_types(optimised, {row.node: row for row in fused.rows if row.node not in blocked})
    if check:
        say("compare with the portable model")
        channels = {row.node: row.shape[1] for row in fused.rows if row.node in blocked}
        compare(tapped(fused.model, channels), tapped(optimised, channels), sizes)
    rows = tuple(replace(row, form="blocked" if row.node in blocked else "custom_op") for row in fused.rows)
    notes = [f"{row.node}: keeps to NCHW" for row in rows if row.form != "blocked"]
    return Specialised(
        optimised, rows, fused.near_misses, (*fused.notes, *notes), machine=library.machine, block=block
    )


@dataclass(frozen=True)
class _Place:
    """Position of an operator of ours in the optimised graph."""

    node: ir.Node
    """The operator in the portable model."""
    pool: ir.Node
    end: ir.Node
    """The marker node that makes y: the MaxPool, or the Mul behind it with the residual."""

    @property
    def residual(self) -> ir.Value | None:
        return next((value for value in self.end.inputs[:2] if value is not self.pool.outputs[0]), None)


def _with_marks(model: ir.Model, wanted: Container[str]) -> tuple[ir.Model, dict[int, ir.Node]]:
    """Copy with markers for the `wanted` operators, and dilation -> operator.

    Operators in subgraphs and functions, and those with computed parameters, stay.
    """
    copy = model.clone()
    ours: dict[int, ir.Node] = {}
    for node, original in list(zip(copy.graph, model.graph, strict=True)):
        x = node.inputs[0] if node.domain == OP_DOMAIN else None
        if x is None or node.name not in wanted:
            continue
        if any(value is None or ir.convenience.get_const_tensor(value) is None for value in _parameters(node)):
            continue
        mark = FIRST_MARK + len(ours)
        pool = ir.node("MaxPool", [x], {"kernel_shape": [1, 1], "dilations": [mark, 1]}, name=f"simam_deploy/{mark}")
        pool.outputs[0].name = f"simam_deploy/{mark}/x"
        made = [pool]
        if _has_residual(node):
            made.append(ir.node("Mul", [pool.outputs[0], node.inputs[-1]], name=f"simam_deploy/{mark}/residual"))
        _replace(copy.graph, node, made)
        ours[mark] = original
    return copy, ours


def _replace(graph: ir.Graph, old: ir.Node, made: list[ir.Node]) -> None:
    """Replace a node by others. Its output keeps name, type and shape."""
    y, new = old.outputs[0], made[-1].outputs[0]
    new.name, new.type, new.shape = y.name, y.type, y.shape
    graph.insert_before(old, made)
    y.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(old, safe=True)


def _places(model: ir.Model, ours: Mapping[int, ir.Node]) -> dict[int, _Place]:
    """Markers that ONNX Runtime moved unchanged into the blocked layout."""
    blocked = blocked_layout.blocked_values(model)
    places = {}
    for pool in model.graph:
        if pool.op_type != "MaxPool" or pool.domain != blocked_layout.DOMAIN:
            continue
        dilations = pool.attributes.get("dilations")
        mark = dilations.as_ints()[0] if dilations is not None else 0
        x = pool.inputs[0]
        maker = None if x is None else x.producer()
        if mark not in ours or x is None or maker is None or maker.op_type == "ReorderInput":
            continue  # the last: it stands in NCHW, and only the mark itself wanted the layout
        place = _Place(ours[mark], pool, pool)
        if _has_residual(ours[mark]):
            users = [use.node for use in pool.outputs[0].uses()]
            place = replace(place, end=users[0] if users else pool)
            if len(users) != 1 or users[0].op_type != "Mul" or place.residual not in blocked:
                continue
        places[mark] = place
    return places


def _has_residual(node: ir.Node) -> bool:
    return len(node.inputs) in (2, 4)


def _parameters(node: ir.Node) -> tuple[ir.Value | None, ...]:
    """Scale and bias, if any."""
    return tuple(node.inputs[1:3]) if len(node.inputs) > 1 else ()


def _tell_types(model: ir.Model, rows: Mapping[str, BlockRow]) -> None:
    """Declare type and shape of the operators that stay. No tool infers them behind the blocked layout."""
    for node in model.graph:
        row = rows.get(str(node.name))
        if row is not None and node.domain == OP_DOMAIN:
            y = node.outputs[0]
            y.type = y.type or ir.TensorType(ir.DataType[row.dtype])
            y.shape = y.shape or ir.Shape([size if isinstance(size, int) else None for size in row.shape])


def _optimised(model: ir.Model, library: native.Library) -> ir.Model:
    with tempfile.TemporaryDirectory(prefix="simam-deploy-") as folder:
        source, target = Path(folder, "model.onnx"), Path(folder, "optimised.onnx")
        onnx_file.save(model, source)
        blocked_layout.optimise(source, target, library)
        optimised = onnx_file.load(target)
        ir.external_data.load_to_model(optimised)
        return optimised


def _put_back(model: ir.Model, place: _Place, block: int, machine: str) -> None:
    node, pool = place.node, place.pool
    kept = [attribute for name, attribute in node.attributes.items() if name not in PLUGIN]
    attributes = [*kept, ir.AttrInt64("block", block), ir.AttrString("machine", machine)]
    parameters = [_parameter(model, node, value) for value in _parameters(node)]
    operands = [pool.inputs[0], *parameters, *([place.residual] if _has_residual(node) else [])]
    _replace(model.graph, place.end, [ir.Node(BLOCKED_DOMAIN, node.op_type, operands, attributes, name=node.name)])
    if pool is not place.end:
        model.graph.remove(pool, safe=True)
    model.graph.opset_imports[BLOCKED_DOMAIN] = OP_VERSION


def _parameter(model: ir.Model, node: ir.Node, value: ir.Value | None) -> ir.Value:
    """Scale or bias as an initialiser."""
    assert value is not None
    tensor = ir.convenience.get_const_tensor(value)
    assert tensor is not None
    name = f"{node.name}/{'scale' if value is node.inputs[1] else 'bias'}"
    while name in model.graph.initializers:
        name += "_"
    held = ir.tensor(tensor.numpy(), name=name)
    made = ir.Value(name=name, type=ir.TensorType(held.dtype), shape=ir.Shape(tensor.numpy().shape), const_value=held)
    model.graph.register_initializer(made)
    return made


def specialise_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    on_progress: Say | None = None,
    *,
    epilogue: bool = True,
    check: bool = True,
    sizes: Sequence[StaticShape] | None = None,
) -> Specialised:
    """`specialise` from file to file, with a manifest beside the result.

    Raises as `specialise`, `onnx_file.load` and `atomic.staging`; nothing is written then. Never changes `source`.
    """
    model = onnx_file.load(source)
    refuse_overwriting_inputs(target, [source, *onnx_file.weight_files(model, source)])
    with staging(target) as staged, onnx_file.blaming(source):
        made = specialise(model, on_progress, epilogue=epilogue, check=check, sizes=sizes)
        mark = manifest.specialisation(made.machine, made.block, blocked_layout.version())
        write(made, staged, manifest.file_source(Path(source)), ("onnx", "onnx-ir", "onnxruntime"), mark)
    return replace(made, notes=(*made.notes, *manifest.stale(Path(target))))
