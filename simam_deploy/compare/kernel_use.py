"""Test whether the compiled kernel takes the SimAM nodes of a file: one run, in a process with limits."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path

import onnx

from simam_deploy import native
from simam_deploy.compare import inputs
from simam_deploy.compare.workload import LIMITS, TIMES_HELD, refuse_many_parts
from simam_deploy.errors import InputError, LimitError, NativeError
from simam_deploy.graph import onnx_file
from simam_deploy.processes import limited
from simam_deploy.runtimes import KernelUse, onnx_model, open_session

MOST_NUMBERS = 2**26
"""Upper bound on the inputs that `kernel_in` makes: 256 MiB of float32."""
MOST_WEIGHTS = 2**32


def kernel_in(file: Path, model: onnx.ModelProto | None = None) -> KernelUse:
    """Count the SimAM nodes of a file that the compiled kernel takes in ort, in one run on generated inputs.

    model : the file, if already read.
    Loads and runs in a process with LIMITS, as a file may run forever. Does not run a file without our operators, or
    one with very many parts.
    """
    model = onnx_file.read(file) if model is None else model
    count = onnx_model.ours(model)
    if not count:
        return KernelUse()
    try:
        refuse_many_parts(file, model)
        if native.library() is None:
            return KernelUse(0, count, why=native.why_not())
        held = sum(path.stat().st_size for path in (file, *onnx_file.weight_files(model, file)))
        if held > MOST_WEIGHTS:
            return KernelUse(None, count, why=f"its weights take more than {MOST_WEIGHTS // 2**30} GiB")
        limits = replace(LIMITS, memory=LIMITS.memory + TIMES_HELD * held)
        return KernelUse(**limited.call(f"{__name__}:_see_kernel", str(file.absolute()), count, limits=limits))
    except LimitError as error:
        return KernelUse(None, count, why=f"{error}; bench runs it without limits")
    except (NativeError, InputError) as error:
        return KernelUse(None, count, why=str(error).splitlines()[0])


def _see_kernel(file: str, count: int) -> dict[str, object]:
    """The fields of a KernelUse. Runs the file, so call it in a separate process."""
    with open_session(file, "ort", threads=1) as session:
        if sum(math.prod(inputs.resolve(spec, None)) for spec in session.inputs) > MOST_NUMBERS:
            return asdict(KernelUse(None, count, why=f"its inputs hold more than {MOST_NUMBERS:,} numbers"))
        (case,) = inputs.cases(["plain"], inputs.specs(file))
        names = [spec.name for spec in session.inputs]
        return asdict(session.kernel_use(dict(zip(names, case.feeds[0], strict=True))))
