"""The machine that kernels run on, and the libraries of the checks in ctypes.

That of plugins/cuda/simam_cuda.h is simam_deploy/native/cuda_library.py, which needs NumPy alone. Pointers are plain
addresses; the caller keeps their memory alive.
"""

from __future__ import annotations

import ctypes
import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from simam_deploy.errors import BuildError
from simam_deploy.native import cuda_library
from simam_deploy.native.cuda_library import Kernels, Params

TYPES = dict(zip(cuda_library.TYPES, (torch.float32, torch.float16, torch.bfloat16, torch.int8), strict=True))
INVALID = 1  # cudaErrorInvalidValue


class Probe:
    """probe.cu: the gate by itself, and a copy in vectors of 16 bytes."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.probe_gate.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_int64, ctypes.c_void_p]
        self._library.probe_copy.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_int64, ctypes.c_void_p]

    def gate(self, square: torch.Tensor, to: torch.Tensor, stream: int) -> int:
        """to = 2 * gate of the narrow types for d / (4 (v + lambda)) = square. Both float32. A cudaError_t."""
        return int(self._library.probe_gate(square.data_ptr(), to.data_ptr(), square.numel(), stream))

    def copy(self, source: int, to: int, size: int, stream: int) -> int:
        """Copy `size` bytes, a multiple of 16, between aligned addresses of the device. A cudaError_t."""
        return int(self._library.probe_copy(source, to, size, stream))


def kernels_in(path: Path) -> Kernels:
    """Load libsimam_cuda.so, or another library with its functions. Raises OSError."""
    return Kernels.of(path, ctypes.CDLL(str(path)))


@dataclass(frozen=True)
class Chip:
    """Properties of a GPU that a plan depends on."""

    name: str
    multiprocessors: int
    capability: int
    l2: int


class Planner:
    """describe_plan.cpp: the plan of a launch in words."""

    def __init__(self, path: Path, chip: Chip) -> None:
        self._describe = ctypes.CDLL(str(path)).simam_describe_plan
        self._describe.argtypes = [ctypes.POINTER(Params), ctypes.c_int, ctypes.c_int, ctypes.c_int64]
        self._describe.argtypes += [ctypes.c_char_p, ctypes.c_size_t]
        self._chip = chip

    def describe(self, params: Params) -> str:
        """Kernel, mode, elements held, threads, blocks; '-' if the tactic does not support the shape."""
        line = ctypes.create_string_buffer(200)
        chip = self._chip
        done = self._describe(ctypes.byref(params), chip.multiprocessors, chip.capability, chip.l2, line, 200)
        return line.value.decode() if done else "-"


@dataclass(frozen=True)
class Machine:
    """Device of the kernels: the first GPU, or the emulator on this processor."""

    device: torch.device
    kernels: Kernels
    probe: Probe
    planner: Planner
    chip: Chip

    @property
    def emulated(self) -> bool:
        """No GPU: streams and graphs are not to be had."""
        return self.device.type == "cpu"

    def stream(self) -> int:
        """PyTorch's current stream."""
        return 0 if self.emulated else torch.cuda.current_stream().cuda_stream

    def synchronize(self) -> None:
        """Wait for the device; raises RuntimeError for an error of a kernel."""
        if not self.emulated:
            torch.cuda.synchronize()


def chip_here() -> Chip:
    """The first GPU."""
    found = torch.cuda.get_device_properties(0)
    l2 = int(getattr(found, "L2_cache_size", 0)) or 40 << 20
    return Chip(found.name, found.multi_processor_count, 10 * found.major + found.minor, l2)


def chip_emulated() -> Chip:
    """GPU named by SIMAM_EMULATED_DEVICE, as in plugins/tests/emulated.cpp. Raises BuildError."""
    said = os.environ.get("SIMAM_EMULATED_DEVICE", "132,90,62914560")
    numbers = re.fullmatch(r"([1-9]\d{,8}),(\d{1,9}),([1-9]\d{,17})", said)
    if numbers is None:
        raise BuildError(
            f"SIMAM_EMULATED_DEVICE is {said!r}; it must be multiprocessors, capability and bytes of L2, as "
            "132,90,62914560, or not be set"
        )
    return Chip("emulator", *map(int, numbers.groups()))
