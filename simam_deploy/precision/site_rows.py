"""What is kept of a site over all samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simam_deploy import formula
from simam_deploy.formula import Array


@dataclass
class Magnitude:
    """Largest magnitude, and the smallest that is not 0, over all samples."""

    largest: float = 0.0
    smallest: float = np.inf

    def take(self, array: Array) -> None:
        """One more sample."""
        size = np.abs(array, dtype=np.float64)
        if size.size:
            self.largest = max(self.largest, float(np.where(np.isnan(size), np.inf, size).max()))
            self.smallest = min(self.smallest, float(np.min(size, initial=np.inf, where=size > 0)))


@dataclass
class Errors:
    """Errors of a site in a low type.

    naive : with each operator rounded, on rounded inputs; of the gate for SimAM, else as `site_runs.error`.
    moved : relative change by rounding the inputs alone.  fails : whether SimAM's gate fails.  cause : in words.
    """

    naive: float = 0.0
    moved: float = 0.0
    fails: bool = False
    cause: str = ""


@dataclass
class SimAMFacts:
    """max|x - mu|, the largest sum of squares of a plane, M max (x - mu)², and the spread of the gate."""

    m: int = 0
    largest_delta: float = 0.0
    largest_sum: float = 0.0
    largest_bound: float = 0.0
    offset: float = 0.0
    """Largest |mean| of a plane over its standard deviation."""
    gate_spread: float = np.inf
    """Least standard deviation of the gate over the elements of a batch."""

    def take(self, x: Array, e_lambda: float) -> None:
        """One more sample. x : (N, C, H, W)."""
        wide = x.astype(np.float64)
        self.m = max(self.m, x.shape[2] * x.shape[3])
        mean = wide.mean(axis=(2, 3), keepdims=True)
        d = (wide - mean) ** 2
        self.largest_delta = max(self.largest_delta, float(np.sqrt(d.max(initial=0))))
        self.largest_sum = max(self.largest_sum, float(d.sum(axis=(2, 3)).max(initial=0)))
        self.largest_bound = max(self.largest_bound, float(d.max(initial=0)) * x.shape[2] * x.shape[3])
        spread = np.sqrt(d.mean(axis=(2, 3), keepdims=True) + e_lambda)
        self.offset = max(self.offset, float((np.abs(mean) / spread).max(initial=0)))
        gates = formula.gate(wide, e_lambda)
        self.gate_spread = min(self.gate_spread, *(float(np.std(gate)) for gate in gates))
