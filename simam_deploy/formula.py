"""SimAM in float64 NumPy: the six equations of the paper, and how far a float result may be from them.

Yang, Zhang, Li, Xie: "SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks",
ICML 2021. A plane is one (n, c) of x : (N, C, H, W); M = H*W is its size. docs/derivation.md derives (3) to (5).

    (1) e_t = (y_t - t̂)² + 1/(M-1) Σ (y_o - x̂_i)²,  t̂ = w t + b,  x̂_i = w x_i + b,  i over all but t
    (2) e_t with y_t = 1, y_o = -1, plus λ w²                                              `energy`
    (3) w* = 2 (t - μ_t) / ((t - μ_t)² + 2 σ_t² + 2 λ)         printed with the other sign `closed_form`
    (4) b* = -½ (t + μ_t) w*                                                               `closed_form`
    (5) e* = 4 (σ̂² + λ) / ((t - μ̂)² + 2 σ̂² + 2 λ)                                          `minimal_energy`
    (6) y  = sigmoid(1 / e*) · x                                                 `gate`, `reference`

Every form, runtime and kernel of this package is tested against `reference`, within `tolerance`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from simam_deploy.errors import ShapeError

OP_DOMAIN = "simam"
OP_NAME = "SimAM"
OP_VERSION = 1
DEFAULT_LAMBDA = 1e-4
"""λ of the published module. The published ImageNet checkpoints were trained with 0.1."""

Float64 = NDArray[np.float64]


def energy(w: float, b: float, t: float, others: ArrayLike, e_lambda: float = DEFAULT_LAMBDA) -> float:
    """Energy of the neuron t under the linear transform (w, b): equation (2).

    t : its value.  others : (M-1,) the rest of its plane.
    """
    x = np.asarray(others, dtype=np.float64)
    return float(np.mean((-1 - (w * x + b)) ** 2) + (1 - (w * t + b)) ** 2 + e_lambda * w**2)


def closed_form(t: float, others: ArrayLike, e_lambda: float = DEFAULT_LAMBDA) -> tuple[float, float]:
    """The (w*, b*) that minimise `energy`: equations (3) and (4).

    The paper prints (3) with a minus in front. With that sign (w, b) is not a minimum but the mirror image
    of it: its energy is 8 - 3 e* (see docs/derivation.md). Nothing downstream changes, as (5) holds w* squared.
    """
    x = np.asarray(others, dtype=np.float64)
    delta = t - x.mean()
    w = 2 * delta / (delta**2 + 2 * x.var() + 2 * e_lambda)
    return float(w), float(-0.5 * (t + x.mean()) * w)


def minimal_energy(x: ArrayLike, e_lambda: float = DEFAULT_LAMBDA) -> Float64:
    """Equation (5) for every neuron, with mean and unbiased variance of the whole plane, as published.

    x : (N, C, H, W).  Returns (N, C, H, W) float64.  Raises ShapeError unless 4-D with H*W >= 2.
    The statistics include t itself; `minimal_energy_leave_one_out` does not, and is the exact minimum of (2).
    """
    d, v = _statistics(x)
    return 4 * (v + e_lambda) / (d + 2 * (v + e_lambda))


def minimal_energy_leave_one_out(x: ArrayLike, e_lambda: float = DEFAULT_LAMBDA) -> Float64:
    """The exact minimum of (2) for every neuron: (5) with mean and variance over all of the plane but t.

    x : (N, C, H, W).  Returns (N, C, H, W) float64.  Raises ShapeError unless 4-D with H*W >= 2.
    With d = (t - μ̂)² and S = Σ d over the plane, (t - μ_t)² = d M²/(M-1)² and Σ (x_i - μ_t)² = S - d M/(M-1),
    so no neuron needs a pass of its own.
    """
    d, v = _statistics(x)
    m = d.shape[2] * d.shape[3]
    delta2 = d * (m / (m - 1)) ** 2
    var_t = np.maximum(v - d * m / (m - 1) ** 2, 0.0)
    return 4 * (var_t + e_lambda) / (delta2 + 2 * (var_t + e_lambda))


def gate(x: ArrayLike, e_lambda: float = DEFAULT_LAMBDA) -> Float64:
    """sigmoid(1/e*), what x is multiplied with: 0.622 (a neuron at the mean) to 1 (one that stands out).

    x : (N, C, H, W).  Returns (N, C, H, W) float64.  Raises ShapeError unless 4-D with H*W >= 2.
    """
    d, v = _statistics(x)
    return np.asarray(1 / (1 + np.exp(-(d / (4 * (v + e_lambda)) + 0.5))), dtype=np.float64)


def reference(x: ArrayLike, e_lambda: float = DEFAULT_LAMBDA) -> Float64:
    """SimAM of x: equation (6). The truth that everything else is measured against.

    x : (N, C, H, W).  Returns (N, C, H, W) float64.  Raises ShapeError unless 4-D with H*W >= 2.
    """
    return np.asarray(x, dtype=np.float64) * gate(x, e_lambda)


def tolerance(x: ArrayLike, dtype: DTypeLike, e_lambda: float = DEFAULT_LAMBDA) -> Float64:
    """How far SimAM of x may be from `reference`, per plane, where the statistics are taken in float32.

    x : (N, C, H, W).  dtype : of the result.  Returns (N, C, 1, 1) float64, to broadcast against y.

        2 eps max|x| (1 + |mean| / sqrt(v + λ)),   eps of float32, of float64 for a float64 result

    The gate depends on u = (x - mean) / sqrt(v + λ) alone, as g(u²/4 + ½), and |dg/du| < 0.2. Rounding the mean
    by one eps moves u by eps |mean| / sqrt(v + λ): that many digits are lost by subtracting, in PyTorch too. The
    other roundings (variance, quotient, exp, product) are each a few eps of a gate that is at most 1 with slope
    at most ¼; 2 eps covers them. A float16 or bfloat16 result is rounded once more: half its own eps of max|x|.
    tests/test_formula.py shows that float32 NumPy stays inside and that each wrong formula falls outside.
    """
    a = np.asarray(x, dtype=np.float64)
    _, v = _statistics(a)
    size = np.abs(a).max(axis=(2, 3), keepdims=True)
    offset = np.abs(a.mean(axis=(2, 3), keepdims=True)) / np.sqrt(v + e_lambda)
    kind = np.dtype(dtype)
    eps = np.finfo(np.float64 if kind == np.float64 else np.float32).eps
    bound = 2 * eps * size * (1 + offset)
    if kind.itemsize == 2:
        half = _half_info(kind)
        bound = bound + 0.5 * float(half.eps) * size + float(half.smallest_subnormal)
    return np.asarray(bound, dtype=np.float64)


def _half_info(kind: np.dtype[Any]) -> Any:
    import ml_dtypes

    return ml_dtypes.finfo(kind)


def _statistics(x: ArrayLike) -> tuple[Float64, Float64]:
    """(x - mean)² as (N, C, H, W) and the unbiased variance as (N, C, 1, 1)."""
    a = np.asarray(x, dtype=np.float64)
    if a.ndim != 4:
        raise ShapeError(f"SimAM is defined on x of shape (N, C, H, W); got {a.ndim}-D {a.shape}")
    m = a.shape[2] * a.shape[3]
    if m < 2:
        raise ShapeError(
            f"SimAM on a {a.shape[2]}x{a.shape[3]} map is 0/0 (the variance of one value, M - 1 = 0); "
            f"got x of shape {a.shape}; leave SimAM out there"
        )
    d = (a - a.mean(axis=(2, 3), keepdims=True)) ** 2
    return d, d.sum(axis=(2, 3), keepdims=True) / (m - 1)
