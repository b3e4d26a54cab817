"""Table of a trtexec run, with a row for each SimAM block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.tensorrt import layers
from benchmarks.tensorrt.models import WITHOUT_PLUGIN, EngineCase
from benchmarks.tensorrt.trtexec import LAYERS, PROFILE, TIMES
from simam_deploy.cli import render
from simam_deploy.errors import BuildError
from simam_deploy.formula import Array

BAR = 64.0
"""Tolerance of an output in steps of the type (2^-23, 2^-10), relative to the largest value. Three convolutions with
up to 576 products each cost a few (0.8 in float16 and 3.2 in float32 by onnx.reference); a gate that has collapsed to
sigmoid(1/2) costs 0.43, which is 440 steps of float16. A deep model of yours may need more: compare its row of form
`primitive`."""
COLUMNS = {
    "type": "precision",
    "form": "form",
    "block": "block",
    "found as": "found",
    "in": "format_in",
    "out": "format_out",
    "reformats": "reformats",
    "SimAM us": "simam_us",
    "+ reformats": "with_reformats_us",
    "whole us": "whole_us",
    "error": "error",
    "": "ok",
}


@dataclass(frozen=True)
class EngineRow:
    """A block of one engine. Times in us; error is the largest of the engine's outputs over their largest value, and
    of_bar what part of BAR it is. ok : right, and taken by the plugin where there is one. note : why it is not ok.
    """

    precision: str
    form: str
    block: str
    found: str = "-"
    format_in: str = "-"
    format_out: str = "-"
    reformats: int | None = None
    simam_us: float | None = None
    with_reformats_us: float | None = None
    whole_us: float | None = None
    error: float | None = None
    of_bar: float | None = None
    ok: bool = False
    note: str = ""


def read(case: EngineCase) -> list[EngineRow]:
    """A row for each block, from what trtexec left in the folder. Raises BuildError: it left something else."""
    engine = layers.read_layers(case.folder / LAYERS)
    profile = layers.read_profile(case.folder / PROFILE)
    whole = layers.read_times(case.folder / TIMES)
    error, of_bar = _errors(case)
    rows = []
    for name, nodes in case.nodes.items():
        others = [*case.others, *(each for other, several in case.nodes.items() if other != name for each in several)]
        found = layers.block(engine, nodes, others)
        taken = found.by_plugin or (case.form == WITHOUT_PLUGIN and bool(found.layers))
        note = "" if taken else "the parser or the builder did not give this block to the plugin"
        rows.append(
            EngineRow(
                case.precision,
                case.form,
                name,
                found.words,
                *found.formats,
                len(found.reformats),
                layers.time_of(found.layers, profile),
                layers.time_of((*found.layers, *found.reformats), profile),
                whole,
                error,
                of_bar,
                taken and of_bar <= 1,
                note if of_bar <= 1 else "; ".join(filter(None, [note, "the output is wrong"])),
            )
        )
    return rows


def failed(case: EngineCase, error: BuildError) -> list[EngineRow]:
    """The rows of a run that came to nothing."""
    return [EngineRow(case.precision, case.form, name, "failed", note=str(error)) for name in case.nodes]


def _errors(case: EngineCase) -> tuple[float, float]:
    """The largest error of the outputs, over their largest value, and over the bar. Infinity if any is not finite."""
    worst, part = 0.0, 0.0
    for name, truth in case.truth.items():
        dtype = case.types[name]
        error = _error(layers.read_output(case.folder, name, dtype, truth.shape), truth)
        worst, part = max(worst, error), max(part, error / (BAR * float(np.finfo(dtype).eps)))
    return worst, part


def _error(y: Array, truth: Array) -> float:
    if not np.isfinite(y).all():
        return float("inf")
    return float(np.abs(y.astype(np.float64) - truth).max() / max(np.abs(truth).max(), np.finfo(np.float64).tiny))


def table(rows: Sequence[EngineRow], title: str) -> None:
    """Print them, and below what is to be said of some."""
    cells = [[_cell(asdict(row), key) for key in COLUMNS.values()] for row in rows]
    render.table(title, list(COLUMNS), cells, right=[name for name in COLUMNS if name not in _LEFT])
    notes: dict[str, list[str]] = {}
    for row in rows:
        if row.note:
            notes.setdefault(row.note, []).append(f"{row.precision} {row.form} {row.block}")
    render.lines([f"{', '.join(where)}: {note}" for note, where in notes.items()])


_LEFT = ("type", "form", "block", "found as", "in", "out", "")


def _cell(row: Mapping[str, Any], key: str) -> object:
    value = row[key]
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else value
