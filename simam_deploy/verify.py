"""The same inputs through several sessions, and how far each is from the float64 truth.

A network has no formula to be held against, so the truth is the network itself run in float64 (the PyTorch module, or
the ONNX file on the reference evaluator), and the yardstick is what float32 itself costs there: the error of the same
program, by the same runtime, in float32. A runtime that computes the same function in another order makes errors of
that size; `slack` times as much is tolerated. Inside a network each SimAM block is also judged by itself: its gate is
compared with the formula, for the λ in the file, on the very x that this runtime computed, so that a block cannot
hide behind the others. That the λ is the trained one shows in the outputs alone, best on inputs that are faint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simam_deploy import formula
from simam_deploy.errors import InputError, SimAMDeployError
from simam_deploy.inputs import Case
from simam_deploy.manifest import finite
from simam_deploy.recognise.tail import Tail
from simam_deploy.runtimes.session import Session, first_line, pick

Array = NDArray[Any]
Open = Callable[[], Session]
Outputs = list[list[Array]]
"""Per feed, the outputs in order."""

LEAST_SLACK = 16.0
"""How many of PyTorch's own errors pass on small inputs; see `slack`."""
EPS = float(np.finfo(np.float32).eps)
COLLAPSED = float(1 / (1 + np.exp(-0.5)))
"""sigmoid(½) = 0.622: the gate of everything once a half-precision sum has overflowed."""


@dataclass(frozen=True)
class Tap:
    """Outputs of a session that are the x and the y of one SimAM block, and the residual where it has one inside."""

    block: str
    x: str
    y: str
    e_lambda: float
    tail: Tail | None = None
    """What is done between SimAM and y."""

    @property
    def names(self) -> list[str]:
        """Of the outputs."""
        residual = None if self.tail is None else self.tail.residual
        return [self.x, self.y, *([] if residual is None else [str(residual.name)])]


@dataclass(frozen=True)
class Row:
    """One output of one session on one case."""

    case: str
    session: str
    output: str
    max_abs_error: float
    share: float
    """max_abs_error over the tolerance; 1 is the limit."""
    snr_db: float
    worst_element: int
    """Index along the first axis of the largest error, counted over all feeds of the case."""
    passed: bool


@dataclass(frozen=True)
class GateRow:
    """One SimAM block of one session on one case, against the formula on the x it got."""

    case: str
    session: str
    block: str
    e_lambda: float
    """λ of the file, with which the gate is judged."""
    max_gate_error: float
    share: float
    """Largest error of y over sqrt(M) times `formula.tolerance` of its plane of M values; 1 is the limit.

    `formula.tolerance` is for sums in blocks; inside a network runtimes sum value by value, see `slack`.
    """
    collapsed: float
    """Share of the gate within 1e-3 of sigmoid(½) beyond what the formula has there; 0 in a healthy block."""
    passed: bool


