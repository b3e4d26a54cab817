"""The same inputs through several sessions, and how far each is from the float64 truth.

A network has no formula to be held against, so the truth is the network itself run in float64 (the PyTorch module, or
the ONNX file on the reference evaluator), and the yardstick is what float32 itself costs there: the error of the same
program, by the same runtime, in float32. A runtime that computes the same function in another order makes errors of
that size; `slack` times as much is tolerated. Inside a network each SimAM block is also judged by itself: its gate is
compared with the formula, for the λ in the file, on the very x that this runtime computed, so that a block cannot
hide behind the others. That the λ is the trained one shows in the outputs, best on inputs that are faint; `export`
compares it with that of the module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simam_deploy.errors import InputError, SimAMDeployError
from simam_deploy.gates import GateRow, Tap, judge
from simam_deploy.inputs import Case
from simam_deploy.manifest import finite
from simam_deploy.outputs import Outputs, Row, compare, costs, mute, telling, unlike_types, wide
from simam_deploy.runtimes.matching import Names
from simam_deploy.runtimes.session import Session, first_line

Array = NDArray[Any]
Open = Callable[[], Session]
LEAST_SLACK = 16.0
"""How many of PyTorch's own errors pass on small inputs; see `slack`."""
FIXED = (
    "the truth runs at this size, so this file fixes an axis that it declares dynamic\n"
    "mend it, declare the axis fixed, or give the one size to compare at with --shape"
)
SAME = 1e-9
"""How far two runs of the truth may be apart, relative to its largest value: sums in another order in float64."""


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
    A PyTorch module has no names of its own, but for outputs in a dict: the first candidate that has any gives them.
    An output with another shape or kind of number than in the truth fails. One of the same kind and another type than
    in `twin` is compared. One that is empty in both is equal. Where float32 alone changes every output as much as
    zeros would, or each is 0, or the same, on every input, nothing passes. `notes` says all that.
    Raises InputError when a session has other inputs or outputs than the truth, when the truth gives other results
    for the same inputs (the yardstick would then be as random, and pass anything), or when every output is empty.
    """
    say = on_progress or (lambda _: None)
    with truth() as session:
        given = Names("inputs", "the truth", _inputs(session), named=session.named)
        if inputs is not None:
            given = Names("inputs", "the first file", inputs)
        order, _ = given.match("the truth", _inputs(session), named=session.named)
        results = _run_all("truth in float64", session, cases, order, say)
        other, answers, refused = _first_that_runs(session, others, order, say)
        cases, results = [*cases, *other], [*results, *answers]
        names = next((list(result) for feeds in results for result in feeds), [spec.name for spec in session.outputs])
        made = Names("outputs", "the truth", names, named=session.named)
        exact = [[_ordered(made, "the truth", result, session)[0] for result in feeds] for feeds in results]
        if cases and cases[0].feeds:
            once_more = run_once(session, cases[0].feeds[0], order)
            _refuse_random(made.names, exact[0][0], _ordered(made, "the truth", once_more, session)[0])
    with twin() as session:
        results = _run_all("yardstick in float32", session, cases, order, say)
        yardstick = [[_ordered(made, "the yardstick", result, session)[0] for result in feeds] for feeds in results]
    bounds = [slack(c) * np.array(costs(e, y)) for c, e, y in zip(cases, exact, yardstick, strict=True)]
    silent = dict(zip(made.names, mute(exact, [[list(feed) for feed in case.feeds] for case in cases]), strict=False))
    on = ", ".join(case.name for case in cases)
    notes = [f"output {name!r} {why} on every input ({on}): it shows nothing" for name, why in silent.items() if why]
    notes += [
        *(case.note for case in cases),
        *refused,
        *_about_the_truth(cases, exact, yardstick, bounds, made.names),
    ]
    report = Report()
    for label, open_candidate in candidates.items():
        say(label)
        with open_candidate() as session:
            session.label = label
            notes += [f"{label}: {note}" for note in session.notes]
            order, note = given.match(label, _inputs(session), named=session.named)
            notes.append(note)
            tapped = list((taps or {}).get(label, ()))
            for case, truths, own, bound in zip(cases, exact, yardstick, bounds, strict=True):
                say(f"{label} ({case.name})")
                try:
                    found = [run_once(session, feed, order) for feed in case.feeds]
                except InputError as error:
                    if not any(case is one for one in other):
                        raise
                    raise InputError(f"{error}\n{FIXED}") from error
                values = [_ordered(made, label, answer, session, tapped) for answer in found]
                rows, unlike = compare(case.name, label, made.names, [v for v, _ in values], truths, bound)
                types = unlike_types(made.names, [v for v, _ in values], own)
                notes += [*(note for _, note in values), *unlike, *(f"{label}: {line}" for line in types)]
                report.rows += [replace(row, tells=row.tells and not silent[row.output]) for row in rows]
                seen = [dict(zip(order, f, strict=True)) | a for f, a in zip(case.feeds, found, strict=True)]
                report.gates += [judge(case.name, label, tap, seen) for tap in tapped]
    if report.passed and not any(array.size for case in exact for feed in case for array in feed):
        raise InputError(
            f"nothing was compared: {', '.join(made.names)} of the truth hold nothing on any of the inputs "
            f"({', '.join(case.name for case in cases)}); "
            "give inputs for which they hold numbers (--inputs FILE.npz, or --shape)"
        )
    report.notes = list(dict.fromkeys(filter(None, notes)))
    return report


def _run_all(
    what: str, session: Session, cases: Sequence[Case], order: Sequence[str], say: Callable[[str], None]
) -> list[list[dict[str, Array]]]:
    """Per case, the results of its feeds."""
    results = []
    for case in cases:
        say(f"{what} ({case.name})")
        results.append([run_once(session, feed, order) for feed in case.feeds])
    return results


def _first_that_runs(
    session: Session, others: Sequence[Case], order: Sequence[str], say: Callable[[str], None]
) -> tuple[list[Case], list[list[dict[str, Array]]], list[str]]:
    """The first case that the truth takes, its results, and notes of the inputs that it does not take."""
    refused: list[str] = []
    for case in others:
        try:
            return [case], _run_all("truth in float64", session, [case], order, say), refused
        except InputError:
            sizes = ", ".join(f"{name} {array.shape}" for name, array in zip(order, case.feeds[0], strict=True))
            refused.append(f"the truth takes no {sizes}, so nothing was compared at that size")
    return [], [], refused


def _refuse_random(names: Sequence[str], once: Sequence[Array], again: Sequence[Array]) -> None:
    """Two runs of one program in float64 on the same inputs differ by roundings, if at all."""
    for name, one, other in zip(names, once, again, strict=True):
        size = float(np.max(np.abs(wide(one)), initial=0, where=np.isfinite(wide(one))))
        if one.shape != other.shape or not (
            np.array_equal(one, other)
            if one.dtype.kind in "OSU"
            else np.allclose(wide(one), wide(other), rtol=0, atol=SAME * size, equal_nan=True)
        ):
            raise InputError(
                f"the truth gives other results for the same inputs (output {name!r}), so nothing can be compared "
                "with it: it draws random numbers, or remembers an earlier run\nswitch that off where the model does "
                "not train (in export, --no-check leaves the comparison out)"
            )


def _inputs(session: Session) -> list[str]:
    return [spec.name for spec in session.inputs]


def _ordered(
    made: Names, label: str, result: Mapping[str, Array], session: Session, taps: Sequence[Tap] = ()
) -> tuple[list[Array], str]:
    """The outputs in the order of the truth's, and a note. A tap may be one; those added for taps come last."""
    inner = {name for tap in taps for name in tap.names}
    own = [name for at, name in enumerate(result) if at < len(made.names) or name not in inner]
    names, note = made.match(label, own, named=session.named)
    return [result[name] for name in names], note


