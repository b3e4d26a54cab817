"""Comparison of one SimAM block in a runtime with the formula: the error of its gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simam_deploy import formula
from simam_deploy.block import Epilogue
from simam_deploy.formula import Array

COLLAPSED = float(1 / (1 + np.exp(-0.5)))
"""sigmoid(½) = 0.622: the gate of all values after a half-precision sum has overflowed."""
ONE = 0.999
COLLAPSED_SPREAD = 0.05
"""Below this ratio of spreads, a gate counts as one number."""
TOLD = 0.1
"""Tolerance of a gate up to which its error is told. A large bias hides the gate of a small x."""
GATE_ROUNDINGS = 4
"""Roundings of a 16-bit type that a gate may be off by; 2e-3 in float16.

A block with float32 inside makes one, that of y; a block that rounds each operator makes up to four where nothing is
near a limit of its type."""


@dataclass(frozen=True)
class Tap:
    """Names of the session outputs that hold x, y and the residual, if any, of one SimAM block."""

    block: str
    x: str
    y: str
    e_lambda: float
    epilogue: Epilogue | None = None
    """The epilogue between SimAM and y."""

    @property
    def names(self) -> list[str]:
        """Names of these outputs."""
        residual = None if self.epilogue is None else self.epilogue.residual
        return [self.x, self.y, *([] if residual is None else [str(residual.name)])]


@dataclass(frozen=True)
class GateRow:
    """Comparison of one SimAM block with the formula on the same x, for one session and one case."""

    case: str
    session: str
    block: str
    e_lambda: float
    """λ of the file, used in the formula."""
    max_gate_error: float
    share: float
    """Largest error of y over sqrt(M) times `formula.tolerance` of its plane of M values; 1 is the limit.

    `formula.tolerance` assumes sums in blocks. In a network, runtimes sum value by value: see `tolerance_factor`.
    For 16-bit types, the tolerance of a value is `formula.tolerance` and GATE_ROUNDINGS of that value.
    """
    collapsed: float
    """Share of gates within 1e-3 of sigmoid(½), minus that of the formula; 0 in a correct block."""
    spread: float
    """Least ratio, over the batch elements, of the standard deviation of the gate to that of the formula: 1 in a
    correct block, 0 if the gate is one number. NaN with an epilogue, which hides the gate."""
    saturated: float
    """Share of gates above 0.999, minus that of the formula. NaN with an epilogue."""
    passed: bool

    @property
    def verdict(self) -> str:
        """How a wrong gate failed, in words; "" for a right one."""
        if self.passed:
            return ""
        if not np.isfinite(self.max_gate_error):
            return "NaN or infinity: a square overflows"
        if self.collapsed > 0.5:
            return "its gate is 0.622 everywhere: the sum of squares overflows"
        if self.saturated > 0.5:
            return "its gate is 1 nearly everywhere: M - 1 overflows"
        if self.spread < COLLAPSED_SPREAD:
            return "its gate is one number everywhere"
        return "its gate is wrong"


@np.errstate(invalid="ignore")  # inf - inf
def judge(case: str, label: str, tap: Tap, results: Sequence[Mapping[str, Array]]) -> GateRow:
    """Compare a block on all feeds; the worst values count.

    The gate error is the error of y over |x|, without values of |x| at rounding level. With an epilogue it is the
    error of the result over |scale * x|, where the bias and the residual leave a gate to be seen.
    """
    error = share = collapsed = 0.0
    spread, saturated = np.inf, -np.inf
    for result in results:
        if not result[tap.x].size:
            continue
        x, y = formula.as_maps(result[tap.x]), formula.as_maps(np.asarray(result[tap.y], dtype=np.float64))
        wide = np.asarray(x, dtype=np.float64)
        gate = formula.gate(wide, tap.e_lambda)
        low = formula.EPS_OF[x.dtype.name] / 2 if x.dtype.name in formula.SMALLEST_OF else 0.0
        sums = 1.0 if low else np.sqrt(x.shape[2] * x.shape[3])
        bound = sums * formula.tolerance(wide, np.float32 if low else x.dtype, tap.e_lambda)
        exact, flat, size, others = wide * gate, wide * COLLAPSED, np.abs(wide), np.zeros(1)
        if tap.epilogue is not None:
            given = [tap.epilogue.scale, tap.epilogue.bias, *(result[name] for name in tap.names[2:])]
            bound = formula.epilogue_tolerance(bound, exact, *given, dtype=np.float32 if low else x.dtype)
            others = formula.apply_epilogue(0 * wide, *map(np.abs, given))
            size = formula.apply_epilogue(size, np.abs(tap.epilogue.scale), 0 * tap.epilogue.bias)
            exact, flat = (
                formula.apply_epilogue(v, *given, activation=tap.epilogue.activation) for v in (exact, flat)
            )
        off = np.abs(y - exact)
        if low:
            smallest = formula.SMALLEST_OF[x.dtype.name]
            bound = bound + GATE_ROUNDINGS * (low * (size + others) + smallest)
            off = np.maximum(off - smallest, 0)
        else:
            bound = bound + 0 * size
        # 0 on a plane of zeros; infinite where x is NaN
        shares = np.divide(off, bound, out=np.where(off == 0, 0.0, np.inf), where=bound > 0)
        share = max(share, float(np.where(np.isnan(shares), np.inf, shares).max()))
        seen = (size > 1e-6 * size.max()) & (size > 1e-3 * others) & ((exact != 0) | (y != 0))  # ReLU hides the rest
        if tap.epilogue is not None:
            seen &= bound < TOLD * size
        errors = off[seen] / size[seen]
        error = max(error, float(np.max(np.where(np.isnan(errors), np.inf, errors), initial=0)))
        near = [float(np.mean(np.abs(v - flat)[seen] < 1e-3 * size[seen])) if seen.any() else 0.0 for v in (y, exact)]
        collapsed = max(collapsed, near[0] - near[1])
        if tap.epilogue is None:
            spread, saturated = min(spread, _spread(wide, y, gate)), max(saturated, _saturated(wide, y, gate))
    spread, saturated = (value if np.isfinite(value) else np.nan for value in (spread, saturated))
    return GateRow(
        case, label, tap.block, tap.e_lambda, error, share, collapsed, float(spread), saturated, bool(share <= 1)
    )


def _gates(x: Array, y: Array) -> Array:
    """y / x, NaN where x is near 0."""
    seen = np.abs(x) > 1e-3 * np.abs(x).max(axis=(1, 2, 3), keepdims=True)
    gates: Array = np.divide(y, x, out=np.full(x.shape, np.nan), where=seen)
    return gates


def _saturated(x: Array, y: Array, gate: Array) -> float:
    """Share of gates that are 1, minus that of the formula."""
    seen = _gates(x, y)
    return float(np.mean(seen > ONE) - np.mean((gate > ONE) & ~np.isnan(seen))) if seen.size else 0.0


def _spread(x: Array, y: Array, gate: Array) -> float:
    """Least ratio of the spread of y / x to that of the gate over the batch elements; infinite if none tells."""
    gates, found = _gates(x, y), np.inf
    for got, true in zip(gates, gate, strict=True):
        seen = ~np.isnan(got)
        exact = float(np.std(true[seen])) if seen.any() else 0.0
        if exact > 1e-2:  # a constant plane has no spread
            spread = float(np.std(got[seen]))
            found = min(found, spread / exact if np.isfinite(spread) else 0.0)
    return found
