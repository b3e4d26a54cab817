"""Equivalence check: does a function of arrays compute SimAM, and with which λ?

The function may be a subgraph of an ONNX graph or a PyTorch module. It runs in float64 on planes that reveal known
errors. Its results are compared with formula.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from simam_deploy import formula
from simam_deploy.formula import Float64

ArrayFunction = Callable[[Float64], Float64]
"""Maps x : (N, C, H, W) to an array of its shape."""
Shape4D = tuple[int, int, int, int]
"""(N, C, H, W)."""

CONSTANTS_EPS = 4 * float(np.finfo(np.float32).eps)
"""Relative tolerance for the constants of `run`. They are stored in float32, and a form rounds up to four of them
(1/(M-1), a square root squared, ...). A population variance is off by 1/M: more, on maps below two million pixels."""

LEAST_SPREADS, MOST_RUNS = 24, 8
"""Number of plane spreads in the check, over ten decades, and the runs that they may take."""

MOST_PER_OUTLIER = 2000
"""Values per outlier. Each of k equal outliers among M values has z near M / 4k, and exp(709) ends float64."""

LEAST_LAMBDA = 1e-15
"""Smallest λ that planes of spread 1e-3 distinguish from 0."""

NEARLY_ONE = 1 - 1e-6
"""Above this, float64 gives no accurate logit of a gate."""
NO_GATE = "y / x is not a gate between 0 and 1"
NOT_OF_DEVIATIONS = "the gate is not a function of (x - mean)² over H and W alone"


@dataclass(frozen=True)
class EquivalenceResult:
    """Result of `check_simam`: λ, or the reasons why `run` is not SimAM."""

    e_lambda: float | None
    reasons: tuple[str, ...] = ()
    divisor: float | None = None
    """The number in the place of M - 1, if that alone may be wrong."""


def check_simam(run: ArrayFunction, shapes: list[Shape4D], *, brief: bool = False) -> EquivalenceResult:
    """Check on samples whether `run` computes SimAM at each shape (N, C, H, W), H*W >= 2.

    brief : use three inputs instead of some fifteen. Enough if only constants differ from a `run` that passed.

    Recovers λ from planes of spread 1e-3, then of spread 0.3 sqrt(λ), and confirms it on all planes. λ is accurate to
    1e-11 for λ from 1e-10 to 10 (tests/test_equivalence.py). Exceptions of `run` pass through.
    """
    recovered = None
    for shape in shapes:
        rng = np.random.default_rng(0)
        if recovered is None:
            x = rng.standard_normal(shape)
            with np.errstate(all="ignore"):  # a function other than SimAM may divide by zero here
                first = _recover_lambda(run, 1e-3 * x)
                recovered = _recover_lambda(run, 0.3 * np.sqrt(abs(first)) * x)
            if not (np.isfinite(recovered) and recovered > LEAST_LAMBDA):
                return _differences(run, shape, _not_positive(recovered))
        for name, x in _brief(rng, shape) if brief else planes(rng, shape, recovered):
            share = _share(run(x), x, recovered)
            if not share <= 1:
                return _differences(run, shape, f"differs from SimAM on {name} planes of {shape[2]}x{shape[3]}")
    return EquivalenceResult(recovered)


def _recover_lambda(run: ArrayFunction, x: Float64) -> float:
    """Invert the formula at the largest (x - mean)²: λ = d / (4 (z - ½)) - v, with z = logit(y/x)."""
    d = (x - x.mean(axis=(2, 3), keepdims=True)) ** 2
    v = d.sum(axis=(2, 3), keepdims=True) / (x.shape[2] * x.shape[3] - 1)
    at = np.unravel_index(np.argmax(d), d.shape)
    y = run(x)
    if y.shape != x.shape:
        return float("nan")
    ratio = y[at] / x[at]
    return float(d[at] / (4 * (np.log(ratio / (1 - ratio)) - 0.5)) - v[at[0], at[1], 0, 0])


def planes(rng: np.random.Generator, shape: Shape4D, e_lambda: float) -> Iterator[tuple[str, Float64]]:
    """Named inputs that reveal wrong formulas. All planes differ, which reveals mixed planes and batch elements."""
    plain = rng.standard_normal(shape)
    yield "plain", plain
    yield "constant", np.broadcast_to(rng.standard_normal((*shape[:2], 1, 1)), shape).copy()
    yield "offset", 1000 + rng.standard_normal(shape)
    yield "faint", np.sqrt(e_lambda) * rng.standard_normal(shape)
    outlier = rng.standard_normal(shape)
    few = 1 + shape[2] * shape[3] // MOST_PER_OUTLIER
    outlier.reshape(*shape[:2], -1)[..., -few:] = 1e3
    yield "outlier", outlier
    yield "large", 300 * rng.standard_normal(shape)
    yield "huge", 1e6 * rng.standard_normal(shape)
    planes = shape[0] * shape[1]
    runs = min(-(-LEAST_SPREADS // planes), MOST_RUNS)
    spreads = np.geomspace(1e-3 * np.sqrt(e_lambda), 1e5, planes * runs).reshape(planes, runs)
    for i in range(runs):  # reveals an effect on planes of some spread alone
        yield "unlike", spreads[:, i].reshape(*shape[:2], 1, 1) * rng.standard_normal(shape)


def _brief(rng: np.random.Generator, shape: Shape4D) -> Iterator[tuple[str, Float64]]:
    spreads = np.geomspace(1, 1e5, shape[0] * shape[1]).reshape(*shape[:2], 1, 1)
    yield "plain", spreads * rng.standard_normal(shape)


def _share(y: Float64, x: Float64, e_lambda: float) -> float:
    """Largest error of y as a share of `float64_tolerance`."""
    if y.shape != x.shape or not np.isfinite(y).all():
        return np.inf
    return float(np.max(np.abs(y - formula.reference(x, e_lambda)) / float64_tolerance(x, e_lambda)))


def float64_tolerance(x: Float64, e_lambda: float) -> Float64:
    """Absolute tolerance for SimAM of x in float64 arithmetic, with the constants of a form rounded to float32."""
    gate = formula.gate(x, e_lambda)
    e = np.log(gate / np.maximum(1 - gate, 1e-300)) - 0.5
    allowed: Float64 = np.abs(x) * CONSTANTS_EPS * e * gate * (1 - gate)
    return allowed + 32 * formula.tolerance(x, np.float64, e_lambda)


def _differences(run: ArrayFunction, shape: Shape4D, otherwise: str) -> EquivalenceResult:
    """Name the difference. Fit z = logit(y/x) = z0 + d / (a S + b) per plane; SimAM has z0 = ½, a = 4/(M-1).

    otherwise : the reason to report if the fit finds no difference.
    """
    n, c, h, w = shape
    m = h * w
    if m < 4 or n * c < 2:
        return EquivalenceResult(None, (otherwise,))
    rng = np.random.default_rng(1)
    spread = np.geomspace(0.05, 2, n * c).reshape(n, c, 1, 1)
    x = spread * rng.standard_normal(shape)
    y = run(x)
    if y.shape != x.shape:
        return EquivalenceResult(None, (f"the result has shape {y.shape}, not x's {x.shape}",))
    ratio = (y / x).reshape(n * c, m)
    d = ((x - x.mean(axis=(2, 3), keepdims=True)) ** 2).reshape(n * c, m)
    for instead, gate in {"x * (1 - gate)": 1 - ratio, "x + x * gate": ratio - 1}.items():
        related = _fit(gate, d)
        if not isinstance(related, str) and _is_simams(*related, m):
            return EquivalenceResult(None, (f"it is {instead}, where SimAM is x * gate; the gate is that of SimAM",))
    found = _fit(ratio, d)
    if isinstance(found, str):
        return EquivalenceResult(None, (found,))
    start, a, b = found
    reasons = []
    if abs(start - 0.5) > 1e-5:
        reasons.append(f"adds {round(start, 5):g} in front of the sigmoid; SimAM adds 0.5")
    if abs(a * m / 4 - 1) < 1e-6:
        reasons.append(f"divides the sum of squares by M = {m}, not by M - 1 = {m - 1} (population variance)")
    elif abs(a * (m - 1) / 4 - 1) > 1e-6:
        reasons.append(
            f"divides (x - mean)² by {a * (m - 1):.6g} (v + {b / a / (m - 1):.3g}), SimAM by 4 (v + λ); "
            f"or by {4 / a:.6g} where M - 1 = {m - 1}"
        )
    if b <= 0:
        reasons.append(_not_positive(b / 4))
    return EquivalenceResult(
        None, tuple(reasons) or (otherwise,), float(4 / a) if len(reasons) == 1 and a > 0 < b else None
    )


def _not_positive(e_lambda: float) -> str:
    tiny = f"0 (below {LEAST_LAMBDA:g}, which cannot be told from 0)"
    return f"λ would be {tiny if abs(e_lambda) <= LEAST_LAMBDA else f'{e_lambda:.3g}'}; it must be positive"


def _fit(ratio: Float64, d: Float64) -> tuple[float, float, float] | str:
    """Fit logit(ratio) = z0 + d / (a S + b) in every plane, with S the sum of d: z0, a and b, or why it fails.

    ratio, d : (planes, values of a plane).
    """
    shows = ratio < NEARLY_ONE
    if not (np.isfinite(ratio).all() and (ratio > 0).all() and (ratio <= 1).all() and (shows.sum(axis=1) > 3).all()):
        return NO_GATE
    z = np.log(ratio / np.where(shows, 1 - ratio, 1))
    seen = [(dk[at], zk[at]) for dk, zk, at in zip(d, z, shows, strict=True)]
    lines = [np.polyfit(dk, zk, 1) for dk, zk in seen]
    if max(np.abs(np.polyval(line, dk) - zk).max() for line, (dk, zk) in zip(lines, seen, strict=True)) > 1e-4:
        return NOT_OF_DEVIATIONS
    slope, start = np.array(lines).T
    if np.abs(slope * d.max(axis=1)).max() < 1e-6:
        return "the gate does not depend on (x - mean)²"
    total, ones = d.sum(axis=1), np.ones(len(d))
    (a, b), *_ = np.linalg.lstsq(np.stack([total, ones], 1) * slope[:, None], ones, rcond=None)
    return float(start.mean()), float(a), float(b)


def _is_simams(start: float, a: float, b: float, m: int) -> bool:
    return abs(start - 0.5) < 1e-5 and abs(a * (m - 1) / 4 - 1) < 1e-6 and b > 0