def _about_the_truth(
    cases: Sequence[Case],
    exact: Sequence[Outputs],
    yardstick: Sequence[Outputs],
    bounds: Sequence[Array],
    names: Sequence[str],
) -> list[str]:
    """What the rows do not show: values that nothing can equal, and outputs of which nothing is compared."""
    notes: list[str] = []
    empty: dict[str, list[str]] = {name: [] for name in names}
    for case, feeds, others, bound in zip(cases, exact, yardstick, bounds, strict=True):
        notes += [
            f"{case.name}: float32 itself changes output {name!r} so much that zeros would pass: it shows nothing"
            for name, tells in zip(names, telling(feeds, bound), strict=True)
            if not tells
        ]
        if not all(np.isfinite(wide(array)).all() for arrays in feeds for array in arrays):
            notes.append(f"{case.name}: the truth itself holds NaN or infinity, so nothing can equal it")
        elif not all(np.isfinite(wide(array)).all() for arrays in others for array in arrays):
            notes.append(
                f"{case.name}: in float32 the truth holds NaN or infinity; these count as no error of its own"
            )
        for at, name in enumerate(names):
            if not any(arrays[at].size for arrays in feeds):
                empty[name].append(case.name)
            for a, b in zip(feeds, others, strict=True):
                if a[at].shape != b[at].shape and (a[at].size or b[at].size):
                    shapes = f"{a[at].shape} in float64 and {b[at].shape} in float32"
                    notes.append(f"{case.name}: output {name!r} has the shape {shapes}, so it hangs on roundings")
    for name, found in empty.items():
        on = "any of the inputs" if len(found) == len(cases) else ", ".join(found)
        if found:
            notes.append(f"output {name!r} is empty on {on}: nothing of it was compared there")
    return notes


