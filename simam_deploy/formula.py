"""SimAM in float64 NumPy: the six equations of the paper, and how far a float result may be from them.

Yang, Zhang, Li, Xie: "SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks",
ICML 2021. A plane is one (n, c) of x : (N, C, H, W); M = H*W is its size. (3) to (5) are derived in
docs/explanation/derivation.md.

    (1) e_t = (y_t - t̂)² + 1/(M-1) Σ (y_o - x̂_i)²,  t̂ = w t + b,  x̂_i = w x_i + b,  i over all but t
    (2) e_t with y_t = 1, y_o = -1, plus λ w²                                              `energy`
    (3) w* = 2 (t - μ_t) / ((t - μ_t)² + 2 σ_t² + 2 λ)     (printed with a minus)          `closed_form`
    (4) b* = -½ (t + μ_t) w*                                                               `closed_form`
    (5) e* = 4 (σ̂² + λ) / ((t - μ̂)² + 2 σ̂² + 2 λ)                                          `minimal_energy`
    (6) y  = sigmoid(1 / e*) · x                                                           `gate`, `reference`

μ_t and σ_t² are the mean and the biased variance of the M-1 values without t, μ̂ and σ̂² those of all M values. For σ̂²
the paper divides by M and its published code by M-1. Models are trained with the code, so σ̂² is the unbiased v here.
Every form, runtime and kernel of this package is tested against `reference`, within `tolerance`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from simam_deploy.errors import ShapeError

OP_DOMAIN = "simam"
BLOCKED_DOMAIN = "simam.nchwc"
"""The same operators on ONNX Runtime's blocked layout."""
INT8_DOMAIN = "simam.int8"
"""The same operators on 8-bit integers, (N, H, W, C)."""
OP_NAME = "SimAM"
OP_VERSION = 1
PLUGIN = {"plugin_namespace": OP_DOMAIN, "plugin_version": str(OP_VERSION)}
"""Attributes by which TensorRT's parser finds our plugin. No function or kernel reads them."""
DEFAULT_LAMBDA = 1e-4
"""λ of the published module. The published ImageNet checkpoints were trained with 0.1."""

Array = NDArray[Any]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Op:
    """An operator of the domain: activation(scale * simam(x) + bias + residual), scale and bias one per channel."""

    affine: bool = False
    """Inputs 1 and 2 are scale and bias : (C,), float32 whatever x is."""
    residual: bool = False
    """The last input is the residual, of the shape and type of x."""
    activation: str = "none"
    """A name of ACTIVATIONS."""

    def __str__(self) -> str:
        parts = ["simam", *["affine"] * self.affine, *["add"] * self.residual]
        return "+".join([*parts, *[self.activation] * (self.activation != "none")])


OPS = {
    OP_NAME: Op(),
    "SimAMAffine": Op(True),
    "SimAMAffineRelu": Op(True, False, "relu"),
    "SimAMAffineSilu": Op(True, False, "silu"),
    "SimAMAffineAdd": Op(True, True),
    "SimAMAffineAddRelu": Op(True, True, "relu"),
    "SimAMAffineAddSilu": Op(True, True, "silu"),
}
"""The operators by name. Those behind the first hold the epilogue of SimAM too: see `apply_epilogue`."""

