"""The float64 truth, the float32 reference error, and the tolerances of a comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from simam_deploy.compare.about_truth import about_the_truth
from simam_deploy.compare.gates import Tap
from simam_deploy.compare.inputs import Case
from simam_deploy.compare.limits import LOW_FACTOR
from simam_deploy.compare.matching import Names
from simam_deploy.compare.outputs import (
    OutputRow,
    Outputs,
    Reference,
    costs,
    loosened,
    mute,
    references,
    telling,
    wide,
)
from simam_deploy.errors import InputError, SimAMDeployError
from simam_deploy.formula import Array
from simam_deploy.runtimes.session import Session, first_line, in_types_of
from simam_deploy.text import Say

Open = Callable[[], Session]
LEAST_TOLERANCE_FACTOR = 16.0
"""Tolerance factor on small inputs; see `tolerance_factor`."""
SAME = 1e-9
"""Relative difference allowed between two runs of the truth: float64 sums in another order."""
ROUNDED_RUNS = 4
"""Runs with random roundings for an output that is no float: four show a choice between two equal numbers with
probability 7/8. Floats take one run."""


class Truth:
    """Results of all cases in float64, and the tolerances.

    inputs, outputs  : their names, see `Names`.
    cases, exact     : each case, and its outputs in float64, per feed in the order of `outputs`.
    own              : the same in float32, for the reference error.
    bounds           : per case, the tolerance of each output as in `compare`. `loosen` may raise them.
    references       : per case, how the outputs of float32 compare with the truth.
    `low` gives both for files of a 16-bit type.
    """

    def __init__(
        self,
        truth: Open,
        twin: Open,
        cases: Sequence[Case],
        others: Sequence[Case],
        inputs: Sequence[str] | None,
        say: Say,
    ) -> None:
        """Run truth and twin. Arguments and exceptions as in `verify`."""
        self._open, self._say = truth, say
        self._loosened: dict[int, list[str]] = {}
        self._low: dict[str, tuple[list[Array], list[list[Reference]]]] = {}
        with truth() as session:
            self.inputs = Names("inputs", "the truth", inputs_of(session))
            if inputs is not None:
                self.inputs = Names("inputs", "the first file", inputs)
            self._order, self._matched = self.inputs.match("the truth", inputs_of(session))
            results = _run_all("truth in float64", session, cases, self._order, say)
            self.other, answers, self._refused = _first_that_runs(session, others, self._order, say)
            self.cases, results = [*cases, *self.other], [*results, *answers]
            made = next((list(result) for feeds in results for result in feeds), [s.name for s in session.outputs])
            self.outputs = Names("outputs", "the truth", made, named=session.named)
            self.exact = self._ordered("the truth", results, session)
            if cases and cases[0].feeds:
                once_more = run_once(session, cases[0].feeds[0], self._order)
                _refuse_random(
                    self.names, self.exact[0][0], ordered(self.outputs, "the truth", once_more, session)[0]
                )
        with twin() as session:
            results = _run_all("float32 reference", session, self.cases, self._order, say)
            self.own = self._ordered("the float32 reference", results, session)
        of_all = zip(self.cases, self.exact, self.own, strict=True)
        self.bounds = [tolerance_factor(case) * np.array(costs(exact, own)) for case, exact, own in of_all]
        self.references = references(self.exact, self.own)
        mutes = mute(self.exact, [[list(feed) for feed in case.feeds] for case in self.cases])
        self._silent = dict(zip(self.names, mutes, strict=False))

    @property
    def names(self) -> list[str]:
        """Names of the outputs."""
        return self.outputs.names

    def low(self, low: str, reference: Open) -> tuple[list[Array], list[list[Reference]]]:
        """As `bounds` and `references`, of a 16-bit type. reference : opens the low reference, see limits.py."""
        if low not in self._low:
            with reference() as session:
                order, _ = self.inputs.match("the low reference", inputs_of(session))
                results = _run_all(f"{low} reference", session, self.cases, order, self._say)
                own = self._ordered(f"the {low} reference", results, session)
            pairs = zip(self.exact, own, self.bounds, strict=True)
            bounds = [np.maximum(LOW_FACTOR * np.array(costs(e, o)), bound) for e, o, bound in pairs]
            self._low[low] = bounds, references(self.exact, own)
        return self._low[low]

    def loosen(self, at: int) -> bool:
        """Run the truth of case `at` with random roundings, and raise its bounds at kinks: see `loosened`.

        Returns False if that was done before.
        """
        if at in self._loosened:
            return False
        case, exact, before = self.cases[at], self.exact[at], self.bounds[at]
        self._say(f"truth with roundings of float32 ({case.name})")
        with self._open() as session:
            moved = tolerance_factor(case) * self._moved(session, case, exact)
        self.bounds[at] = loosened(exact, before, moved)
        larger = zip(self.names, self.bounds[at] > before, telling(exact, self.bounds[at]), strict=True)
        self._loosened[at] = [
            f"{case.name}: roundings of float32 change values of output {name!r}, so some may differ"
            for name, is_larger, tells in larger
            if is_larger.any() and tells
        ]
        return True

    def told(self, row: OutputRow) -> OutputRow:
        """`row`, which tells what it told before if the output depends on the inputs, and the tolerance, or the boxes
        that it was judged by, would fail a wrong output."""
        at = [case.name for case in self.cases].index(row.case)
        tells = row.tells and telling(self.exact[at], self.bounds[at])[self.names.index(row.output)]
        return replace(row, tells=(tells or row.by_boxes) and not self._silent[row.output])

    def notes(self) -> list[str]:
        """Notes on outputs that show nothing, on sizes that the truth refuses, and on NaN."""
        on = ", ".join(case.name for case in self.cases)
        silent = [
            f"output {name!r} {why} on every input ({on}): it shows nothing"
            for name, why in self._silent.items()
            if why
        ]
        about = about_the_truth(self.cases, self.exact, self.own, self.bounds, self.names)
        kinks = chain(*self._loosened.values())
        return [*silent, *(case.note for case in self.cases), *self._refused, self._matched, *about, *kinks]

    def _ordered(
        self, label: str, results: Sequence[Sequence[Mapping[str, Array]]], session: Session
    ) -> list[Outputs]:
        return [[ordered(self.outputs, label, result, session)[0] for result in feeds] for feeds in results]

    def _moved(self, session: Session, case: Case, exact: Outputs) -> Array:
        """Largest error from random roundings over some runs; 0 if the truth does not run with roundings."""
        found = [np.zeros((len(self.names), 2))]
        all_floats = np.isinf(costs(exact, exact)).any(axis=1).all()
        for seed in range(1 if all_floats else ROUNDED_RUNS):
            feeds = [dict(zip(self._order, feed, strict=True)) for feed in case.feeds]
            try:
                results = [session.run_with_roundings(feed, seed) for feed in feeds]
            except Exception:  # a model may refuse rounded values; its tolerance stays
                break
            answers = [ordered(self.outputs, "the truth", r, session)[0] for r in results if r is not None]
            if len(answers) == len(exact):
                found.append(np.array(costs(exact, answers)))
        moved: Array = np.max(found, axis=0)
        return moved


def _run_all(
    what: str, session: Session, cases: Sequence[Case], order: Sequence[str], say: Say
) -> list[list[dict[str, Array]]]:
    """Results of the feeds of each case."""
    results = []
    for case in cases:
        say(f"{what} ({case.name})")
        results.append([run_once(session, feed, order) for feed in case.feeds])
    return results


def _first_that_runs(
    session: Session, others: Sequence[Case], order: Sequence[str], say: Say
) -> tuple[list[Case], list[list[dict[str, Array]]], list[str]]:
    """The first case that the truth accepts, its results, and notes on the refused ones."""
    refused: list[str] = []
    for case in others:
        try:
            return [case], _run_all("truth in float64", session, [case], order, say), refused
        except InputError:
            sizes = ", ".join(f"{name} {array.shape}" for name, array in zip(order, case.feeds[0], strict=True))
            refused.append(f"the truth takes no {sizes}, so nothing was compared at that size")
    return [], [], refused


def _refuse_random(names: Sequence[str], once: Sequence[Array], again: Sequence[Array]) -> None:
    """Raise InputError if two runs of the truth differ by more than float64 roundings."""
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


def inputs_of(session: Session) -> list[str]:
    """Names of the inputs of a session."""
    return [spec.name for spec in session.inputs]


def ordered(
    made: Names, label: str, result: Mapping[str, Array], session: Session, taps: Sequence[Tap] = ()
) -> tuple[list[Array], str]:
    """Outputs in the order of the truth, and a note. Outputs added for taps come last."""
    inner = {name for tap in taps for name in tap.names}
    own = [name for at, name in enumerate(result) if at < len(made.names) or name not in inner]
    names, note = made.match(label, own, named=session.named)
    return [result[name] for name in names], note


def run_once(session: Session, feed: Sequence[Array], names: Sequence[str] | None = None) -> dict[str, Array]:
    """Run a session on arrays in the order of its inputs, or of `names`, a permutation of them.

    Floats are rounded to 16 bits for an input of such a type, and widened for another.
    Raises InputError if the model does not run on them.
    """
    if len(feed) != len(session.inputs):
        takes = ", ".join(inputs_of(session))
        raise InputError(f"{session.label} takes {len(session.inputs)} inputs ({takes}); {len(feed)} were given")
    feeds = dict(zip(inputs_of(session) if names is None else names, feed, strict=True))
    try:
        return session.run(in_types_of(session, feeds))
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


def tolerance_factor(case: Case) -> float:
    """Tolerance as a multiple of the float32 reference error: 16, or sqrt(M) for inputs of M > 256 pixels.

    Two programs for one network make rounding errors of the same size in another order; which one is smaller depends
    on the input. But PyTorch sums a plane in blocks, with an error of a few eps. In OpenVINO and ONNX Runtime, behind
    a convolution, the error grows with M, as in sums that add value by value.
    `python -m benchmarks.parity` prints the measured errors on inputs.DEFAULT: at most 0.58 of this limit. A
    population variance in the last block alone exceeds the limit, except on a 256x256 map, where it is float32 noise.
    A λ that is off by 1 % may pass: compare the λ in the file. Constant inputs, and inputs far from 0, increase the
    error of running sums: a runtime may fail on `constant` or `offset` alone for that reason.

    M is the product of the axes of an input from 2 on; for three axes, of the last two, which may be H and W.
    """
    planes = [
        float(math.prod(array.shape[1 if array.ndim == 3 else 2 :]))
        for feed in case.feeds
        for array in feed
        if array.ndim >= 3
    ]
    return max(LEAST_TOLERANCE_FACTOR, math.sqrt(max(planes, default=0.0)))
