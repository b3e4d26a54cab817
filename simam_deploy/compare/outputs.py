"""Errors of the outputs of one session against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simam_deploy.compare import boxes
from simam_deploy.formula import Array

Outputs = list[list[Array]]
"""For each feed, the outputs in order."""


class Reference(NamedTuple):
    """How an output of a reference run compares with the truth, see OutputRow."""

    agreement: float | None
    snr_db: float


EPS = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class OutputRow:
    """Comparison of one output, for one session and one case."""

    case: str
    session: str
    output: str
    max_abs_error: float
    share: float
    """max_abs_error over the tolerance; 1 is the limit. For integers and strings, also the count of differences over
    the tolerance factor times the count in float32: near labels do not make a class map right."""
    snr_db: float
    worst_element: int
    """Index along the first axis of the largest error, counted over all feeds of the case."""
    passed: bool
    agreement: float | None = None
    """Share of equal labels: of equal integers, or of equal places of the largest in an output (N, classes). Of boxes
    that agree, for a YOLO: see boxes.py. None for other outputs."""
    labels: bool = False
    """Whether its values are integers, booleans or strings."""
    ranked: bool = False
    """Whether it lists boxes by their scores: a small change of a score moves whole rows."""
    by_boxes: bool = False
    """Whether it was judged by the boxes that agree."""
    tells: bool = True
    """Whether a wrong output would fail; set by `verify`. False if zeros would pass (see `telling`), or if the output
    does not depend on the inputs (see `mute`)."""


def costs(exact: Outputs, own: Outputs) -> list[tuple[float, float]]:
    """Float32 reference error per output, from `own`, the float32 run of the same program.

    Returns the largest finite error, at least one rounding of the largest float, and the count of changed integers
    and strings (infinite for floats).
    """
    found = []
    for at in range(len(exact[0])):
        off = [_off(y[at], e[at]) for e, y in zip(exact, own, strict=True)]
        floats = [np.abs(wide(e[at])) for e in exact if not _is_exact(e[at])]
        sizes = [*off, *(EPS * array for array in floats)]
        largest = max(float(np.max(error, initial=0, where=np.isfinite(error))) for error in sizes)
        found.append((largest, np.inf if floats else float(sum(map(np.count_nonzero, off)))))
    return found


def loosened(exact: Outputs, bounds: Array, moved: Array) -> Array:
    """Raise `bounds` to `moved` for outputs at a kink; others keep their tolerance.

    At a kink, roundings change integers, booleans or strings, or change floats so much that zeros would pass. One
    float32 run may miss a kink by luck: the standard deviation of a constant map is 0 in one order of the sums, and
    6e-8 in another. Two equal numbers may sort either way.
    bounds, moved : as in `compare`; moved for the truth with random roundings, see `Session.run_with_roundings`.
    """
    exactly = np.isfinite(moved[:, 1])
    kinks = exactly | ~np.array(telling(exact, moved), bool)
    return np.where(kinks[:, None], np.maximum(bounds, moved), bounds)


def telling(exact: Outputs, bounds: Array) -> list[bool]:
    """Per output, whether zeros in its place would fail, or are right. bounds : as in `compare`.

    In float32 alone, an output may come in another order, or be drawn by lot; then the tolerance lets anything pass.
    """
    found = []
    for at, (most, many) in enumerate(bounds):
        errors = [_off(np.zeros_like(truth[at]), truth[at]) for truth in exact]
        found.append(bool(most == 0 or _worst_share(errors, most, many) > 1))
    return found


def mute(exact: Sequence[Outputs], inputs: Sequence[Outputs]) -> list[str]:
    """Per output, the reason why it shows nothing, or "".

    It "is 0" on all feeds of all cases, or "is the same" on different inputs of one size.
    exact : outputs of each case.  inputs : its feeds.
    """
    feeds = [(given, made) for case in zip(inputs, exact, strict=True) for given, made in zip(*case, strict=True)]
    found = []
    for at in range(len(feeds[0][1]) if feeds else 0):
        of_size: dict[tuple[int, ...], list[tuple[Sequence[Array], Array]]] = {}
        for given, made in feeds:
            if made[at].size:
                of_size.setdefault(made[at].shape, []).append((given, made[at]))
        alike = [[_equal([made], [group[0][1]]) for _, made in group] for group in of_size.values()]
        unlike_inputs = any(not _equal(given, group[0][0]) for group in of_size.values() for given, _ in group)
        zero = of_size and all(_is_zero(made) for group in of_size.values() for _, made in group)
        same = unlike_inputs and all(map(all, alike))
        found.append("is 0" if zero else "is the same" if same else "")
    return found


def _is_zero(array: Array) -> bool:
    return _kind(array) != "S" and not array.astype(bool).any()


def _equal(some: Sequence[Array], others: Sequence[Array]) -> bool:
    return all(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(some, others, strict=True))


def _worst_share(errors: list[Array], most: float, many: float) -> float:
    worst = max(float(error.max(initial=0)) for error in errors)
    return max(_share(worst, most), _share(float(sum(map(np.count_nonzero, errors))), many))


def compare(
    case: str, label: str, names: Sequence[str], values: Outputs, exact: Outputs, bounds: Array
) -> tuple[list[OutputRow], list[str]]:
    """A row for each output, and notes on different shapes and kinds. bounds : `costs` times a tolerance factor."""
    rows, notes = [], []
    for at, (name, (most, many)) in enumerate(zip(names, bounds, strict=True)):
        pairs = [(feed[at], truth[at]) for feed, truth in zip(values, exact, strict=True)]
        errors = [_off(got, true) for got, true in pairs]
        by_element = np.concatenate(
            [e.max(axis=tuple(range(1, e.ndim)), initial=0) for e in map(np.atleast_1d, errors)]
        )
        worst = float(by_element.max(initial=0))
        share = _worst_share(errors, most, many)
        at_worst = int(by_element.argmax()) if worst else 0
        rows.append(
            OutputRow(
                case=case,
                session=label,
                output=name,
                max_abs_error=worst,
                share=share,
                snr_db=_snr(pairs, errors),
                worst_element=at_worst,
                passed=bool(share <= 1),
                agreement=agreement(pairs),
                labels=_is_exact(pairs[0][1]),
                ranked=boxes.are_ranked([true for _, true in pairs]),
            )
        )
        unlike = [(g, t) for g, t in pairs if g.shape != t.shape and (g.size or t.size)]
        notes += [
            f"{label}: output {name!r} has shape {g.shape} on {case}; the truth has {t.shape}" for g, t in unlike
        ]
        others = dict.fromkeys((g.dtype, t.dtype) for g, t in pairs if _kind(g) != _kind(t))
        notes += [f"{label}: output {name!r} is of type {g} on {case}; the truth is of {t}" for g, t in others]
    return rows, notes


def agreement(pairs: Sequence[tuple[Array, Array]]) -> float | None:
    """See OutputRow. pairs : result and truth of each feed."""
    equal: list[Array] = []
    for got, true in pairs:
        if got.shape != true.shape or _kind(got) != _kind(true) or not true.size:
            return None
        if _is_exact(true):
            equal.append((got == true).ravel())
        elif true.ndim == 2 and true.shape[1] > 1 and _kind(true) == "f":
            equal.append(wide(got).argmax(axis=1) == wide(true).argmax(axis=1))
        else:
            return boxes.agreement(pairs) if _kind(true) == "f" else None
    return float(np.concatenate(equal).mean()) if equal else None


def references(exact: Sequence[Outputs], own: Sequence[Outputs]) -> list[list[Reference]]:
    """Per case and output. own : the outputs of the reference run."""
    return [
        [
            Reference(agreement(pairs), _snr(pairs, [_off(y, e) for y, e in pairs]))
            for pairs in ([(y[at], e[at]) for e, y in zip(feeds, others, strict=True)] for at in range(len(feeds[0])))
        ]
        if feeds
        else []
        for feeds, others in zip(exact, own, strict=True)
    ]


def _snr(pairs: Sequence[tuple[Array, Array]], errors: Sequence[Array]) -> float:
    """Signal-to-noise ratio in dB. pairs : result and truth of each feed.  errors : of them."""
    signal = sum(float(np.sum(np.abs(wide(true)) ** 2)) for _, true in pairs)
    noise = sum(float(np.sum(e * e)) for e in errors)
    return float(10 * np.log10(signal / noise)) if 0 < noise < np.inf and signal else (-np.inf if noise else np.inf)


def unlike_types(names: Sequence[str], values: Outputs, own: Outputs) -> list[str]:
    """A line for each output whose type differs from the model's own, but not its kind."""
    found = []
    for at, name in enumerate(names):
        pairs = [(feed[at], other[at]) for feed, other in zip(values, own, strict=True)]
        types = dict.fromkeys((g.dtype, o.dtype) for g, o in pairs if _kind(g) == _kind(o) != "S")
        found += [
            f"output {name!r} is of type {got}, and of {its} in the model that the truth is made of; "
            "their values are compared"
            for got, its in types
            if got != its
        ]
    return found


