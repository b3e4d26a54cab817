"""The CUDA kernel as an operator of PyTorch: torch.ops.simam.SimAM(x, e_lambda), forward only.

`prepare` loads and registers it; `SimAM(kernel="auto")` calls that on construction. The operator allocates y and the
workspace with torch. It does not synchronise, and may be captured into a CUDA graph after a first run on that device.
torch.compile sees one node.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from threading import Lock

import torch
from torch import Tensor
from torch.autograd import forward_ad

from simam_deploy.errors import NativeError, ShapeError
from simam_deploy.native import cuda_library
from simam_deploy.native.cuda_library import Params

OPERATOR = "simam::SimAM"
DEVICES = ("cuda",)
TYPES = {torch.float32: cuda_library.F32, torch.float16: cuda_library.F16, torch.bfloat16: cuda_library.BF16}
LARGEST_LAMBDA = torch.finfo(torch.float32).max
MOST = 2**30
"""Upper bound on planes and on values of a plane, see simam_cuda.h."""

# Of the process: dynamo reads `_missing` while it traces, and makes a guard of it.
_missing: str | None = None  # why there are no kernels; "" if there are; None: nobody has asked
_kernels: cuda_library.Kernels | None = None
_prepared: set[torch.device] = set()
_preparing = Lock()


def prepare() -> None:
    """Find the library and register the operator, the first time. Raises NativeError if it cannot be used."""
    global _missing, _kernels  # noqa: PLW0603 the state of the process, as torch's registry is
    with _preparing:
        if _missing is not None:
            return
        _kernels = cuda_library.kernels()
        if _kernels is not None:
            schema = "(Tensor x, float e_lambda) -> Tensor"
            torch.library.custom_op(OPERATOR, _simam, mutates_args=(), device_types=DEVICES, schema=schema)
            torch.library.register_fake(OPERATOR, _fake)
        _missing = "" if _kernels is not None else cuda_library.why_not()


def reasons_against(x: Tensor, e_lambda: float) -> list[str]:
    """Reasons why the operator does not support x : (N, C, H, W) and λ here; none if it does. Traceable by dynamo."""
    reasons = []
    if x.device.type not in DEVICES:
        reasons.append(f"x is on {x.device.type}, not on {' or '.join(DEVICES)}")
    if x.dtype not in TYPES:
        reasons.append(f"x is {x.dtype}; it takes float32, float16 and bfloat16")
    if e_lambda > LARGEST_LAMBDA:
        reasons.append(f"e_lambda is {e_lambda:g}; it takes {LARGEST_LAMBDA:.8g} at most, the largest float32")
    planes, pixels = x.shape[0] * x.shape[1], x.shape[2] * x.shape[3]
    if planes > MOST or pixels > MOST:
        reasons.append(f"x has {planes} planes of {pixels} values; it takes 2**30 of each at most")
    if torch.is_grad_enabled() and x.requires_grad:
        reasons.append("x requires a gradient, which it does not compute; use torch.no_grad()")
    if _has_tangent(x):
        reasons.append("x carries a forward-mode tangent, which it does not compute")
    if _missing != "":
        reasons.append(_missing or "the kernels were not looked for: run the module once before it is compiled")
    return reasons


def _has_tangent(x: Tensor) -> bool:
    """Whether x has a forward-mode derivative (torch.autograd.forward_ad, torch.func.jvp).

    Under torch.compile and torch.vmap, whether any value has one.
    """
    if torch.compiler.is_compiling():  # where none is open it is read a second time, for dynamo to make a guard of it
        return _dual_level() >= 0 or forward_ad._current_level >= 0
    if forward_ad._current_level < 0:
        return False
    return torch._C._functorch.is_batchedtensor(x) or forward_ad.unpack_dual(x).tangent is not None


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _dual_level() -> int:
    """Level of the innermost open forward derivative; -1 without one.

    A constant without guard for dynamo, as traced code may open it. So code compiled first inside one keeps the
    formula, outside too.
    """
    return forward_ad._current_level


def call(x: Tensor, e_lambda: float) -> Tensor:
    """Call the operator. Requires empty `reasons_against`."""
    y: Tensor = torch.ops.simam.SimAM(x, e_lambda)
    return y


def _fake(x: Tensor, e_lambda: float) -> Tensor:
    return torch.empty_like(x)


def _simam(x: Tensor, e_lambda: float) -> Tensor:
    """Compute y in the memory format of x. Copies x unless contiguous or channels_last."""
    if x.dim() != 4 or x.shape[2] * x.shape[3] == 1:
        raise ShapeError(f"{OPERATOR} takes x of shape (N, C, H, W) with H*W >= 2; got {tuple(x.shape)}")
    if not 0 <= e_lambda <= LARGEST_LAMBDA:
        raise ValueError(f"{OPERATOR} takes 0 <= e_lambda <= {LARGEST_LAMBDA:.8g}, as float32; got {e_lambda}")
    y = torch.empty_like(x)
    if x.numel() == 0:
        return y
    with _current(x.device):
        _load_into(x.device)
        channels_last = x.is_contiguous(memory_format=torch.channels_last)
        if x.is_contiguous():
            _launch(x, y, 1, e_lambda)
        elif not (channels_last and _launch(x, y, x.shape[1], e_lambda, ask=True)):
            plain = x.contiguous()
            _launch(plain, plain, 1, e_lambda)
            y.copy_(plain)
    return y


def _launch(x: Tensor, y: Tensor, group: int, e_lambda: float, *, ask: bool = False) -> bool:
    """Enqueue the kernel. With `ask`, return False without a launch if the kernels do not support it."""
    assert _kernels is not None
    params = Params(type=TYPES[x.dtype], group=group, x=x.data_ptr(), y=y.data_ptr(), e_lambda=e_lambda)
    params.images, params.channels, params.pixels = x.shape[0], x.shape[1], x.shape[2] * x.shape[3]
    params.x_scale = params.residual_scale = params.y_scale = 1.0
    if ask and not _kernels.accepts(params):
        return False
    workspace = None
    if size := _kernels.workspace(params):
        workspace = torch.empty(size, dtype=torch.uint8, device=x.device)
        params.workspace, params.workspace_size = workspace.data_ptr(), size
    stream = torch.cuda.current_stream(x.device).cuda_stream if x.is_cuda else 0
    if error := _kernels.launch(params, stream):
        shape = f"{tuple(x.shape)} {x.dtype} on {x.device}" + (", channels last" if group > 1 else "")
        raise NativeError(f"{OPERATOR} of x {shape}: the kernel of {_kernels.path} failed: cudaError_t {error}")
    return True


def _current(device: torch.device) -> AbstractContextManager[object]:
    """Inside, make the device of x current, as the library requires."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _load_into(device: torch.device) -> None:
    if device in _prepared:
        return
    assert _kernels is not None
    if error := _kernels.prepare():
        raise NativeError(f"{_kernels.path} cannot load its kernels into {device}: cudaError_t {error}")
    _prepared.add(device)