@dataclass
class Report:
    """All rows, and notes of what was done to load a model."""

    rows: list[Row] = field(default_factory=list)
    gates: list[GateRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every row passed; False when nothing was compared."""
        return bool(self.rows) and all(row.passed for row in self.rows) and all(gate.passed for gate in self.gates)

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
    taps: Mapping[str, Sequence[Tap]] | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> Report:
    """Run every case through every candidate and compare with `truth`, output by output, in order.

    candidates : label -> function that opens the session; opened one after the other.
    truth : opens the float64 session.  twin : opens the float32 session of the same program, the yardstick.
    taps : for the candidates whose files expose them, the inner values of their SimAM blocks.
    Inputs and outputs are matched by position, as runtimes name them differently.
    Raises InputError when a session has other inputs or outputs than the truth.
    """
    say = on_progress or (lambda _: None)
    exact, names = _run_all(truth, cases, lambda case: say(f"truth in float64 ({case})"))
    yardstick, _ = _run_all(twin, cases, lambda case: say(f"yardstick in float32 ({case})"))
    bounds = [slack(c) * np.array(_costs(e, y)) for c, e, y in zip(cases, exact, yardstick, strict=True)]
    report = Report()
    for case, feeds in zip(cases, exact, strict=True):
        if not all(np.isfinite(array).all() for arrays in feeds for array in arrays):
            report.notes.append(f"{case.name}: the truth itself holds NaN or infinity, so nothing can equal it")
    for label, open_candidate in candidates.items():
        say(label)
        with open_candidate() as session:
            tapped = list((taps or {}).get(label, ()))
            report.notes += [f"{label}: {note}" for note in session.notes]
            for case, truths, bound in zip(cases, exact, bounds, strict=True):
                say(f"{label} ({case.name})")
                results = [run_once(session, feed) for feed in case.feeds]
                values = [_without_taps(label, result, tapped, names) for result in results]
                report.rows += _compare(case.name, label, names, values, truths, bound)
                given = [{**_feeds(session, f), **r} for f, r in zip(case.feeds, results, strict=True)]
                report.gates += [_judge_gate(case.name, label, tap, given) for tap in tapped]
    return report


def _without_taps(label: str, result: Mapping[str, Array], taps: Sequence[Tap], names: Sequence[str]) -> list[Array]:
    """The outputs that the truth has too. A tap may be one of them; those added for taps come last."""
    inner = {name for tap in taps for name in tap.names}
    kept = [array for i, (name, array) in enumerate(result.items()) if i < len(names) or name not in inner]
    if len(kept) != len(names):
        raise InputError(f"{label} has the outputs {', '.join(result)}; the truth has {', '.join(names)}")
    return kept


def _run_all(
    open_session: Open, cases: Sequence[Case], say: Callable[[str], None]
) -> tuple[list[Outputs], list[str]]:
    found = []
    with open_session() as session:
        for case in cases:
            say(case.name)
            found.append([list(run_once(session, feed).values()) for feed in case.feeds])
        return found, [spec.name for spec in session.outputs]


def run_once(session: Session, feed: Sequence[Array]) -> dict[str, Array]:
    """`session.run` on arrays in the order of its inputs. Raises InputError when the model does not run on them."""
    feeds = _feeds(session, feed)
    try:
        return session.run(feeds)
    except SimAMDeployError:
        raise
    except Exception as error:  # each framework has its own
        sizes = ", ".join(str(array.shape) for array in feed)
        mend = "if the model takes other sizes, give them with --shape"
        if session.label == "eager[float64]":
            mend += "; if it casts to float32 inside, it has no float64 truth: export with --no-check"
        raise InputError(
            f"{session.label} does not run on inputs of shape {sizes}: {first_line(error)}\n{mend}"
        ) from error


def _feeds(session: Session, feed: Sequence[Array]) -> dict[str, Array]:
    if len(feed) != len(session.inputs):
        names = ", ".join(spec.name for spec in session.inputs)
        raise InputError(f"{session.label} takes {len(session.inputs)} inputs ({names}); {len(feed)} were given")
    return pick(session.inputs, feed)


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


def _costs(exact: Outputs, yardstick: Outputs) -> list[float]:
    """Per output, the largest float32 error of the yardstick, or a rounding of the largest value."""
    costs = []
    for at in range(len(exact[0])):
        pairs = [(e[at].astype(np.float64), y[at].astype(np.float64)) for e, y in zip(exact, yardstick, strict=True)]
        size = max(float(np.max(np.abs(e), initial=0)) for e, _ in pairs)
        cost = max(float(np.max(np.abs(y - e), initial=0)) for e, y in pairs)
        costs.append(max(cost, EPS * size))
    return costs


def _compare(
    case: str, label: str, names: Sequence[str], values: Outputs, exact: Outputs, bounds: Array
) -> list[Row]:
    rows = []
    for at, (name, bound) in enumerate(zip(names, bounds, strict=True)):
        got = [np.asarray(feed[at], dtype=np.float64) for feed in values]
        true = [np.asarray(feed[at], dtype=np.float64) for feed in exact]
        if any(g.shape != t.shape for g, t in zip(got, true, strict=True)):
            raise InputError(f"{label}: output {name!r} has shape {got[0].shape}; the truth has {true[0].shape}")
        errors = [np.abs(g - t) for g, t in zip(got, true, strict=True)]
        errors = [np.where(np.isnan(e), np.inf, e) for e in errors]
        if not any(e.size for e in errors):
            raise InputError(
                f"{label}: output {name!r} has shape {got[0].shape} on the inputs {case}: there is nothing to "
                "compare; give inputs for which it holds numbers (--inputs FILE.npz, or --shape)"
            )
        by_element = np.concatenate(
            [e.max(axis=tuple(range(1, e.ndim)), initial=0) if e.ndim else e.reshape(1) for e in errors]
        )
        worst = float(by_element.max(initial=0))
        signal = sum(float(np.sum(t * t)) for t in true)
        noise = sum(float(np.sum(e * e)) for e in errors)
        snr = 10 * np.log10(signal / noise) if 0 < noise < np.inf and signal else (-np.inf if noise else np.inf)
        share = worst / bound if bound else (0.0 if not worst else np.inf)
        rows.append(Row(case, label, name, worst, share, float(snr), int(by_element.argmax()), bool(share <= 1)))
    return rows


def _judge_gate(case: str, label: str, tap: Tap, results: Sequence[Mapping[str, Array]]) -> GateRow:
    """The worst of all feeds. The gate is what x is multiplied with, so its error is that of y over |x|, where |x| is
    not so small that roundings show. With a tail, y is the result of it all, and |scale * x| stands for |x|."""
    error = share = collapsed = 0.0
    for result in results:
        x, y = formula.as_maps(result[tap.x]), formula.as_maps(np.asarray(result[tap.y], dtype=np.float64))
        wide = np.asarray(x, dtype=np.float64)
        gate = formula.gate(wide, tap.e_lambda)
        bound = np.sqrt(x.shape[2] * x.shape[3]) * formula.tolerance(wide, x.dtype, tap.e_lambda)
        exact, flat, size, others = wide * gate, wide * COLLAPSED, np.abs(wide), np.zeros(1)
        if tap.tail is not None:
            given = [tap.tail.scale, tap.tail.bias, *(result[name] for name in tap.names[2:])]
            bound = formula.neighbours_tolerance(bound, exact, *given, dtype=x.dtype)
            others = formula.neighbours(0 * wide, *map(np.abs, given))
            size = formula.neighbours(size, np.abs(tap.tail.scale), 0 * tap.tail.bias)
            exact, flat = (formula.neighbours(v, *given, activation=tap.tail.activation) for v in (exact, flat))
        off = np.abs(y - exact)
        shares = np.divide(off, bound, out=np.where(off > 0, np.inf, 0.0), where=bound > 0)  # 0 on a plane of zeros
        share = max(share, float(np.where(np.isnan(shares), np.inf, shares).max()))
        seen = (
            (size > 1e-6 * size.max()) & (size > 1e-3 * others) & ((exact != 0) | (y != 0))
        )  # a Relu hides the rest
        error = max(error, float(np.max(off[seen] / size[seen], initial=0)))
        near = [float(np.mean(np.abs(v - flat)[seen] < 1e-3 * size[seen])) if seen.any() else 0.0 for v in (y, exact)]
        collapsed = max(collapsed, near[0] - near[1])
    return GateRow(case, label, tap.block, tap.e_lambda, error, share, collapsed, bool(share <= 1))
