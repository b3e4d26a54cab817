"""The pages of `analyze`, `verify` and `convert`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from simam_deploy.compare.verify import Report
from simam_deploy.formula import Array
from simam_deploy.precision.analysis import Analysis
from simam_deploy.precision.block_details import MOST_MAPS, BlockDetail, mean_and_change
from simam_deploy.precision.converted import Converted
from simam_deploy.precision.layer_errors import LayersOf
from simam_deploy.precision.low_types import FP16, LowType
from simam_deploy.report import charts, page
from simam_deploy.report.charts import Bar
from simam_deploy.text import Say, counted

T = TypeVar("T")
MOST_BLOCKS = MOST_MAPS
MOST_BARS = 150
"""Upper bounds of what is drawn. Tables are whole."""
OWN = "after: each operator inside the block rounded to the type, as a converter does that knows no SimAM"
FILE = "after: what the file computes"


def analysis_page(found: Analysis, name: str, say: Say) -> str:
    """Page of `analyze`. name : of the file.  found : with its details."""
    lows = [low.name for low in found.lows]
    right = ("largest", "smallest", *(f"{low} bits" for low in lows))
    rows = [
        Bar(f"{row.kind} {row.node}", errors, {low: f"{error:.2g}" for low, error in errors.items()})
        for row in found.rows
        for errors in [{low: row.verdicts[low].error for low in lows}]
    ]
    words = "Error of each site if each operator is rounded to the type: of the gate of SimAM, else relative."
    parts = [
        page.heading("Sums, squares and divisions in 16 bits"),
        page.table(*found.table, right=right),
        page.caption(found.legend),
        page.notes([*found.causes, *found.notes]),
        *_bars("Error of each site", rows, "error", words, log=True),
        *_blocks(found.details, found.picture, found.lows, OWN, found.samples, say),
    ]
    return page.page(f"{name}: analysis of 16 bits", found.verdict, parts)


def parity_page(report: Report, names: Sequence[str], layers: Sequence[LayersOf], say: Say) -> str:
    """Page of `verify`. names : of the files.  layers : of each that has a float32 file to be compared with."""
    columns = ("session", "case", "output", "max error", "of tolerance", "SNR, dB", "agree", "")
    rows = [
        (
            *(r.session, r.case, r.output, f"{r.max_abs_error:.2e}", f"{r.share:.3g}", f"{r.snr_db:.1f}"),
            "-" if r.agreement is None else f"{r.agreement:.2%}",
            "pass" if r.passed else "FAIL",
        )
        for r in report.rows
    ]
    parts = [page.heading("Outputs"), page.table(columns, rows, right=columns[3:7]), page.notes(report.notes)]
    if report.gates:
        gates = [
            (
                *(g.session, g.case, g.block, f"{g.max_gate_error:.2e}", f"{g.share:.3g}"),
                "pass" if g.passed else "FAIL",
            )
            for g in report.gates
        ]
        named = ("session", "case", "block", "gate error", "of tolerance", "")
        parts += [page.heading("Gates, on the x that each block got"), page.table(named, gates, right=named[3:5])]
    shown = [
        Bar(f"{r.session} {r.output} {r.case}", {"output": r.snr_db}, {"output": _db(r.snr_db)}) for r in report.rows
    ]
    parts += _bars("Error of each output", shown, "SNR, dB; longer is better", "SNR against the float64 truth.")
    for one in layers:
        parts += _layers(one, say)
    return page.page(f"{', '.join(names)}: comparison", report.verdict, parts)


def converted_page(done: Converted, name: str, layers: LayersOf | None, say: Say) -> str:
    """Page of `convert`. name : of the float32 file.  layers : None without samples."""
    parts = [page.notes(done.notes)]
    if done.kept:
        parts += [page.heading("Stays float32"), page.table(*done.table, right=("nodes",))]
    if done.quantised is not None:
        rows = [(row.node, row.op, "float32" if row.reason else "int8", row.reason) for row in done.quantised.rows]
        parts += [page.heading("Layers"), page.table(("node", "operator", "type", "why"), rows)]
    if done.analysis is not None:
        right = ("largest", "smallest", *(f"{low.name} bits" for low in done.analysis.lows))
        parts += [page.heading("Sums, squares and divisions, as analysed before"), page.caption(done.analysis.legend)]
        parts += [page.table(*done.analysis.table, right=right), page.notes(done.analysis.causes)]
    if layers is None:
        parts.append(page.caption("Without --inputs nothing was run, so no error and no gate is shown."))
    else:
        parts += _layers(layers, say)
    return page.page(f"{done.path.name}: {name} in {done.wanted.to}", done.verdict, parts)


def _layers(found: LayersOf, say: Say) -> Iterator[str]:
    """Bars for the layers of a file, and its blocks."""
    rows = [
        Bar(f"{layer.op} {layer.node}", {kind: layer.snr_db}, {kind: _db(layer.snr_db)})
        for layer in found.layers
        for kind in ["SimAM" if layer.op == "SimAM" else "layer"]
    ]
    words = (
        f"SNR of each layer's result against the float32 file, in {found.runtime}, over "
        f"{counted(found.feeds, 'feed')}. Errors of earlier layers count too."
    )
    if rows and all(layer.snr_db == np.inf for layer in found.layers):
        yield page.caption(f"{found.label}: the results of all {len(rows)} layers equal those of the float32 file.")
    else:
        yield from _bars(f"Error of each layer: {found.label}", rows, "SNR, dB; longer is better", words)
    yield page.notes([f"{found.label}: {note}" for note in found.notes])
    yield from _blocks(found.blocks, found.picture, found.lows, FILE, found.feeds, say, found.label)


def _bars(title: str, rows: Sequence[Bar], axis: str, words: str, *, log: bool = False) -> Iterator[str]:
    if not rows:
        return
    part, left = _first(rows, MOST_BARS)
    yield page.heading(title)
    yield page.figure(charts.bars(part, axis, log=log), f"{words}{left}", "bars")


def _blocks(
    details: Sequence[BlockDetail],
    picture: Array | None,
    lows: Sequence[LowType],
    after: str,
    feeds: int,
    say: Say,
    label: str = "",
) -> Iterator[str]:
    """A histogram and the maps of each block."""
    if not details:
        return
    part, left = _first(details, MOST_BLOCKS)
    yield page.heading(f"SimAM blocks{f': {label}' if label else ''}")
    limits = ", ".join(low.name for low in lows) or "fp16, which is not in this file"
    lows = lows or (FP16,)
    yield page.caption(
        "The histogram shows x, (x - μ)² and its sums over a plane, of the float32 network on "
        f"{counted(feeds, 'feed')}, against the limits of {limits}. The maps show the gate for the first sample, as "
        "the mean over the channels weighted by |x|, in the colours of the range before. Blue is no number, or "
        f"x = 0. Before: the formula on the float32 values; {after}.{left}"
    )
    for at, detail in enumerate(part, start=1):
        say(f"draw block {at} of {len(part)}: {detail.block}")
        yield page.heading(detail.block, 3)
        yield page.figure(charts.histogram(detail, lows), _held(detail, lows), "histogram")
        if detail.before is not None:
            yield page.figure(charts.gate_maps(detail, picture), _changes(detail), "maps")


def _held(detail: BlockDetail, lows: Sequence[LowType]) -> str:
    """M - 1 and λ as each type holds them."""
    parts = []
    for name, value in (("M - 1", detail.m - 1.0), ("λ", detail.e_lambda)):
        held = ", ".join(f"{low.name} holds {float(low.rounded(np.array(value))):.6g}" for low in lows)
        parts.append(f"{name} = {value:.6g}: {held}")
    zeros = detail.x.zeros / max(detail.x.zeros + detail.x.counts.total() + detail.x.beyond, 1)
    return f"{'; '.join(parts)}. {zeros:.0%} of x are 0 and not shown."


def _changes(detail: BlockDetail) -> str:
    assert detail.before is not None
    seen = detail.before[np.isfinite(detail.before)]
    words = [f"Mean gate {seen.mean():.4f} before" if seen.size else "No gate before, as x is 0 or no number"]
    for name in detail.after:
        mean, change = mean_and_change(detail, name)
        words.append(f"{mean:.4f} in {name}, changed by up to {change:.2g}")
    hidden = (
        " An epilogue hides the gate, so after is the formula on the x that the block got." if detail.hidden else ""
    )
    return f"{'; '.join(words)}.{hidden}"


def _db(value: float) -> str:
    return f"{value:.1f}" if np.isfinite(value) else "equal" if value > 0 else "no signal, or NaN"


def _first(things: Sequence[T], most: int) -> tuple[Sequence[T], str]:
    """The first few, and words on those left out."""
    left = f" The first {most} of {len(things)} are drawn." if len(things) > most else ""
    return things[:most], left
