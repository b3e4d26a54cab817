"""Result of `analyze`: a row for each site, with the verdict in each low type and its cause."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from simam_deploy.artifacts.manifest import finite
from simam_deploy.errors import InputError
from simam_deploy.formula import Array
from simam_deploy.precision.block_details import BlockDetail
from simam_deploy.precision.flat import NAMED
from simam_deploy.precision.low_types import LowType
from simam_deploy.precision.margins import LEGEND, Margins, margins
from simam_deploy.precision.peaks import beyond
from simam_deploy.precision.site_rows import SimAMFacts
from simam_deploy.text import as_table, counted, on_lines

if TYPE_CHECKING:
    from simam_deploy.precision.site_runs import SiteRun

SAFE, ISLAND, UNSAFE = "safe as it is", "safe in an island", "unsafe"
SITE_ROUNDINGS = 8.0
"""Roundings of the type that a site may be off by, as a root mean square of a plane: fp16 3.9e-3, or 48 dB.

One rounding is 0.3 of that unit; eight leave room for the operators of a chain, and none for an overflow."""
HEADROOM = 2.0
"""Factor that values may grow by, from the samples to other inputs, before they overflow."""
MOVED_ROUNDINGS = 16.0
"""Roundings that the result may move by when its inputs alone are rounded. More, and they need float32 too."""
TOOLS = ("autocast", "onnxruntime", "onnxconverter")


@dataclass(frozen=True)
class SiteVerdict:
    """verdict : SAFE, ISLAND or UNSAFE.  error : with each operator rounded.  cause : why it is not safe.

    moved : change of the result by rounding the inputs alone.  coarse : in words, if that is too much: the values
    should enter in float32 too. A site is unsafe if it is wrong and an island is not enough, for that reason.
    """

    verdict: str
    error: float
    moved: float
    cause: str = ""
    coarse: str = ""

    @property
    def words(self) -> str:
        """Verdict and reasons. Of a safe site, that its input is stored too coarsely."""
        if self.verdict == SAFE:
            return f"its input is stored too coarsely: {self.coarse}" if self.coarse else SAFE
        return f"{self.verdict}: {'; '.join(dict.fromkeys(filter(None, (self.cause, self.coarse))))}"


@dataclass(frozen=True)
class SiteRow:
    """One site. nodes : names of its nodes.  unnamed : how many have no name in the file.

    inputs : names of the values that enter it.  values : names of those that it makes.

    largest, smallest : name and magnitude of its largest value, and of the smallest that is not 0.
    margins : by low type.  constants : low type -> constants that do not fit.  simam : facts of a block.
    """

    node: str
    kind: str
    nodes: tuple[str, ...]
    unnamed: int
    values: tuple[str, ...]
    inputs: tuple[str, ...]
    largest: tuple[str, float]
    smallest: tuple[str, float]
    margins: Mapping[str, Margins]
    constants: Mapping[str, tuple[str, ...]]
    verdicts: Mapping[str, SiteVerdict]
    simam: SimAMFacts | None = None
    e_lambda: float | None = None
    held: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Of a SimAM block, low type -> M - 1 and λ as that type holds them."""

    @property
    def flagged(self) -> bool:
        """Whether it is not safe as it is in some type."""
        return any(verdict.verdict != SAFE for verdict in self.verdicts.values())


def row_of(run: SiteRun, lows: Sequence[LowType]) -> SiteRow:
    """The row of a site after all samples."""
    site, block = run.site, run.site.block
    largest = max(run.ranges.items(), key=lambda item: item[1].largest)
    smallest = min(run.ranges.items(), key=lambda item: item[1].smallest)
    constants = {low.name: tuple(_misfits(site.nodes, low)) for low in lows}
    held = {}
    if block is not None and run.facts is not None:
        for low in lows:
            n, e_lambda = (float(low.rounded(np.array(v))) for v in (run.facts.m - 1.0, block.e_lambda))
            held[low.name] = {"M - 1": n, "λ": e_lambda}
    return SiteRow(
        node=site.node,
        kind=site.kind,
        nodes=tuple(str(node.name) for node in site.nodes),
        unnamed=sum(not node.meta.get(NAMED, False) for node in site.nodes),
        values=tuple(str(v.name) for node in site.nodes for v in node.outputs),
        inputs=tuple(str(value.name) for value in site.inputs),
        largest=(largest[0], largest[1].largest),
        smallest=(smallest[0], smallest[1].smallest),
        margins={low.name: margins(run, low) for low in lows},
        constants=constants,
        verdicts={low.name: _verdict(run, low, constants[low.name], held.get(low.name)) for low in lows},
        simam=run.facts,
        e_lambda=None if block is None else block.e_lambda,
        held=held,
    )


