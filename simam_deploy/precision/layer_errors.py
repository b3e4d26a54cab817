"""A converted file beside the float32 file: error of each layer's result, and each SimAM block, to be drawn."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import onnx_ir as ir

from simam_deploy import formula
from simam_deploy.compare.gates import Tap
from simam_deploy.compare.matrix import expose
from simam_deploy.errors import SimAMDeployError
from simam_deploy.formula import Array
from simam_deploy.graph import onnx_file
from simam_deploy.graph.number_types import SHORT, UP_TO_32_BITS
from simam_deploy.graph.shapes import Shapes
from simam_deploy.precision.block_details import MOST_MAPS, BlockDetail, picture_of
from simam_deploy.precision.low_types import LOW_TYPES, LowType
from simam_deploy.precision.quantised import DQ, Q
from simam_deploy.precision.sensitivity import decibels
from simam_deploy.precision.targets import LAYERS
from simam_deploy.runtimes import open_session
from simam_deploy.runtimes.session import Session, in_types_of
from simam_deploy.text import Say

FEW = 4
"""Feeds that layers are compared on."""


@dataclass(frozen=True)
class LayerError:
    """snr_db : of its result against the value of that name in the float32 file, over the feeds."""

    node: str
    op: str
    snr_db: float


@dataclass(frozen=True)
class LayersOf:
    """One file beside the float32 file.

    label : its name.  runtime : that ran it.  lows : 16-bit types in it.  layers : in graph order.
    picture : the first feed, if it is one.
    """

    label: str
    runtime: str = ""
    feeds: int = 0
    lows: tuple[LowType, ...] = ()
    layers: tuple[LayerError, ...] = ()
    blocks: tuple[BlockDetail, ...] = ()
    picture: Array | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Layer:
    """A layer, the name of its result in the float32 file, and of what the other file makes of it."""

    node: str
    op: str
    exact: str
    got: str


def compare_layers(
    label: str,
    source: ir.Model,
    made: ir.Model,
    feeds: Iterable[Sequence[Array]],
    on_progress: Say | None = None,
) -> LayersOf:
    """Run `made` beside the float32 model `source` that it was made from, with the results of its layers exposed.

    Layers are convolutions, matrix products and SimAM blocks of the main graph, as far as `source` has a value of the
    same name. Behind rounding to int8, the rounded value is compared. 16-bit files run in onnx_half, others in ort.
    feeds : arrays in the order of the inputs; up to FEW are used, one at a time.
    Changes neither model. Raises InputError if a node of ours is no block.
    """
    say = on_progress or (lambda _: None)
    say(f"{label}: expose its layers")
    (exact, taps, _), (low, low_taps, notes) = expose(source), expose(made)
    layers = _exposed_layers(exact, taps, low, low_taps)
    twins = {tap.block: tap for tap in low_taps}
    details = [BlockDetail(tap.block, tap.e_lambda, at < MOST_MAPS) for at, tap in enumerate(taps)]
    lows = tuple(LOW_TYPES[SHORT[name]] for name in onnx_file.half_types(made))
    runtime = "onnx_half" if lows else "ort"
    sums = {layer.node: [0.0, 0.0] for layer in layers}
    picture, count = None, 0
    with tempfile.TemporaryDirectory(prefix="simam-deploy-") as folder, ExitStack() as stack:
        sessions: list[Session] = []
        for at, (model, name) in enumerate(((exact, "ort"), (low, runtime))):
            path = Path(folder, f"{at}.onnx")
            onnx_file.save(model, path)
            sessions.append(stack.enter_context(open_session(path, name)))
        for count, feed in enumerate(islice(feeds, FEW), start=1):
            say(f"{label}: compare its layers, sample {count}")
            true, got = (_run(session, feed) for session in sessions)
            for layer in layers:
                _add(sums[layer.node], true[layer.exact], got[layer.got])
            for tap, detail in zip(taps, details, strict=True):
                detail.take(formula.as_maps(true[tap.x]))
                if (twin := twins.get(tap.block)) is not None:
                    y = None if twin.epilogue is not None else formula.as_maps(got[twin.y])
                    detail.compare(label, formula.as_maps(got[twin.x]), y)
            if picture is None:
                picture = picture_of(feed)
    errors = tuple(LayerError(layer.node, layer.op, decibels(*sums[layer.node])) for layer in layers)
    return LayersOf(label, runtime, count, lows, errors, tuple(details), picture, tuple(notes))


def layers_or_why(
    label: str, source: ir.Model, made: ir.Model, feeds: Iterable[Sequence[Array]], on_progress: Say | None = None
) -> LayersOf:
    """As `compare_layers`; with a note instead of the layers where that cannot be done."""
    try:
        return compare_layers(label, source, made, feeds, on_progress)
    except SimAMDeployError as error:
        return LayersOf(label, notes=(f"its layers are not shown: {error}",))


def _run(session: Session, feed: Sequence[Array]) -> dict[str, Array]:
    named = {spec.name: array for spec, array in zip(session.inputs, feed, strict=True)}
    given = in_types_of(session, named)
    return given | session.run(given)


def _add(sums: list[float], true: Array, got: Array) -> None:
    """Add to the signal and the noise."""
    wide = true.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        sums[0] += float(np.sum(wide**2))
        sums[1] += float(np.sum((wide - got.astype(np.float64)) ** 2))


def _exposed_layers(exact: ir.Model, taps: Sequence[Tap], low: ir.Model, low_taps: Sequence[Tap]) -> list[_Layer]:
    """Make the results of the layers outputs of both models."""
    kinds = Shapes(exact), Shapes(low)
    sources = {str(v.name): v for node in exact.graph for v in node.outputs if _is_float(v, kinds[0])}
    spelled = {tap.block: tap for tap in taps if tap.epilogue is None}
    blocks = {tap.y: tap for tap in low_taps}
    found = []
    for node in low.graph:
        tap = blocks.get(str(node.outputs[0].name)) if node.outputs else None
        if tap is None and (node.domain or node.op_type not in LAYERS):
            continue
        result = node.outputs[0]
        read = _rounded(result)
        names = [str(result.name), str(result.name).removesuffix("/fp16").removesuffix("/bf16"), str(read.name)]
        if tap is not None and tap.epilogue is None and tap.block in spelled:
            names.append(spelled[tap.block].y)
        name = next((name for name in names if name in sources), None)
        if name is None or not _is_float(read, kinds[1]):
            continue
        _show(exact, sources[name])
        _show(low, read)
        op = node.op_type if tap is None else "SimAM"
        found.append(_Layer(tap.block if tap is not None else node.name or name, op, name, str(read.name)))
    return found


def _rounded(value: ir.Value) -> ir.Value:
    """The value behind Q and DQ, if only they read `value`; else itself."""
    found = value
    for op in (Q, DQ):
        users = {use.node for use in found.uses()}
        if found.is_graph_output() or len(users) != 1:
            return value
        (node,) = users
        if node.op_type != op or node.domain:
            return value
        found = node.outputs[0]
    return found


def _is_float(value: ir.Value, shapes: Shapes) -> bool:
    """Whether it is of a float type; declares the type."""
    if value.type is None and (dtype := shapes.known_dtype(value)) is not None:
        value.type = ir.TensorType(dtype)
    return bool(value.name) and value.dtype in UP_TO_32_BITS


def _show(model: ir.Model, value: ir.Value) -> None:
    if not value.is_graph_output():
        model.graph.outputs.append(value)
