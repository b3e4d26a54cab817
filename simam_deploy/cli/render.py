"""Tables and progress for a terminal.

All output passes through here and is escaped: names in a file may hold control characters.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.text import Text

from simam_deploy.artifacts.manifest import as_json
from simam_deploy.cli.stages import lasting
from simam_deploy.text import WIDTH, as_table, counted, on_lines, on_one_line, shortened

if TYPE_CHECKING:
    from simam_deploy.block import NearMiss
    from simam_deploy.compare.bench import TimingRow
    from simam_deploy.compare.gates import GateRow
    from simam_deploy.compare.outputs import OutputRow
    from simam_deploy.compare.verify import Report
    from simam_deploy.engines.inspection import EngineInspection
    from simam_deploy.precision.analysis import Analysis
    from simam_deploy.precision.converted import Converted
    from simam_deploy.rewrite.fused import Fused

_IN_A_LOG = None if sys.stdout is not None and sys.stdout.isatty() else int(os.environ.get("COLUMNS") or WIDTH)
"""Width for a log."""
out = Console(width=_IN_A_LOG, emoji=False)
err = Console(stderr=True, emoji=False)
MOST_ROWS = 40
"""Upper bound on the rows of a parity table. A longer one shows the worst row of each session."""


@contextmanager
def progress(quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows progress on stderr: a spinner on a terminal, else a line for each long stage.

    quiet : show nothing, and suppress warnings of libraries.
    """
    if quiet:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield lambda _: None
        return
    if not err.is_terminal:
        with lasting(_line_on_stderr) as say:
            yield say
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("start")
        yield lambda what: bar.update(task, description=on_one_line(what))


def _line_on_stderr(what: str) -> None:
    err.print(f"... {on_one_line(what)}", highlight=False, markup=False, soft_wrap=True)


def parity(report: Report) -> None:
    """Print the rows of a verification, or, of many, the worst of each session and all failures; then the result."""
    rows = _worst(report.rows)
    told = any(r.agreement is not None for r in rows)
    agree = ("agree",) if told else ()
    columns = ("session", "case", "output", "max error", "of tolerance", "SNR dB", *agree, "worst", "")
    cells = [
        (
            *(r.session, r.case, r.output, f"{r.max_abs_error:.2e}", r.share, f"{r.snr_db:.1f}"),
            *([_agree(r.agreement)] if told else []),
            *(r.worst_element, r.passed),
        )
        for r in rows
    ]
    title = _title("parity with the float64 truth", len(rows), len(report.rows))
    table(title, columns, cells, right=columns[3:-1])
    gates = _worst(report.gates)
    if gates:
        heads = ("session", "case", "block", "λ", "gate error", "of tolerance", "collapsed", "")
        judged = [
            (
                g.session,
                g.case,
                g.block,
                f"{g.e_lambda:g}",
                f"{g.max_gate_error:.2e}",
                g.share,
                f"{g.collapsed:.1%}",
                g.passed,
            )
            for g in gates
        ]
        title = _title("gate of each SimAM block, against the formula", len(gates), len(report.gates))
        table(title, heads, judged, right=heads[3:7])
    words = "; agree: share of equal labels or boxes" if told else ""
    lines(
        (
            f"of tolerance: 1 is the limit{words}; worst: place in the batch",
            *report.notes,
        )
    )
    verdict(report.verdict)


def timing(title: str, rows: Sequence[TimingRow]) -> None:
    """Print the rows of a benchmark: times in us, ratios to the first session and to a copy of the input."""
    columns = ("", "median us", "p20 us", "p80 us", "calls", "of the first", "of a copy", "SimAM by")
    cells = [
        (
            r.label,
            f"{r.median_us:.1f}",
            f"{r.p20_us:.1f}",
            f"{r.p80_us:.1f}",
            r.calls,
            _ratio(r.ratio_to_first),
            _ratio(r.ratio_to_copy),
            r.simam,
        )
        for r in rows
    ]
    table(title, columns, cells, right=columns[1:-1])


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:,.0f}"


