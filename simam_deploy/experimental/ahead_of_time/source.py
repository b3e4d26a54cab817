"""CUDA source of one kernel for one shape, type, layout and λ, written by libsimam_ahead.so without a GPU."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from simam_deploy import native
from simam_deploy.errors import BuildError, NativeError
from simam_deploy.experimental.ahead_of_time.device import Device
from simam_deploy.formula import Op
from simam_deploy.native import cuda_library
from simam_deploy.native.cuda_library import BF16, F16, F32, Params

LIBRARY = native.Compiled(
    "libsimam_ahead.so", "planner of ahead-of-time kernels", "SIMAM_AHEAD_LIBRARY", "make native"
)
HEADER = "ahead_of_time.cuh"
TYPES = {"FP32": F32, "FP16": F16, "BF16": BF16}
"""TensorRT's names of the types."""
TACTICS = {cuda_library.TACTICS.index(name): name for name in ("registers", "cluster")}
"""SimamTactic of plugins/cuda/simam_cuda.h: a plane in the registers of one block, or of a cluster of blocks."""
MOST_SHARED = 48 * 1024
"""Shared memory of a block, in bytes, without an opt-in, which TensorRT does not offer."""
MOST_CLUSTER = 8
_ALIGNED = 256  # of TensorRT's tensors


class _Device(ctypes.Structure):
    _fields_ = (("multiprocessors", ctypes.c_int32), ("capability", ctypes.c_int32), ("l2", ctypes.c_int64))


class _Ahead(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("blocks", "threads", "shared", "cluster")),
        ("source", ctypes.c_char * 4096),
    )


@dataclass(frozen=True)
class Source:
    """A translation unit with the entry SIMAM_ENTRY, and its launch. shared : bytes of dynamic shared memory."""

    text: str
    blocks: int
    threads: int
    shared: int
    cluster: int


@dataclass(frozen=True)
class KernelCase:
    """Problem of a kernel. shape : (N, C, H, W).  type : a name of TYPES.  group : channels per group."""

    op: Op
    shape: tuple[int, int, int, int]
    type: str
    group: int
    e_lambda: float
    tactic: int

    def __str__(self) -> str:
        layout = "LINEAR" if self.group == 1 else "channels last"
        shape = "x".join(map(str, self.shape))
        return f"{shape} {self.type} {layout}, tactic {TACTICS.get(self.tactic, self.tactic)}"


def source_of(case: KernelCase, device: Device) -> Source:
    """Source of the kernel that the plugin library would launch. Raises BuildError unless it is a single one."""
    images, channels, height, width = case.shape
    fields = {
        "type": TYPES[case.type],
        "activation": cuda_library.ACTIVATIONS.index(case.op.activation),
        "tactic": case.tactic,
        "group": case.group,
        "x": _ALIGNED,
        "y": 2 * _ALIGNED,
        "residual": 3 * _ALIGNED if case.op.residual else None,
        "scale": 4 * _ALIGNED if case.op.affine else None,
        "bias": 5 * _ALIGNED if case.op.affine else None,
        "images": images,
        "channels": channels,
        "pixels": height * width,
        "e_lambda": case.e_lambda,
    }
    params, ahead = Params(**fields), _Ahead()
    here = _Device(device.multiprocessors, device.capability, device.l2)
    if why := _library().simam_ahead(ctypes.byref(params), ctypes.byref(here), ctypes.byref(ahead)):
        raise BuildError(f"{case}: {why.decode()}")
    if ahead.shared > MOST_SHARED or ahead.cluster > MOST_CLUSTER:
        raise BuildError(
            f"{case}: a block needs {ahead.shared} bytes of memory and clusters of {ahead.cluster}; "
            f"an ahead-of-time plugin has {MOST_SHARED} and {MOST_CLUSTER}"
        )
    return Source(ahead.source.decode(), ahead.blocks, ahead.threads, ahead.shared, ahead.cluster)


def headers() -> Path:
    """The folder of the kernels' headers: in the installed package, else in this checkout. Raises NativeError."""
    for folder in (native.PACKAGE / "cuda", Path(__file__).parents[3] / "plugins/cuda"):
        if (folder / HEADER).is_file():
            return folder
    raise NativeError(f"the kernels' headers ({HEADER}) are not here; build again: `pip install .` in a checkout")


@cache
def _library() -> ctypes.CDLL:
    path = LIBRARY.find()
    if path is None:
        raise NativeError(f"{LIBRARY.why_not()}; it needs a C++ compiler and nothing of CUDA")
    loaded = LIBRARY.load(path)
    try:
        loaded.simam_ahead.restype = ctypes.c_char_p
    except AttributeError as error:
        raise NativeError(f"{path} is no {LIBRARY.name}: {error}; {LIBRARY.mend(path)}") from error
    return loaded