def _share(error: float, bound: float) -> float:
    return error / bound if bound else (0.0 if not error else np.inf)


def _off(got: Array, true: Array) -> Array:
    """|got - true|; infinite for NaN and for another shape or kind; at least 1 for different integers and strings."""
    if not got.size and not true.size:
        return np.zeros(0)
    if got.shape != true.shape or _kind(got) != _kind(true):
        return np.full(max(1, *got.shape[:1], *true.shape[:1]), np.inf)
    off = np.abs(wide(got) - wide(true))
    if _is_exact(got) and _is_exact(true):  # float64 does not hold every int64
        return np.where(got == true, 0.0, np.maximum(off, 1))
    return np.where(np.isnan(off), np.inf, off)


def _kind(array: Array) -> str:
    """Kind of an array: f for floats, i for integers, b for booleans, S for strings, c for complex numbers."""
    return {"u": "i", "O": "S", "U": "S", "V": "f"}.get(array.dtype.kind, array.dtype.kind)  # V : bfloat16


def _is_exact(array: Array) -> bool:
    """Whether its values are integers, booleans or strings."""
    return _kind(array) in "ibS"


def wide(array: Array) -> Array:
    """Convert to float64 or complex128; zeros for strings."""
    if _kind(array) == "S":
        return np.zeros(array.shape)
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
