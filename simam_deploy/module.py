"""SimAM as a PyTorch module: no parameters, so any published checkpoint loads into it."""

from __future__ import annotations

import math

import torch
import torch.fx
from torch import Tensor, nn

from simam_deploy.errors import ShapeError
from simam_deploy.formula import DEFAULT_LAMBDA

_HALF = (torch.float16, torch.bfloat16)


@torch.fx.wrap
def _simam(x: Tensor, e_lambda: float) -> Tensor:
    """SimAM of x. One node of its own in an FX graph: FX cannot trace the checks."""
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
    y = a * torch.sigmoid(d / (4 * (v + e_lambda)) + 0.5)
    return y.to(x.dtype)


class SimAM(nn.Module):
    """y = x * sigmoid((x - mu)² / (4 (v + λ)) + ½), per plane of x; v is the plane's unbiased variance.

    Takes the signatures found in the wild, so that changing the import is enough:

        SimAM()                                   λ = 1e-4
        SimAM(e_lambda=0.1), SimAM(0.1)           a float is λ
        SimAM(64), SimAM(c1, c2)                  an int is a channel count: accepted and not needed
        SimAM(channels=64, e_lambda=1e-4)         the published `simam_module(channels=None, e_lambda=1e-4)`

    Of positional arguments the type decides: SimAM(64, 1) is two channel counts and λ = 1e-4; for λ = 1 write 1.0.
    Raises TypeError for other types and for two λ, ValueError unless 0 < λ < inf.

    forward: x : (N, C, H, W) float16, bfloat16, float32 or float64, in any memory format, H*W >= 2. Returns the same
    shape, dtype and format. float16 and bfloat16 are computed in float32 and rounded once, also under autocast.
    Within `formula.tolerance` of `formula.reference`. Differentiable; the state_dict is empty; x is not modified.
    Raises ShapeError, which is a ValueError, when x is not 4-D or has 1x1 planes (0/0). Exported with dynamic sizes
    it cannot refuse: the exported program returns NaN for 1x1 planes.
    """

    def __init__(
        self, *args: int | float | None, channels: int | None = None, e_lambda: int | float | None = None
    ) -> None:
        super().__init__()
        if type(e_lambda) is int:
            e_lambda = float(e_lambda)
        lambdas = [a for a in (*args, e_lambda) if isinstance(a, float)]
        ignored = [a for a in (*args, channels) if a is None or type(a) is int] + [None] * (e_lambda is None)
        if len(lambdas) > 1 or len(lambdas) + len(ignored) < len(args) + 2:
            raise TypeError(
                "SimAM takes channel counts (int, not needed) and at most one e_lambda (float); "
                f"got {args}, channels={channels!r}, e_lambda={e_lambda!r}"
            )
        self.e_lambda = float(lambdas[0]) if lambdas else DEFAULT_LAMBDA
        if not (math.isfinite(self.e_lambda) and self.e_lambda > 0):
            raise ValueError(f"e_lambda must be a positive number; got {self.e_lambda}")

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return _simam(x, self.e_lambda)

    def extra_repr(self) -> str:
        """λ, as in `SimAM(e_lambda=0.1)`."""
        return f"e_lambda={self.e_lambda}"


simam_module = SimAM
"""The published name."""
