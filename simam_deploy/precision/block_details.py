"""A SimAM block on real samples, to be drawn: how its values are spread over magnitudes, and maps of its gate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from simam_deploy import formula
from simam_deploy.formula import Array

MOST_MAPS = 32
"""Blocks of a network that have maps, so that memory is bounded."""
LARGEST_MAP = 256
"""Largest height and width of a map that is kept; larger ones are averaged over squares."""


@dataclass
class Octaves:
    """Histogram of magnitudes by powers of two.

    counts : exponent e -> number of values from 2**e up to 2**(e + 1).  zeros, beyond : values that are 0; NaN and
    infinity.
    """

    counts: Counter[int] = field(default_factory=Counter)
    zeros: int = 0
    beyond: int = 0

    def take(self, array: Array) -> None:
        """One more sample."""
        finite = np.isfinite(array)
        seen = finite & (array != 0)
        self.beyond += int(array.size - np.count_nonzero(finite))
        self.zeros += int(np.count_nonzero(finite) - np.count_nonzero(seen))
        exponents, numbers = np.unique(np.frexp(array[seen])[1] - 1, return_counts=True)
        self.counts.update(dict(zip(exponents.tolist(), numbers.tolist(), strict=True)))


@dataclass
class BlockDetail:
    """One block.

    histograms : of x, of (x - μ)² and of its sums over a plane, on all samples.
    before : gate of the formula, mean over the channels weighted by |x|; of the first sample.
    after : name of a type or file -> the same of what it computes. NaN where that is NaN or infinite, or x is 0.
    maps : whether to keep maps.
    hidden : whether `after` is the formula on its x, as an epilogue hides its gate.
    """

    block: str
    e_lambda: float
    maps: bool = True
    m: int = 0
    x: Octaves = field(default_factory=Octaves)
    squares: Octaves = field(default_factory=Octaves)
    sums: Octaves = field(default_factory=Octaves)
    before: Array | None = None
    after: dict[str, Array] = field(default_factory=dict)
    hidden: bool = False

    @np.errstate(invalid="ignore", over="ignore")
    def take(self, x: Array) -> None:
        """One more sample. x : (N, C, H, W) float32."""
        wide = x.astype(np.float64)
        d = (wide - wide.mean(axis=(2, 3), keepdims=True)) ** 2
        self.m = max(self.m, x.shape[2] * x.shape[3])
        self.x.take(wide)
        self.squares.take(d)
        self.sums.take(d.sum(axis=(2, 3)))
        if self.maps and self.before is None and x.size:
            self.before = gate_map(wide[0], formula.reference(wide[:1], self.e_lambda)[0])

    @np.errstate(invalid="ignore", over="ignore")
    def compare(self, name: str, x: Array, y: Array | None) -> None:
        """Keep the map of what `name` computes. y : (N, C, H, W), or None for the formula. The first call counts."""
        if self.maps and name not in self.after and x.size:
            wide = x[:1].astype(np.float64)
            self.hidden = self.hidden or y is None
            got = formula.reference(wide, self.e_lambda) if y is None else y[:1].astype(np.float64)
            self.after[name] = gate_map(wide[0], got[0])


def gate_map(x: Array, y: Array) -> Array:
    """Mean of y / x over the channels, weighted by |x|, as float32 (H, W) of up to LARGEST_MAP. x, y : (C, H, W)."""
    made, given = _shrunk(np.abs(y).sum(axis=0)), _shrunk(np.abs(x).sum(axis=0))
    gate = np.divide(made, given, out=np.full(made.shape, np.nan), where=given > 0)
    kept: Array = np.where(np.isfinite(gate), gate, np.nan).astype(np.float32)
    return kept


def picture_of(feed: Sequence[Array]) -> Array | None:
    """The first picture of a feed as (H, W, 1 or 3) from 0 to 1, if its one input is (N, 1 or 3, H, W)."""
    if len(feed) != 1 or feed[0].ndim != 4 or feed[0].shape[1] not in (1, 3) or not feed[0].size:
        return None
    picture = feed[0][0].astype(np.float64).transpose(1, 2, 0)
    if not np.isfinite(picture).all():
        return None
    low, high = picture.min(), picture.max()
    made: Array = ((picture - low) / (high - low or 1)).astype(np.float32)
    return made


def _shrunk(plane: Array) -> Array:
    """Sums over equal squares, so that neither side is above LARGEST_MAP. Rows and columns left over are cut."""
    by = -(-max(plane.shape) // LARGEST_MAP)
    h, w = (max(side // by, 1) for side in plane.shape)
    if by == 1:
        return plane
    tall, wide = (min(by, side) for side in plane.shape)
    made: Array = plane[: h * tall, : w * wide].reshape(h, tall, w, wide).sum(axis=(1, 3))
    return made


def mean_and_change(detail: BlockDetail, name: str) -> tuple[float, float]:
    """Mean of a map `after`, and its largest difference from the map before; infinite where it is not a number."""
    before, after = detail.before, detail.after[name]
    mean = float(np.nanmean(after)) if np.isfinite(after).any() else np.nan
    if before is None or before.shape != after.shape or np.isnan(before).all():
        return mean, np.nan
    seen = ~np.isnan(before)
    off = np.abs(after - before)[seen]
    return mean, float(np.where(np.isnan(off), np.inf, off).max())
