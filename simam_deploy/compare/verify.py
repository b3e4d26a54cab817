"""The same inputs through several sessions, and how far each is from the float64 truth.

A network has no formula to be held against, so the truth is the network itself run in float64 (the PyTorch module, or
the ONNX file on the reference evaluator), and the yardstick is what float32 itself costs there: the error of the same
program, by the same runtime, in float32. A runtime that computes the same function in another order makes errors of
that size; `slack` times as much is tolerated. Where that fails, the truth runs with random roundings of float32 as
well, as one run may hit a kink by luck: see `outputs.loosened`. Inside a network each SimAM block is also judged by
itself: its gate is compared with the formula, for the λ in the file, on the very x that this runtime computed, so
that a block cannot hide behind the others. That the λ is the trained one shows in the outputs, best on inputs that
are faint; `export` compares it with that of the module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from simam_deploy.artifacts.manifest import finite
from simam_deploy.compare.gates import GateRow, Tap, judge
from simam_deploy.compare.inputs import Case
from simam_deploy.compare.outputs import Row, compare, unlike_types
from simam_deploy.compare.truth import LEAST_SLACK, Open, Truth, inputs_of, ordered, run_once, slack
from simam_deploy.errors import InputError
from simam_deploy.text import as_table, on_one_line

__all__ = ["LEAST_SLACK", "Report", "run_once", "slack", "verify"]
FIXED = (
    "the truth runs at this size, so this file fixes an axis that it declares dynamic\n"
    "mend it, declare the axis fixed, or give the one size to compare at with --shape"
)


@dataclass
class Report:
    """All rows, and notes of what was done to load a model."""

    rows: list[Row] = field(default_factory=list)
    gates: list[GateRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every row passed; False when nothing was compared, or if no row tells right from wrong."""
        told = any(row.tells for row in self.rows)
        return told and all(row.passed for row in self.rows) and all(gate.passed for gate in self.gates)

    def __str__(self) -> str:
        """A table of the rows, one of the gates, the notes, and a line that says whether it passed, of how many."""
        rows = [
            (r.session, r.case, r.output, f"{r.max_abs_error:.2e}", f"{r.share:.3g}", "pass" if r.passed else "FAIL")
            for r in self.rows
        ]
        gates = [
            (g.session, g.case, g.block, f"{g.max_gate_error:.2e}", f"{g.share:.3g}", "pass" if g.passed else "FAIL")
            for g in self.gates
        ]
        parts = [as_table(("session", "case", "output", "max error", "of tolerance", ""), rows)]
        parts += [as_table(("session", "case", "block", "gate error", "of tolerance", ""), gates)] if gates else []
        return "\n".join((*parts, *map(on_one_line, self.notes), self.verdict))

    @property
    def verdict(self) -> str:
        """In one line, whether it passed, and of how many comparisons."""
        compared: list[Row | GateRow] = [*self.rows, *self.gates]
        failed = sum(not one.passed for one in compared)
        if self.passed:
            return f"passed: all {len(compared)} comparisons"
        if failed:
            return f"FAILED: {failed} of {len(compared)} comparisons"
        return f"FAILED: none of {len(compared)} comparisons tells right from wrong"

    def as_dict(self) -> dict[str, Any]:
        """For JSON: infinities become null."""
        rows = {"rows": [asdict(r) for r in self.rows], "gates": [asdict(g) for g in self.gates]}
        return {"passed": self.passed, **finite(rows), "notes": self.notes}


def verify(
    candidates: Mapping[str, Open],
    cases: Sequence[Case],
    *,
    truth: Open,
    twin: Open,
    inputs: Sequence[str] | None = None,
    taps: Mapping[str, Sequence[Tap]] | None = None,
    others: Sequence[Case] = (),
    on_progress: Callable[[str], None] | None = None,
) -> Report:
    """Run every case through every candidate and compare each output with that of `truth`.

    candidates : label -> function that opens the session; opened one after the other.
    truth : opens the float64 session.  twin : opens the float32 session of the same program, the yardstick.
    inputs : names of the inputs that the cases are for, in their order; by default those of the truth.
    others : inputs of other sizes, the likeliest first. The first that the truth takes is one more case; `notes` says
    which it does not take.
    taps : for the candidates whose files expose them, the inner values of their SimAM blocks.
    Inputs and outputs are matched by name, or by position where no name is the same; `notes` says so, see `Names`.
    The inputs of a PyTorch module have the names in its forward, and outputs in a dict their keys. Outputs in a tuple
    or a list have no names of their own: the first candidate gives them.
    An output with another shape or kind of number than in the truth fails; the kinds are floats, whole numbers, truth
    values, complex numbers and texts. One of the same kind and another width than in `twin` is compared by value. One
    that is empty in both is equal. Where float32 alone changes every output as much as zeros would, or each is 0, or
    the same, on every input, nothing passes. `notes` says all that.
    Raises InputError when a session has other inputs or outputs than the truth, when the truth gives other results
    for the same inputs (the yardstick would then be as random, and pass anything), or when every output is empty.
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
                rows, unlike = compare(case.name, label, true.names, values, true.exact[at], true.bounds[at])
                if not unlike and not all(row.passed for row in rows) and true.loosen(at):
                    rows, _ = compare(case.name, label, true.names, values, true.exact[at], true.bounds[at])
                types = unlike_types(true.names, values, true.own[at])
                notes += [*(said for _, said in matched), *unlike, *(f"{label}: {line}" for line in types)]
                report.rows += rows
                seen = [dict(zip(order, f, strict=True)) | a for f, a in zip(case.feeds, found, strict=True)]
                report.gates += [judge(case.name, label, tap, seen) for tap in tapped]
    tells = true.tells()
    report.rows = [replace(row, tells=tells[row.case, row.output]) for row in report.rows]
    if report.passed and not any(array.size for case in true.exact for feed in case for array in feed):
        raise InputError(
            f"nothing was compared: {', '.join(true.names)} of the truth hold nothing on any of the inputs "
            f"({', '.join(case.name for case in true.cases)}); "
            "give inputs for which they hold numbers (--inputs FILE.npz, or --shape)"
        )
    report.notes = list(dict.fromkeys(filter(None, [*true.notes(), *notes])))
    return report
