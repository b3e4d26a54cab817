"""SimAM as a PyTorch module without parameters, so any published checkpoint loads into it."""

from __future__ import annotations

import math
import sys
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from simam_deploy.errors import RuntimeUnavailable, ShapeError
from simam_deploy.formula import DEFAULT_LAMBDA
from simam_deploy.pytorch import cuda_op

KERNEL = ("off", "auto", "require")
_HALF = (torch.float16, torch.bfloat16)
# torch 2.6 has no such question; there, what is compiled takes the formula too.
_is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


@torch.fx.wrap
def _simam(x: Tensor, e_lambda: float) -> Tensor:
    """SimAM of x. One node of its own in an FX graph: FX cannot trace the checks."""
    _refuse(x)
    return _formula(x, e_lambda)


@torch.fx.wrap
def _simam_by(x: Tensor, e_lambda: float, kernel: str, training: bool) -> Tensor:
    """SimAM of x, by the kernel if allowed and possible. One node, as above."""
    _refuse(x)
    reasons = _reasons_against(x, e_lambda, training)
    if not reasons:
        return cuda_op.call(x, e_lambda)
    if kernel == "require" and not _is_leaving():
        raise RuntimeUnavailable(
            f"SimAM(kernel='require') cannot run the kernel: {'; '.join(reasons)}; or use kernel='auto'{_re_check()}"
        )
    return _formula(x, e_lambda)


def _is_leaving() -> bool:
    """Whether the model is being exported or traced: files must run without our operator."""
    return _is_exporting() or torch.onnx.is_in_onnx_export() or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]


def _re_check() -> str:
    """Addition to the error if torch.jit.trace runs the module itself, to compare it with the traced formula."""
    frame = None if torch.compiler.is_compiling() else sys._getframe()
    while frame is not None and frame.f_code.co_name != "_check_trace":
        frame = frame.f_back
    if frame is None:
        return ""
    return "; torch.jit.trace has traced the formula, and its check runs the module itself: pass check_trace=False"


def _reasons_against(x: Tensor, e_lambda: float, training: bool) -> list[str]:
    if not torch.compiler.is_compiling():
        cuda_op.prepare()
    if _is_leaving():  # where sizes may be no numbers
        return ["it is being exported or traced"]
    reasons = ["the module is in training mode; call eval()"] if training else []
    return reasons + cuda_op.reasons_against(x, e_lambda)


def _refuse(x: Tensor) -> None:
    if x.dim() != 4:
        raise ShapeError(f"SimAM takes x of shape (N, C, H, W); got {x.dim()}-D {tuple(x.shape)}")
    m = x.shape[2] * x.shape[3]
    if isinstance(m, int) and m < 2:  # while exporting with dynamic sizes m is not an int
        raise ShapeError(
            f"SimAM on a {x.shape[2]}x{x.shape[3]} map is 0/0 (the variance of one value, M - 1 = 0); "
            f"got x of shape {tuple(x.shape)}; leave SimAM out there"
        )


def _formula(x: Tensor, e_lambda: float) -> Tensor:
    m = x.shape[2] * x.shape[3]
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

    kernel : "off" (default): torch's own operators, as above.
             "auto": the CUDA kernel where it can, else as above: `kernel_use(x)` says which, and why. It can in eval
             mode, on a GPU, in float16, bfloat16 and float32, where no gradient of x is asked for, λ is at most
             3.4e38 (the largest float32) and the library is there (`make native-cuda`). While the model is exported
             or traced it never does: files hold the formula.
             "require": the same, and RuntimeUnavailable with every reason where it cannot; exports stay as they are.
             torch.jit.trace traces the formula, and then compares it with the module itself, which runs the kernel:
             that fails where "require" does, and two roundings of float16 differ. Pass check_trace=False.
             May be set later: `module.kernel = "auto"`. The state_dict stays empty; copies and pickles keep it.
             Raises ValueError for another word, NativeError for a library that is there and broken.
    """

    _kernel = "off"  # of a module that was pickled before there was one

    def __init__(
        self,
        *args: int | float | None,
        channels: int | None = None,
        e_lambda: int | float | None = None,
        kernel: str = "off",
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
        self.kernel = kernel

    @property
    def kernel(self) -> str:
        """Whether the CUDA kernel may run: off, auto or require."""
        return self._kernel

    @kernel.setter
    def kernel(self, kernel: str) -> None:
        if kernel not in KERNEL:
            raise ValueError(f"kernel is one of {', '.join(KERNEL)}; got {kernel!r}")
        if kernel != "off":
            cuda_op.prepare()
        self._kernel = kernel

    def kernel_use(self, x: Tensor) -> str:
        """Implementation that forward(x) runs: `kernel`, or `formula: ` with every reason.

        `nothing: ` with the reasons if kernel="require" makes them an error. Raises ShapeError as forward does.
        """
        _refuse(x)
        reasons = ["kernel='off'"] if self._kernel == "off" else _reasons_against(x, self.e_lambda, self.training)
        word = "nothing" if self._kernel == "require" and not _is_leaving() else "formula"
        return f"{word}: {'; '.join(reasons)}" if reasons else "kernel"

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if self._kernel == "off":
            return _simam(x, self.e_lambda)
        return _simam_by(x, self.e_lambda, self._kernel, self.training)

    def extra_repr(self) -> str:
        """λ, as in `SimAM(e_lambda=0.1)`, and `kernel` unless it is off."""
        return f"e_lambda={self.e_lambda}" + (f", kernel={self._kernel}" if self._kernel != "off" else "")

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if self._kernel != "off":  # so that it can be compiled before it has run
            cuda_op.prepare()


simam_module = SimAM
"""The published name."""