AnyRow = TypeVar("AnyRow", "OutputRow", "GateRow")


def _worst(rows: Sequence[AnyRow]) -> list[AnyRow]:
    if len(rows) <= MOST_ROWS:
        return list(rows)
    worst: dict[str, AnyRow] = {}
    for row in rows:
        if row.session not in worst or row.share > worst[row.session].share:
            worst[row.session] = row
    return [row for row in rows if not row.passed or worst[row.session] is row]


def _title(what: str, shown: int, count: int) -> str:
    return what if shown == count else f"{what}: the worst of each session, of {count} rows (--json prints all)"


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    right: Sequence[str] = (),
    last: Sequence[str] = ("session",),
) -> None:
    """Print a table in the width of the terminal or log. True and False become pass and FAIL.

    right : columns of numbers. Long names lose their middle, those of `last` at last; --json has them in full.
    """
    head, *body = as_table(columns, [[_cell(value) for value in row] for row in rows], right, out.width, last).split(
        "\n"
    )
    for bold in (shortened(on_one_line(title), out.width), head):
        out.print(Text(bold, "bold"), soft_wrap=True)
    for line in body:
        shown = Text(line)
        shown.highlight_regex("pass$", "green")
        shown.highlight_regex("FAIL$", "bold red")
        out.print(shown, soft_wrap=True)


def verdict(text: str) -> None:
    """Print the result of a command in its last line."""
    out.print(Text(on_one_line(text), "bold red" if text.startswith("FAILED") else "bold"), soft_wrap=True)


def lines(texts: Sequence[str], title: str = "") -> None:
    """Print lines below a title; nothing without lines. Indents continuation lines."""
    if texts and title:
        out.print(title, style="bold", markup=False)
    for text in texts:
        first, *others = on_lines(text).split("\n")
        indented = [line if line.startswith(" ") else f"  {line}" for line in others]
        out.print("\n".join((first, *indented)), markup=False, highlight=False, soft_wrap=True)


def error(text: str) -> None:
    """Print an error on stderr."""
    err.print(Text(on_lines(text)), style="red", markup=False, highlight=False, soft_wrap=True)


def notes(texts: Sequence[str]) -> None:
    """Print remarks on stderr, a line each."""
    for text in texts:
        err.print(Text(f"note: {on_one_line(text)}"), highlight=False, soft_wrap=True)


def json(value: object) -> None:
    """Print JSON on stdout, in ASCII unless stdout is Unicode. Infinity and NaN become null."""
    unicode = "utf" in (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    print(as_json(value, default=str, ascii_only=not unicode))


def fused(done: Fused, title: str) -> None:
    """Print the rows of the blocks, and the near misses."""
    table(title, *done.table, right=("λ",))
    near_misses(done.near_misses)
    lines(done.notes)


def analysed(found: Analysis, title: str) -> None:
    """Print the sites with their verdicts, the causes, and the notes."""
    columns, rows = found.table
    table(title, columns, rows, right=("largest", "smallest", *(name for name in columns if name.endswith(" bits"))))
    lines((found.legend, *found.causes, *found.facts, *found.notes))


def converted(done: Converted, title: str) -> None:
    """Print what stays float32 and why, and the notes."""
    if done.kept:
        table(title, *done.table, right=("nodes",))
    lines(done.notes)


def engine(seen: EngineInspection) -> None:
    """Print header, manifest and disagreements of an engine, and the notes."""
    lines([seen.summary])
    if seen.manifest is not None:
        table(f"{seen.file}.json", *seen.table)
    lines(seen.log, "log of the builder:")
    lines(seen.notes)
    lines(seen.disagreements, "disagreements:")


def near_misses(misses: Sequence[NearMiss]) -> None:
    """Print the near misses with their reasons."""
    lines([str(miss) for miss in misses], f"{counted(len(misses), 'near miss')}, left alone:")


def _agree(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "pass" if value else "FAIL"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
