"""The library of the CUDA kernels: plugins/cuda/simam_cuda.h in ctypes. Pointers and sizes, without torch.

    if (found := kernels()) is not None:
        found.launch(Params(type=F32, group=1, x=x.data_ptr(), ...), stream)

The search order is that of the op libraries, see native/__init__.py. SIMAM_CUDA_LIBRARY names another file.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

from simam_deploy import formula
from simam_deploy.errors import NativeError
from simam_deploy.native import Compiled

COMPILED = Compiled("libsimam_cuda.so", "library of the CUDA kernels", "SIMAM_CUDA_LIBRARY", "make native-cuda")
TYPES = ("f32", "f16", "bf16", "s8")
"""SimamType, in order."""
ACTIVATIONS = tuple(formula.ACTIVATIONS)
"""SimamActivation, in order."""
TACTICS = ("automatic", "registers", "cluster", "split")
"""SimamTactic, in order."""
F32, F16, BF16 = 0, 1, 2


class Params(ctypes.Structure):
    """SimamParams: names, types and order as in the header, which documents each field. All zero at first."""

    _fields_ = (
        ("type", ctypes.c_int32),
        ("activation", ctypes.c_int32),
        ("tactic", ctypes.c_int32),
        ("group", ctypes.c_int32),
        ("x", ctypes.c_void_p),
        ("y", ctypes.c_void_p),
        ("residual", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("images", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("pixels", ctypes.c_int64),
        ("e_lambda", ctypes.c_float),
        ("x_scale", ctypes.c_float),
        ("residual_scale", ctypes.c_float),
        ("y_scale", ctypes.c_float),
        ("workspace", ctypes.c_void_p),
        ("workspace_size", ctypes.c_size_t),
    )


@dataclass(frozen=True)
class Kernels:
    """The loaded library: the functions of the header, for the current device."""

    path: Path
    loaded: ctypes.CDLL

    @classmethod
    def of(cls, path: Path, loaded: ctypes.CDLL) -> Kernels:
        """Declare the types of the functions. Raises AttributeError if one is missing."""
        for name in ("simam_launch", "simam_accepts", "simam_workspace"):
            getattr(loaded, name).argtypes = [ctypes.POINTER(Params)]
        loaded.simam_launch.argtypes = [ctypes.POINTER(Params), ctypes.c_void_p]
        loaded.simam_workspace.restype = ctypes.c_size_t
        loaded.simam_prepare.argtypes = []
        return cls(path, loaded)

    def launch(self, params: Params, stream: int) -> int:
        """Enqueue on `stream`, a cudaStream_t as an int. Returns a cudaError_t; 0 is success."""
        return int(self.loaded.simam_launch(ctypes.byref(params), stream))

    def accepts(self, params: Params) -> bool:
        """Whether `params.tactic` supports this shape, type and layout on this device."""
        return bool(self.loaded.simam_accepts(ctypes.byref(params)))

    def workspace(self, params: Params) -> int:
        """Workspace size in bytes; 0 for most."""
        return int(self.loaded.simam_workspace(ctypes.byref(params)))

    def prepare(self) -> int:
        """Load the kernels into the current device. Returns a cudaError_t."""
        return int(self.loaded.simam_prepare())


def kernels() -> Kernels | None:
    """The library, or None if there is none. Raises NativeError if it cannot be used."""
    path = COMPILED.find()
    if path is None:
        return None
    loaded = COMPILED.load(path)
    try:
        return Kernels.of(path, loaded)
    except AttributeError as error:
        raise NativeError(
            f"{path} is not the library of simam-deploy's kernels: {error}; {COMPILED.mend(path)}"
        ) from error


def why_not() -> str:
    """Reason why there is no library, and how to get one, in one line."""
    return COMPILED.why_not()
