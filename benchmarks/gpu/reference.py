"""The formula in float64 on the device, and the tolerance of a kernel, as documented in simam_cuda.h.

`tests/benchmarks/test_gpu_checks.py` and the first check compare it with simam_deploy.formula.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.gpu.problem import Values
from simam_deploy.formula import STEEPEST, Op

EPS = 2.0**-23
GATE = 2e-5
"""The error of the narrow types' gate, of the gate."""
_DIGITS = {"f16": (10, -14), "bf16": (7, -126)}
"""Digits behind the point, and the smallest exponent of a normal number."""
LARGEST = {"f32": 2.0**128 - 2.0**104, "f16": 65504.0, "bf16": 2.0**128 - 2.0**120, "s8": 1e300}


@dataclass(frozen=True)
class Expected:
    """y : what must come out.  rounding : what storing it may cost.  within : computing it. All (N, C, M)."""

    y: Tensor
    rounding: Tensor
    within: Tensor


def simam(x: Tensor, e_lambda: float) -> Tensor:
    """x : (N, C, M) float64."""
    d = (x - x.mean(-1, keepdim=True)).square()
    v = d.sum(-1, keepdim=True) / (x.shape[-1] - 1)
    return x * torch.sigmoid(d / (4 * (v + e_lambda)) + 0.5)


def expect(of: Values, op: Op, simam_of_x: Tensor) -> Expected:
    """Expected result of the operator, and the tolerance:

    float32   2 eps of the terms of y = scale * simam(x) + bias + residual, which are |scale| max|x|, |bias| and
              |residual|; half as much more behind silu, whose slope is 1.1 and which has a quotient of its own
    float16   half an ulp of the result more, and 2e-5 of the gate; bfloat16 too
    int8      half of y_scale more, and 2e-5 of the gate; the first 16 times, as x = x_scale * q is itself rounded and
              a mean may be 127 spreads away
    """
    scale = of.scale.double()[:, None] if op.affine else torch.ones((), dtype=torch.float64, device=of.x.device)
    bias = of.bias.double()[:, None] if op.affine else torch.zeros_like(scale)
    residual = of.residual if op.residual else torch.zeros_like(scale)
    y = scale * simam_of_x
    gate = STEEPEST * GATE * y.abs()
    y = y + bias + residual
    if op.activation == "relu":
        y = y.relu()
    elif op.activation == "silu":
        y = y * torch.sigmoid(y)
    terms = scale.abs() * of.x.abs().amax(-1, keepdim=True) + bias.abs() + residual.abs()
    within = 2 * EPS * terms * (1.5 if op.activation == "silu" else 1.0) + 2.0**-147
    rounding = torch.zeros_like(y)
    if of.type == "s8":
        y = y.clamp(-128 * of.y_scale, 127 * of.y_scale)
        within, rounding = 16 * within + gate, rounding + 0.5 * of.y_scale
    elif of.type != "f32":
        within, rounding = within + gate, half_ulp(of.type, y)
    return Expected(y, rounding, within.expand_as(y))


def half_ulp(type: str, y: Tensor) -> Tensor:
    """Half the distance between the two numbers of the type next to y."""
    digits, least = _DIGITS[type]
    _, exponent = torch.frexp(y.nan_to_num(posinf=0.0, neginf=0.0))
    power = torch.where(y == 0, float(least), (exponent.double() - 1).clamp(min=float(least))) - digits - 1
    return torch.exp2(power)


def worst(of: Values, expected: Expected, got: Tensor) -> float:
    """Largest error beyond rounding, over the tolerance; infinite for a missing or extra NaN.

    A result above the largest number of the type may be infinite. int8 has no NaN: skips such planes.
    """
    y = expected.y
    share = ((got - y).abs() - expected.rounding).clamp(min=0) / expected.within
    beyond = got.isinf() & (y.abs() > LARGEST[of.type]) & (got.sign() == y.sign())
    right = (y.isnan() & got.isnan()) | beyond
    if of.type == "s8":
        right |= y.isnan()
    share = torch.where(right, 0.0, share).nan_to_num(nan=float("inf"))
    return float(share.max()) if share.numel() else 0.0
