"""What the tests of `make gpu` share: the emulator as a machine, small sizes, and things to put wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import build, checks
from benchmarks.gpu.api import Machine, Planner, Probe, chip_emulated, kernels_in
from benchmarks.gpu.clock import Clock
from benchmarks.gpu.problem import OPS
from benchmarks.gpu.verdict import Sizes
from simam_deploy.errors import BuildError
from simam_deploy.native.cuda_library import Params

TINY = Sizes(((1, 2), (7, 9), (12, 24)), (OPS[5],), ((7, 7), (12, 24)), (2, 33, 520), small=True)
GPU_ONLY = {"captured in a graph", "eight streams", "SimAM in PyTorch", "engines of TensorRT"}


def emulated_machine() -> Machine:
    """Kernels on the emulator; without a compiler the test is skipped."""
    try:
        made = build.emulated()
    except BuildError as error:
        if "no g++" not in str(error):
            raise
        pytest.skip(str(error))
    chip = chip_emulated()
    return Machine(torch.device("cpu"), kernels_in(made.kernels), Probe(made.probe), Planner(made.plan, chip), chip)


def run(machine: Machine, *names: str, seconds: float = 1000.0) -> list[dict[str, Any]]:
    return list(checks.run_all(machine, TINY, Clock(seconds), names))


Launch = Callable[[Params, Callable[[Params], int]], int]


def changed(**factors: float) -> Launch:
    def launch(params: Params, kernel: Callable[[Params], int]) -> int:
        other = Params.from_buffer_copy(params)
        for name, factor in factors.items():
            setattr(other, name, type(getattr(params, name))(getattr(params, name) * factor))
        return kernel(other)

    return launch


def sanitizer_script(folder: Path, finds: str) -> Path:
    """finds : a shell pattern over '<tool> <what the program was told>'."""
    fake = folder / "compute-sanitizer"
    fake.write_text(
        f'#!/bin/sh\necho "========= COMPUTE-SANITIZER"\ncase "$2 $8" in {finds}) echo found; exit 9;; esac\n'
    )
    fake.chmod(0o755)
    return fake


def speed_row(**more: Any) -> dict[str, Any]:
    numbers = {"us": 10.0, "copy_us": 9.5, "tb_s": 4.1, "figure": 0.95, "target": 0.92, "worst": 0.5}
    rivals = {"eager_us": 60.0, "compile_us": 20.0, "ort_us": None, "over_compile": 2.0}
    words = {
        "table": "speed",
        "row": "medium f16 NCHW 56x56",
        "regime": "medium",
        "op": "simam",
        "plan": "planes whole",
    }
    return {**numbers, **rivals, **words, "ok": True, "shape": [2, 256, 56, 56], "note": "", **more}
