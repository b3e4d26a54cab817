"""Compare several sessions with the float64 truth on the same inputs.

The truth is the network itself in float64: the PyTorch module, or the ONNX file on the reference evaluator. The
float32 reference error is the error of the same program and runtime in float32. A runtime that computes the same
function in another order makes errors of that size, so the tolerance is `tolerance_factor` times the reference error.
If an output fails, the truth also runs with random float32 roundings, as one run may pass a kink by luck: see
`outputs.loosened`.
Each SimAM block is also compared by itself: its gate with the formula, for the λ in the file, on the x that the
runtime computed. So one block cannot hide behind the others. A wrong λ shows in the outputs, best on faint inputs;
`export` compares λ with that of the module.
Files of 16 bits and quantised files have tolerances of their own: see limits.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from simam_deploy.artifacts.manifest import finite
from simam_deploy.compare.gates import GateRow, Tap, judge
from simam_deploy.compare.inputs import Case
from simam_deploy.compare.limits import FP32, NO_LIMITS, NOTHING_TO_DROP, OwnLimits, Precision
from simam_deploy.compare.outputs import OutputRow, compare, telling, unlike_types
from simam_deploy.compare.truth import (
    LEAST_TOLERANCE_FACTOR,
    Open,
    Truth,
    inputs_of,
    ordered,
    run_once,
    tolerance_factor,
)
from simam_deploy.errors import InputError
from simam_deploy.runtimes.session import in_types_of
from simam_deploy.text import as_table, counted, on_one_line

__all__ = ["LEAST_TOLERANCE_FACTOR", "Report", "run_once", "tolerance_factor", "verify"]
FIXED = (
    "the truth runs at this size, so this file fixes an axis that it declares dynamic\n"
    "mend it, declare the axis fixed, or give the one size to compare at with --shape"
)


@dataclass
class Report:
    """Rows of a comparison, and notes."""

    rows: list[OutputRow] = field(default_factory=list)
    gates: list[GateRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every row passed. False without rows, or if no row of a session distinguishes right from wrong."""
        told = bool(self.rows) and not self._mute
        return told and all(row.passed for row in self.rows) and all(gate.passed for gate in self.gates)

    @property
    def _mute(self) -> list[str]:
        """The sessions without a row that distinguishes right from wrong."""
        told = {row.session for row in self.rows if row.tells}
        return [session for session in dict.fromkeys(row.session for row in self.rows) if session not in told]

    def __str__(self) -> str:
        """Tables of the rows and gates, the notes, and a last line with the result."""
        rows = [
            (r.session, r.case, r.output, f"{r.max_abs_error:.2e}", f"{r.share:.3g}", "pass" if r.passed else "FAIL")
            for r in self.rows
        ]
        gates = [
            (g.session, g.case, g.block, f"{g.max_gate_error:.2e}", f"{g.share:.3g}", "pass" if g.passed else "FAIL")
            for g in self.gates
        ]
        parts = [as_table(("session", "case", "output", "max error", "of tolerance", ""), rows, last=("session",))]
        parts += (
            [as_table(("session", "case", "block", "gate error", "of tolerance", ""), gates, last=("session",))]
            if gates
            else []
        )
        return "\n".join((*parts, *map(on_one_line, self.notes), self.verdict))

    @property
    def verdict(self) -> str:
        """Result and number of comparisons, in one line."""
        compared: list[OutputRow | GateRow] = [*self.rows, *self.gates]
        failed = sum(not one.passed for one in compared)
        if self.passed:
            return f"passed: {'all ' if len(compared) > 1 else ''}{counted(len(compared), 'comparison')}"
        if failed:
            return f"FAILED: {failed} of {counted(len(compared), 'comparison')}"
        some = self._mute and len(self._mute) < len({row.session for row in self.rows})
        of = f" of {', '.join(self._mute)}" if some else ""
        return f"FAILED: none of {counted(len(compared), 'comparison')}{of} tells right from wrong"

    def as_dict(self) -> dict[str, Any]:
        """For JSON: infinities become null."""
        rows = {"rows": [asdict(r) for r in self.rows], "gates": [asdict(g) for g in self.gates]}
        return {"passed": self.passed, **finite(rows), "notes": self.notes}


def _says_nothing(row: OutputRow, precision: Precision) -> str:
    return (
        f"{row.session}: {precision.low} itself changes output {row.output!r} so much that zeros would pass "
        f"({row.case}): it shows nothing"
    )


