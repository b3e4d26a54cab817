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
    """
    collapsed: float
    """Share of gates within 1e-3 of sigmoid(½), minus that of the formula; 0 in a correct block."""
    passed: bool


@np.errstate(invalid="ignore")  # inf - inf
def judge(case: str, label: str, tap: Tap, results: Sequence[Mapping[str, Array]]) -> GateRow:
    """Compare a block on all feeds; the worst values count.

    The gate error is the error of y over |x|, without values of |x| at rounding level. With an epilogue it is the
    error of the result over |scale * x|.
    """
    error = share = collapsed = 0.0
    for result in results:
        if not result[tap.x].size:
            continue
        x, y = formula.as_maps(result[tap.x]), formula.as_maps(np.asarray(result[tap.y], dtype=np.float64))
        wide = np.asarray(x, dtype=np.float64)
        gate = formula.gate(wide, tap.e_lambda)
        bound = np.sqrt(x.shape[2] * x.shape[3]) * formula.tolerance(wide, x.dtype, tap.e_lambda)
        exact, flat, size, others = wide * gate, wide * COLLAPSED, np.abs(wide), np.zeros(1)
        if tap.epilogue is not None:
            given = [tap.epilogue.scale, tap.epilogue.bias, *(result[name] for name in tap.names[2:])]
            bound = formula.epilogue_tolerance(bound, exact, *given, dtype=x.dtype)
            others = formula.apply_epilogue(0 * wide, *map(np.abs, given))
            size = formula.apply_epilogue(size, np.abs(tap.epilogue.scale), 0 * tap.epilogue.bias)
            exact, flat = (
                formula.apply_epilogue(v, *given, activation=tap.epilogue.activation) for v in (exact, flat)
            )
        off = np.abs(y - exact)
        # 0 on a plane of zeros; infinite where x is NaN
        shares = np.divide(off, bound, out=np.where(off == 0, 0.0, np.inf), where=bound > 0)
        share = max(share, float(np.where(np.isnan(shares), np.inf, shares).max()))
        seen = (size > 1e-6 * size.max()) & (size > 1e-3 * others) & ((exact != 0) | (y != 0))  # ReLU hides the rest
        error = max(error, float(np.max(off[seen] / size[seen], initial=0)))
        near = [float(np.mean(np.abs(v - flat)[seen] < 1e-3 * size[seen])) if seen.any() else 0.0 for v in (y, exact)]
        collapsed = max(collapsed, near[0] - near[1])
    return GateRow(case, label, tap.block, tap.e_lambda, error, share, collapsed, bool(share <= 1))