def _verdict(run: SiteRun, low: LowType, constants: Sequence[str], held: Mapping[str, float] | None) -> SiteVerdict:
    errors = run.errors[low.name]
    entering = [run.ranges[str(value.name)].largest for value in run.site.inputs if value.dtype == ir.DataType.FLOAT]
    if any(size > low.largest for size in entering):
        beyond = f"its input reaches {max(entering):.3g}, beyond {low.name}, which ends at {low.largest:g}"
        return SiteVerdict(UNSAFE, math.inf, math.inf, beyond, beyond)
    wrong = errors.fails if run.site.block is not None else not errors.naive <= SITE_ROUNDINGS * low.half_ulp
    cause = _cause(run, low, constants, held) if wrong else ""
    coarse = ""
    if not errors.moved <= MOVED_ROUNDINGS * low.half_ulp:
        coarse = f"rounding its input alone moves the result by {errors.moved:.2g}"
        if run.facts is not None and run.facts.offset > 1:
            coarse += f", as a mean is {run.facts.offset:.0f} times the spread"
    return SiteVerdict((UNSAFE if coarse else ISLAND) if wrong else SAFE, errors.naive, errors.moved, cause, coarse)


def _cause(run: SiteRun, low: LowType, constants: Sequence[str], held: Mapping[str, float] | None) -> str:
    """Why the site is wrong when each operator rounds: values and constants out of range, or cancellation."""
    found = list(constants)
    if held is not None and not math.isfinite(held["M - 1"]) and not constants:
        found.append(f"M - 1 is beyond {low.name}, which ends at {low.largest:g}")
    beyond = [(name, r) for name, r in run.ranges.items() if r.largest > low.largest]
    found += [f"{_op(run, name)} reaches {r.largest:.3g}, beyond {low.largest:g}" for name, r in beyond]
    if not found:
        faint = [(name, r) for name, r in run.ranges.items() if 0 < r.largest < low.smallest_normal]
        found += [f"{_op(run, name)} stays below {r.largest:.3g}, where {low.name} loses digits" for name, r in faint]
    if run.errors[low.name].cause:
        found.append(run.errors[low.name].cause)
    return "; ".join(dict.fromkeys(found)) or "its roundings add up"


def _op(run: SiteRun, name: str) -> str:
    node = run.makers.get(name)
    return f"the input {name!r}" if node is None else f"{node.op_type} {node.name or name!r}"


def _misfits(nodes: Sequence[ir.Node], low: LowType) -> list[str]:
    held = (v.const_value for node in nodes for v in node.inputs if v is not None)
    floats = (t for t in held if t is not None and t.dtype == ir.DataType.FLOAT)
    return list(dict.fromkeys(filter(None, (low.misfit(t.numpy()) for t in floats))))


