"""Map sizes for which a constant in the place of M - 1 is right, and their description."""

from __future__ import annotations

import math

import onnx_ir as ir

from simam_deploy.graph.shapes import Dims, StaticShape
from simam_deploy.match.dataflow import constant
from simam_deploy.match.probe_shapes import MOST_VALUES
from simam_deploy.match.subgraph import Subgraph

FLOAT32_EPS = 2.0**-23
HALF_EPS = {ir.DataType.FLOAT16: 2.0**-11, ir.DataType.BFLOAT16: 2.0**-8}
CLIPPED = 10000
"""Some float16 converters clip constants at this value."""


def eps(subgraph: Subgraph) -> float:
    """Relative rounding error of the constants: eps of their narrowest type."""
    types = {tensor.dtype for tensor in map(constant, subgraph.constants) if tensor is not None}
    return max((HALF_EPS[dtype] for dtype in types if dtype in HALF_EPS), default=FLOAT32_EPS)


def maps_for(divisor: float, m: int, eps: float) -> list[int]:
    """Map sizes M for which a constant is right that acts as `divisor` instead of M - 1 on maps of m values.

    The constant may be M - 1, or M / (M - 1) behind a mean. Of several candidates the squarest map wins. Empty if M
    fits better than M - 1: then it is a population variance.
    """
    found = []
    if not divisor < MOST_VALUES:
        return []
    tolerance = max(eps * divisor, 1e-4)
    if tolerance >= 1:
        found.append(
            min(range(math.ceil(divisor - tolerance) + 1, math.floor(divisor + tolerance) + 2), key=_squareness)
        )
    elif abs(divisor - round(divisor)) < tolerance and _squareness(round(divisor) + 1) <= _squareness(round(divisor)):
        found.append(round(divisor) + 1)
    excess = m / divisor - 1
    if excess > 2 * eps:
        low, high = 1 + 1 / (excess + eps), 1 + 1 / (excess - eps)
        found += sorted(
            range(math.ceil(low - 1e-3), min(math.floor(high + 1e-3), int(low) + 1000) + 1), key=_squareness
        )[:1]
    return [other for other in found if 2 <= other <= MOST_VALUES // 2 and other != m]


def scaled(m: int, dims: Dims) -> bool:
    """Whether a map of m values may be that of `dims` at another scale. Always true for dynamic sizes."""
    spatial = [d for d in dims[2:] if isinstance(d, int)]
    if len(spatial) < len(dims) - 2:
        return True
    scale = (m / math.prod(spatial)) ** (1 / len(spatial))
    return all(abs(d * scale - round(d * scale)) < 1e-6 for d in spatial)


def _squareness(m: int) -> float:
    """W / H of the squarest map of m values, W >= H."""
    h, w = _factors(m)
    return w / h


def _factors(m: int) -> tuple[int, int]:
    h = next(h for h in range(math.isqrt(max(m, 1)), 0, -1) if m % h == 0)
    return h, m // h


def map_of(m: int, axes: int) -> StaticShape:
    """Shape of the squarest map of m values with `axes` axes."""
    return (m,) if axes == 1 else (*(1,) * (axes - 2), *_factors(m))


def described(m: int, dims: Dims) -> str:
    """Reason for a near miss: a constant right on maps of m values, for x of shape `dims`."""
    spatial = dims[2:]
    if all(isinstance(d, int) for d in spatial):
        here = f"here it has {math.prod(d for d in spatial if isinstance(d, int))}"
    elif all(d is None for d in spatial):
        here = "the file does not tell its size"
    else:
        here = "its size is not fixed"
    h, w = _factors(m)
    shown = f"H*W = {m} (as {h}x{w})" if len(spatial) == 2 else f"{m} values"
    right = f"M - 1 is a constant, right only where the map has {shown}"
    return f"{right}, and {here}; fuse --repair takes M from the shape of x"
