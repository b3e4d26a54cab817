"""The 16-bit float types, and constants that they cannot hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from simam_deploy.formula import Array


@dataclass(frozen=True)
class LowType:
    """A 16-bit float type.

    half_ulp : largest relative rounding error of a normal number.  largest, smallest_normal, smallest : positive
    numbers of the type. A number between the last two keeps fewer digits, one below half the last becomes 0.
    """

    name: str
    dtype: ir.DataType
    half_ulp: float
    largest: float
    smallest_normal: float
    smallest: float
    opset: int
    """The first opset whose convolutions take it."""

    def rounded(self, array: Array) -> Array:
        """`array` rounded to this type, as float64. Numbers beyond `largest` become infinite."""
        with np.errstate(over="ignore"):
            return array.astype(self.dtype.numpy()).astype(np.float64)

    def misfit(self, constant: Array) -> str:
        """Reason why the type cannot hold a constant, or "": it is `beyond` the type, or `faint`."""
        return self.beyond(constant) or self.faint(constant)

    def beyond(self, constant: Array, *, room: float = 1) -> str:
        """Reason against a constant with a finite number beyond the range divided by `room`, or ""."""
        top = _largest(constant)
        if not np.isfinite(self.rounded(np.array(top * room))):
            return f"a constant of {top:.6g} is beyond {self.name}, which ends at {self.largest:g}"
        return ""

    def faint(self, constant: Array) -> str:
        """Reason against a constant whose largest number is below the smallest normal one, or "".

        The whole constant loses digits or becomes 0. Small numbers beside larger ones count as 0.
        """
        top = _largest(constant)
        if 0 < top < self.smallest_normal:
            return f"a constant of {top:.3g} becomes {float(self.rounded(np.array(top))):.6g} in {self.name}"
        return ""

    def lost(self, constant: Array, *, beside: float = 0) -> str:
        """Reason against a constant with any number that loses digits, or "". beside : what is added to each."""
        exact = np.abs(constant[np.isfinite(constant) & (constant != 0)]).astype(np.float64)
        errors = np.abs(self.rounded(exact) - exact) / (exact + beside)
        if not errors.size or errors.max() <= 1.001 * self.half_ulp:
            return ""
        worst = exact[errors.argmax()]
        return f"a divisor of {worst:.3g} becomes {float(self.rounded(worst)):.6g} in {self.name}"


def _largest(constant: Array) -> float:
    return float(np.abs(constant[np.isfinite(constant)]).astype(np.float64).max(initial=0))


def _low(name: str, dtype: ir.DataType, opset: int) -> LowType:
    info: Any = ml_dtypes.finfo(dtype.numpy())  # type: ignore[no-untyped-call]
    smallest = float(info.smallest_subnormal)
    return LowType(name, dtype, float(info.eps) / 2, float(info.max), float(info.tiny), smallest, opset)


FP16 = _low("fp16", ir.DataType.FLOAT16, 7)
BF16 = _low("bf16", ir.DataType.BFLOAT16, 22)
LOW_TYPES = {low.name: low for low in (FP16, BF16)}