def verify(
    candidates: Mapping[str, Open],
    cases: Sequence[Case],
    *,
    truth: Open,
    twin: Open,
    inputs: Sequence[str] | None = None,
    taps: Mapping[str, Sequence[Tap]] | None = None,
    others: Sequence[Case] = (),
    precisions: Mapping[str, Precision] | None = None,
    references: Mapping[str, Open] | None = None,
    limits: OwnLimits = NO_LIMITS,
    on_progress: Callable[[str], None] | None = None,
) -> Report:
    """Run every case through every candidate and compare each output with that of `truth`.

    candidates : label -> function that opens the session. Opened one at a time.
    truth : opens the float64 session.  twin : opens the float32 session of the same program, for the reference error.
    inputs : names of the inputs of the cases, in order; by default those of the truth.
    others : inputs of other sizes, the likeliest first. The first that the truth accepts becomes one more case.
    taps : label -> the inner values of SimAM blocks that the file exposes.
    precisions : label -> precision of its file; by default FP32.
    references : fp16 or bf16 -> opens the low reference.
    limits : of the user's own, in the place of those of the precision.
    Matches inputs and outputs by name, or by position if no name is common: see `Names`. Inputs of a PyTorch module
    have the names of its forward. Outputs in a dict have their keys as names; those in a tuple or list take the names
    of the first candidate.
    An output fails if its shape or kind differs from the truth; kinds are floats, integers, booleans, complex numbers
    and strings. Outputs of one kind and different width are compared by value. Empty outputs are equal.
    Nothing passes if float32 alone changes every output as much as zeros would, or if every output is 0 or constant.
    `notes` reports all this.
    Raises InputError if a session has other inputs or outputs than the truth, if the truth is random (so would be
    the reference error), or if every output is empty.
    """
    say = on_progress or (lambda _: None)
    true = Truth(truth, twin, cases, others, inputs, say)
    notes: list[str] = []
    report = Report()
    for label, open_candidate in candidates.items():
        say(label)
        with open_candidate() as session:
            session.label = label
            notes += [f"{label}: {note}" for note in session.notes]
            order, note = true.inputs.match(label, inputs_of(session))
            notes.append(note)
            tapped = list((taps or {}).get(label, ()))
            precision = (precisions or {}).get(label, FP32)
            low = (references or {}).get(precision.low) if precision.low else None
            bounds, found_in = (true.bounds, true.references) if low is None else true.low(precision.low, low)
            for at, case in enumerate(true.cases):
                say(f"{label} ({case.name})")
                try:
                    found = [run_once(session, feed, order) for feed in case.feeds]
                except InputError as error:
                    if not any(case is one for one in true.other):
                        raise
                    raise InputError(f"{error}\n{FIXED}") from error
                matched = [ordered(true.outputs, label, answer, session, tapped) for answer in found]
                values = [arrays for arrays, _ in matched]
                rows, unlike = compare(case.name, label, true.names, values, true.exact[at], bounds[at])
                if not unlike and not all(row.passed for row in rows) and precision == FP32 and true.loosen(at):
                    rows, _ = compare(case.name, label, true.names, values, true.exact[at], bounds[at])
                tells = telling(true.exact[at], bounds[at])
                rows = [
                    precision.judged(row, limits, told=told, reference=reference)
                    for row, told, reference in zip(rows, tells, found_in[at], strict=True)
                ]
                notes += [_says_nothing(row, precision) for row in rows if not row.tells and precision.low]
                types = unlike_types(true.names, values, true.own[at]) if precision == FP32 else []
                notes += [*(said for _, said in matched), *unlike, *(f"{label}: {line}" for line in types)]
                report.rows += rows
                fed = [in_types_of(session, dict(zip(order, feed, strict=True))) for feed in case.feeds]
                seen = [given | made for given, made in zip(fed, found, strict=True)]
                judged = [judge(case.name, label, tap, seen) for tap in tapped]
                notes += [f"{label}: {row.block}: {row.verdict} ({case.name})" for row in judged if row.verdict]
                report.gates += judged
    report.rows = [true.told(row) for row in report.rows]
    if limits.max_drop is not None and report.rows and all(row.agreement is None for row in report.rows):
        raise InputError(NOTHING_TO_DROP.format("the outputs"))
    if report.passed and not any(array.size for case in true.exact for feed in case for array in feed):
        raise InputError(
            f"nothing was compared: {', '.join(true.names)} of the truth hold nothing on any of the inputs "
            f"({', '.join(case.name for case in true.cases)}); "
            "give inputs for which they hold numbers (--inputs FILE.npz, or --shape)"
        )
    report.notes = list(dict.fromkeys(filter(None, [*true.notes(), *notes])))
    return report
