"""SimAM as a PyTorch module: no parameters, so any published checkpoint loads into it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from simam_deploy.errors import ShapeError
from simam_deploy.formula import DEFAULT_LAMBDA

_HALF = (torch.float16, torch.bfloat16)


class SimAM(nn.Module):
    """y = x * sigmoid((x - mu)² / (4 (v + λ)) + ½), per plane of x; v is the plane's unbiased variance.

    Takes every signature in use, so that changing the import is enough:

        SimAM()                                   λ = 1e-4
        SimAM(e_lambda=0.1), SimAM(0.1)           a float is λ
        SimAM(64), SimAM(c1, c2)                  channel counts are accepted and not needed
        SimAM(channels=64, e_lambda=1e-4)         the published `simam_module(channels=None, e_lambda=1e-4)`

    forward: x : (N, C, H, W) of any float dtype and memory format, H*W >= 2. Returns the same shape, dtype and
    format. float16 and bfloat16 are computed in float32 and rounded once at the end, also under autocast.
    Within `formula.tolerance` of `formula.reference`. Differentiable; has an empty state_dict.
    Raises ShapeError, which is a ValueError, when x is not 4-D or has 1x1 planes (0/0).
    """

    def __init__(self, *args: int | float | None, channels: int | None = None, e_lambda: float | None = None) -> None:
        super().__init__()
        del channels
        lambdas = [a for a in args if isinstance(a, float)]
        if e_lambda is not None:
            lambdas.append(float(e_lambda))
        if any(isinstance(a, bool) or not isinstance(a, int | float | None) for a in args) or len(lambdas) > 1:
            raise TypeError(
                f"SimAM takes channel counts (int, ignored) and one e_lambda (float); got {args}, e_lambda={e_lambda}"
            )
        self.e_lambda = lambdas[0] if lambdas else DEFAULT_LAMBDA
        if not (math.isfinite(self.e_lambda) and self.e_lambda > 0):
            raise ValueError(f"e_lambda must be a positive number; got {self.e_lambda}")

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if x.dim() != 4:
            raise ShapeError(f"SimAM takes x of shape (N, C, H, W); got {x.dim()}-D {tuple(x.shape)}")
        m = x.shape[2] * x.shape[3]
        if isinstance(m, int) and m < 2:  # while exporting with dynamic sizes m is not an int
            raise ShapeError(
                f"SimAM on a {x.shape[2]}x{x.shape[3]} map is 0/0 (the variance of one value, M - 1 = 0); "
                f"got x of shape {tuple(x.shape)}; leave SimAM out there"
            )
        a = x.float() if x.dtype in _HALF else x
        c = a - a.mean(dim=(2, 3), keepdim=True)
        d = c * c
        v = d.sum(dim=(2, 3), keepdim=True) / (m - 1)
        y = a * torch.sigmoid(d / (4 * (v + self.e_lambda)) + 0.5)
        return y.to(x.dtype)

    def extra_repr(self) -> str:
        """λ, as in `SimAM(e_lambda=0.1)`."""
        return f"e_lambda={self.e_lambda:g}"


simam_module = SimAM
"""The published name."""