EPS_OF = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""Distance from 1 to the next number of a type. The largest relative rounding error is half of it."""
SMALLEST_OF = {"float16": 2.0**-24, "bfloat16": 2.0**-133}
"""The smallest number above 0."""


def energy(w: float, b: float, t: float, others: ArrayLike, e_lambda: float = DEFAULT_LAMBDA) -> float:
    """Energy of the neuron t under the linear transform (w, b): equation (2).

    t : its value.  others : (M-1,) the rest of its plane, at least one value.
    """
    x = np.asarray(others, dtype=np.float64)
    return float(np.mean((-1 - (w * x + b)) ** 2) + (1 - (w * t + b)) ** 2 + e_lambda * w**2)


def closed_form(t: float, others: ArrayLike, e_lambda: float = DEFAULT_LAMBDA) -> tuple[float, float]:
    """The (w*, b*) that minimise `energy`: equations (3) and (4).

    t : its value.  others : (M-1,) the rest of its plane.

    The paper prints (3) with a minus in front. That gives (-w*, -b*), whose energy is 8 - 3 e* with e* the minimum:
    more than that of w = b = 0, which is 2. Nothing downstream changes: (5) is the energy of the minimum itself.
    """
    x = np.asarray(others, dtype=np.float64)
    delta = t - x.mean()
    w = 2 * delta / (delta**2 + 2 * x.var() + 2 * e_lambda)
    return float(w), float(-0.5 * (t + x.mean()) * w)


def minimal_energy(x: ArrayLike, e_lambda: float = DEFAULT_LAMBDA) -> Float64:
    """Equation (5) for every neuron, with mean and unbiased variance of the whole plane, as published.

    x : (N, C, H, W).  Returns (N, C, H, W) float64, in (0, 2].  Raises ShapeError unless 4-D with H*W >= 2.

    The statistics include t, those of `minimal_energy_leave_one_out` do not: that one is the exact minimum of (2).
    On 64 standard normal planes the gates of the two differ by at most 0.35 at M = 2, 0.029 at M = 49 and 0.00045 at
    M = 3136 (table in docs/explanation/derivation.md). Models are trained with this one, so `gate` is made of it.
    """
    d, v = _statistics(x)
    return _energy_at_minimum(d, v, e_lambda)


def minimal_energy_leave_one_out(x: ArrayLike, e_lambda: float = DEFAULT_LAMBDA) -> Float64:
    """The exact minimum of (2) for every neuron: (5) with mean and variance over all of the plane but t.

    x : (N, C, H, W).  Returns (N, C, H, W) float64.  Raises ShapeError unless 4-D with H*W >= 2.
    With d = (t - μ̂)² and v = Σ d / (M-1) of the whole plane, (t - μ_t)² = d M²/(M-1)² and σ_t² = v - d M/(M-1)²,
    so no neuron needs a pass of its own.
    """
    d, v = _statistics(x)
    m = d.shape[2] * d.shape[3]
    var_t = np.maximum(v - d * m / (m - 1) ** 2, 0.0)  # 0 but for rounding where t alone makes the variance
    return _energy_at_minimum(d * (m / (m - 1)) ** 2, var_t, e_lambda)


def gate(x: ArrayLike, e_lambda: float = DEFAULT_LAMBDA) -> Float64:
    """sigmoid(1/e*), what x is multiplied with: sigmoid(½) = 0.622 for a neuron at the mean, nearly 1 for an outlier.

    x : (N, C, H, W).  Returns (N, C, H, W) float64.  Raises ShapeError unless 4-D with H*W >= 2.
    """
    d, v = _statistics(x)
    z: Float64 = d / (4 * (v + e_lambda)) + 0.5  # 1/e*
    return 1 / (1 + np.exp(-z))


def reference(x: ArrayLike, e_lambda: float = DEFAULT_LAMBDA) -> Float64:
    """SimAM of x: equation (6). The truth that everything else is measured against.

    x : (N, C, H, W).  Returns (N, C, H, W) float64.  Raises ShapeError unless 4-D with H*W >= 2.
    """
    return np.asarray(x, dtype=np.float64) * gate(x, e_lambda)


def silu(x: Float64) -> Float64:
    """x * sigmoid(x)."""
    y: Float64 = x / (1 + np.exp(-np.maximum(x, -700.0)))  # exp(709) is the largest
    return y


def relu(x: Float64) -> Float64:
    """max(x, 0)."""
    return np.maximum(x, 0.0)


ACTIVATIONS: dict[str, Callable[[Float64], Float64]] = {"none": lambda x: x, "relu": relu, "silu": silu}
STEEPEST = 1.1
"""The largest slope of an activation: that of silu at 2.4, 1.0998."""


def apply_epilogue(
    y: ArrayLike, scale: ArrayLike, bias: ArrayLike, residual: ArrayLike = 0.0, *, activation: str = "none"
) -> Float64:
    """activation(scale * y + bias + residual): what the operators of OPS do behind SimAM.

    y, residual : (N, C, H, W).  scale, bias : (C,).  activation : a name of ACTIVATIONS.
    """
    a, b = (np.asarray(values, dtype=np.float64)[:, None, None] for values in (scale, bias))
    return ACTIVATIONS[activation](a * np.asarray(y, dtype=np.float64) + b + np.asarray(residual, dtype=np.float64))


def tolerance(x: ArrayLike, dtype: DTypeLike, e_lambda: float = DEFAULT_LAMBDA) -> Float64:
    """How far SimAM of x may be from `reference`, per plane, where all but the result is float32.

    x : (N, C, H, W), as the implementation under test reads it (already rounded to float16 if that is its input).
    dtype : of the result: float32, float64, float16 or bfloat16 (a name will do).
    Returns (N, C, 1, 1) float64, to broadcast against y. Raises TypeError for any other dtype, ShapeError as `gate`.

        2 eps max|x| (1 + |mean| / sqrt(v + λ))            eps = 2^-23, the distance from 1 to the next float32

    The gate is g(u) = sigmoid(u²/4 + ½) with u = (x - mean) / sqrt(v + λ).
    The mean: pairwise or blocked sums find it to k eps mean|x| with k a few (NumPy and PyTorch on
    tests/helpers/cases.py: at most 4.1). As mean|x| <= |mean| + sqrt(v), that moves u by at most k eps (1 + |mean| /
    sqrt(v + λ)), and as |dg/du| <= 0.151, k = 4.1 moves g by 0.62 eps of that bracket: the digits that subtracting
    the mean costs.
    The rest: x - mean, its square, Σ / (M-1), + λ, the quotient, + ½, exp (1 ulp), 1 +, 1 / and the product sum up to
    2.0 eps if all err the same way at the worst u, 2.4; to 1.0 eps at u = 0 and 1.3 eps at large u.
    All of it together, measured: float32 NumPy and PyTorch use at most 0.55 of the bound on tests/helpers/cases.py.

    Outside fall: float32 sums that run through a plane value by value (3.8 times the bound on standard normal planes
    of 160x160, as k grows with M), E[x²] - E[x]² (more than 100 times, at mean 1000), and every wrong formula of
    tests/test_formula_tolerance.py. Not covered: planes whose Σ (x - mean)² is beyond float32 (3e38).

    A float16 or bfloat16 result is rounded once more: half its own eps of max|x|, or half the smallest subnormal.
    A float64 result has the same bound with eps = 2^-52, twice: the reference is float64 and rounds as well.
    """
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    if name not in EPS_OF:
        raise TypeError(f"no tolerance for a {name} result; there is one for {', '.join(EPS_OF)}")
    a = np.asarray(x, dtype=np.float64)
    _, v = _statistics(a)
    size: Float64 = np.abs(a).max(axis=(2, 3), keepdims=True)
    offset = np.abs(a.mean(axis=(2, 3), keepdims=True)) / np.sqrt(v + e_lambda)
    eps = 2 * EPS_OF["float64"] if name == "float64" else EPS_OF["float32"]
    bound: Float64 = 2 * eps * size * (1 + offset)
    if name in SMALLEST_OF:
        bound = bound + 0.5 * EPS_OF[name] * size + 0.5 * SMALLEST_OF[name]
    return bound


def epilogue_tolerance(
    within: ArrayLike,
    y: ArrayLike,
    scale: ArrayLike,
    bias: ArrayLike,
    residual: ArrayLike = 0.0,
    *,
    dtype: DTypeLike = "float32",
) -> Float64:
    """How far `apply_epilogue` may be off, value by value, where y is off by `within`, all but the result in float32.

    y : exact, (N, C, H, W).  within : broadcasts to it.  dtype : of the result.

        1.1 |scale| within + 6 eps (|scale y| + |bias| + |residual|)         eps = 2^-23

    An activation passes on at most 1.1 (STEEPEST) of an error. Scale and bias, the product and two sums are rounded
    by eps / 2 of at most the bracket each: 2.2 eps behind the activation. Of silu the exp, 1 +, the quotient and the
    product err by at most 3 eps of the result, which is less than the bracket. A float16 or bfloat16 result is
    rounded once more.
    """
    a, b = (np.abs(np.asarray(values, dtype=np.float64))[:, None, None] for values in (scale, bias))
    size: Float64 = a * np.abs(np.asarray(y, dtype=np.float64)) + b + np.abs(np.asarray(residual, dtype=np.float64))
    bound: Float64 = STEEPEST * a * np.asarray(within, dtype=np.float64) + 6 * EPS_OF["float32"] * size
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    if name in SMALLEST_OF:
        bound = bound + 0.5 * EPS_OF[name] * size + 0.5 * SMALLEST_OF[name]
    return bound


def shortest(e_lambda: float) -> float:
    """The shortest decimal within 2e-7 (relative) of λ.

    An epsilon is a rounded multiple of λ. With this, λ stays the same over repeated writing and reading.
    """
    rounded = (float(f"{e_lambda:.{digits}g}") for digits in range(1, 10))
    return next(near for near in rounded if abs(near - e_lambda) <= 2e-7 * e_lambda)


def as_maps(x: NDArray[Any]) -> NDArray[Any]:
    """x with each of its planes as a map: what SimAM of another rank than 4 is defined by.

    x : (N, C, L), (N, C, H, W) or (N, C, D, H, W). Returns (N, C, 1, L), x itself, or (N, C, D*H, W), a view where
    x is contiguous. Raises ShapeError for another rank.
    """
    if not 3 <= x.ndim <= 5:
        raise ShapeError(f"SimAM takes x of shape (N, C, L), (N, C, H, W) or (N, C, D, H, W); got {x.shape}")
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:-1]), x.shape[-1])


def _energy_at_minimum(delta2: Float64, variance: Float64, e_lambda: float) -> Float64:
    return 4 * (variance + e_lambda) / (delta2 + 2 * (variance + e_lambda))


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