def run_once(session: Session, feed: Sequence[Array], names: Sequence[str] | None = None) -> dict[str, Array]:
    """`session.run` on arrays in the order of its inputs, or of `names`, which are the same in another order.

    Raises InputError when the model does not run on them.
    """
    if len(feed) != len(session.inputs):
        takes = ", ".join(_inputs(session))
        raise InputError(f"{session.label} takes {len(session.inputs)} inputs ({takes}); {len(feed)} were given")
    feeds = dict(zip(_inputs(session) if names is None else names, feed, strict=True))
    try:
        return session.run(feeds)
    except InputError as error:
        raise InputError(
            f"{error}\n--shape gives inputs of other sizes, --inputs FILE.npz those of a file"
        ) from error
    except SimAMDeployError:
        raise
    except Exception as error:  # each framework has its own
        sizes = ", ".join(str(array.shape) for array in feed)
        mend = "if the model takes other sizes, give them with --shape"
        if whole := [array for array in feed if array.dtype.kind in "iu" and array.size]:
            ends = f"from {min(int(a.min()) for a in whole)} to {max(int(a.max()) for a in whole)}"
            mend += f"; its integers are {ends}: if it takes others, give them with --inputs FILE.npz"
        if session.label == "eager[float64]":
            mend += "; if it casts to float32 inside, it has no float64 truth: export with --no-check"
        raise InputError(
            f"{session.label} does not run on inputs of shape {sizes}: {first_line(error)}\n{mend}"
        ) from error


def slack(case: Case) -> float:
    """How many times PyTorch's error another float32 program may make: 16, or sqrt(M) for inputs of M > 256 pixels.

    Two programs for one network differ from the truth by roundings of the same size in another order, and which is
    the luckier depends on the input. But PyTorch sums a plane in blocks, at a few eps, where the errors of OpenVINO
    and ONNX Runtime behind a convolution grow with M, as those of sums do that run through it value by value.
    `python -m benchmarks.parity` prints what was measured on inputs.DEFAULT: at most 0.58 of this limit. A population
    variance in the last block alone exceeds it, but on a map of 256x256, where it is float32 noise. λ that is 1 % off
    may pass: see which λ the file has. Inputs of one value, or far from 0, cost running sums more: a runtime that
    fails on `constant` or `offset` alone does so for that.

    M is the product of an input's axes from 2 on. Of three axes it is that of the last two, as they may be H and W.
    """
    planes = [
        float(math.prod(array.shape[1 if array.ndim == 3 else 2 :]))
        for feed in case.feeds
        for array in feed
        if array.ndim >= 3
    ]
    return max(LEAST_SLACK, math.sqrt(max(planes, default=0.0)))