@dataclass(frozen=True, repr=False)
class Analysis:
    """All sites, and the largest magnitude of each value of the network.

    details : of the SimAM blocks, if they were asked for.  picture : the first sample, if it is one.
    cut : values that are mostly cut off -> reason, see cut_off.py.
    """

    rows: tuple[SiteRow, ...]
    peaks: Mapping[str, float]
    samples: int
    lows: tuple[LowType, ...]
    notes: Sequence[str] = ()
    details: tuple[BlockDetail, ...] = ()
    picture: Array | None = None
    cut: Mapping[str, str] = field(default_factory=dict)

    def unfit(self, low: LowType) -> dict[str, str]:
        """Values that need float32 -> reason: beyond or near the end of `low`, cut off, or too coarse."""
        found = {**self.cut, **beyond(self.peaks, low, HEADROOM)}
        for row in self.rows:
            if coarse := row.verdicts[low.name].coarse:
                found.update(dict.fromkeys(row.inputs, f"{row.kind} at {row.node}: {coarse}"))
        return found

    def islands(self, low: LowType) -> dict[str, str]:
        """Values inside sites that need float32 -> reason. Nodes of ours are islands already."""
        found: dict[str, str] = {}
        for row in self.rows:
            verdict = row.verdicts[low.name]
            if verdict.verdict != SAFE and row.kind != "SimAM":
                found.update(dict.fromkeys(row.values, f"{row.kind} at {row.node}: {verdict.cause}"))
        return found

    def excluded(self, tool: str) -> list[str]:
        """Names of the nodes to keep in float32, for another tool; of a float32 file for fp16.

        Raises InputError if there is no such tool, or if a node has no name in the file.
        """
        if tool not in TOOLS:
            raise InputError(f"--exclude-for takes {', '.join(TOOLS)}; got {tool!r}")
        low = self.lows[0].name
        flagged = [row for row in self.rows if row.verdicts[low].verdict != SAFE]
        if unnamed := [f"{row.unnamed} nodes of {row.node} ({row.kind})" for row in flagged if row.unnamed]:
            raise InputError(
                f"{', '.join(unnamed)} have no name in the file, so {tool} cannot be told of them\n"
                "use simam-deploy convert, which needs no names; or name the nodes and analyze anew"
            )
        return [name for row in flagged for name in row.nodes]

    def with_notes(self, notes: Sequence[str]) -> Analysis:
        """The same with notes in front."""
        return replace(self, notes=[*notes, *self.notes])

    legend = LEGEND
    """Meaning of a column of `table`."""

    @property
    def table(self) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """Column names, and a row for each site."""
        names = [low.name for low in self.lows]
        columns = ("site", "kind", "largest", "smallest", *(f"{name} bits" for name in names), *names)
        rows = [
            (
                row.node,
                row.kind,
                f"{row.largest[1]:.3g}",
                f"{row.smallest[1]:.3g}",
                *(str(row.margins[name]) for name in names),
                *(row.verdicts[name].verdict for name in names),
            )
            for row in self.rows
        ]
        return columns, rows

    @property
    def facts(self) -> list[str]:
        """A line for each SimAM block that is not safe as it is: its numbers, and what the types make of them."""
        found = []
        for row in self.rows:
            if row.simam is not None and row.flagged:
                held = (f"{name}: M - 1 = {h['M - 1']:g}, λ = {h['λ']:.6g}" for name, h in row.held.items())
                found.append(
                    f"{row.node}: max|x - μ| {row.simam.largest_delta:.3g}, M max(x - μ)² "
                    f"{row.simam.largest_bound:.3g}, largest sum {row.simam.largest_sum:.3g}, gate spread "
                    f"{row.simam.gate_spread:.2g}; {'; '.join(held)}"
                )
        return found

    @property
    def causes(self) -> list[str]:
        """A line for each site and type that is not safe as it is."""
        return [
            f"{row.node}: {name}: {verdict.words}"
            for row in self.rows
            for name, verdict in row.verdicts.items()
            if verdict.cause or verdict.coarse
        ]

    @property
    def verdict(self) -> str:
        """Numbers of sites, in one line."""
        found = []
        for low in self.lows:
            verdicts = [row.verdicts[low.name].verdict for row in self.rows]
            island, unsafe = verdicts.count(ISLAND), verdicts.count(UNSAFE)
            found.append(
                f"{low.name}: {len(verdicts) - island - unsafe} safe, {island} in an island, {unsafe} unsafe"
            )
        return f"analysed: {counted(len(self.rows), 'site')} on {counted(self.samples, 'sample')}; {'; '.join(found)}"

    def __repr__(self) -> str:
        right = ("largest", "smallest", *(f"{low.name} bits" for low in self.lows))
        table = [as_table(*self.table, right=right)] if self.rows else []
        return "\n".join((*table, *map(on_lines, (*self.causes, *self.facts, *self.notes)), self.verdict))

    def as_dict(self) -> dict[str, Any]:
        """For JSON: infinities become null."""
        rows = [finite(asdict(row)) for row in self.rows]
        beyond = {low.name: sorted(self.unfit(low)) for low in self.lows}
        return {"sites": rows, "samples": self.samples, "beyond": beyond, "notes": list(self.notes)}
