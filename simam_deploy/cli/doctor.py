"""What is installed, what each runtime can do here, and the line that mends what is missing. Tried, not assumed."""

from __future__ import annotations

import math
import platform
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx

from simam_deploy import __version__, formula, native
from simam_deploy.compare import inputs
from simam_deploy.compare.workload import LIMITS, TIMES_HELD, refuse_many_parts
from simam_deploy.errors import InputError, LimitError, NativeError, RuntimeUnavailable, SimAMDeployError
from simam_deploy.graph import onnx_file
from simam_deploy.native import cuda_library
from simam_deploy.processes import limited
from simam_deploy.rewrite.forms import alone
from simam_deploy.runtimes import KernelUse, onnx_model, open_session

PACKAGES = {
    "torch": ("torch", ("torch",)),
    "onnx_reference": ("onnx", ("onnx",)),
    "ort": ("ort", ("onnxruntime", "onnxruntime-gpu")),
    "openvino": ("openvino", ("openvino",)),
    "tensorrt_rtx": ("tensorrt-rtx", ("tensorrt-rtx-cu13", "tensorrt-rtx")),
    "tensorrt": ("tensorrt", ("tensorrt",)),
}
"""Room -> the extra of this package that brings it, and the names it has on PyPI."""


MOST_NUMBERS = 2**26
"""Of the inputs that `kernel_in` makes: 256 MiB of float32."""
MOST_WEIGHTS = 2**32


@dataclass(frozen=True)
class Row:
    """One thing that may be here."""

    name: str
    version: str
    works: bool
    detail: str
    """What it was seen to do, or the command that mends it."""


def examine(on_progress: Callable[[str], None] | None = None) -> list[Row]:
    """Try everything. Nothing is raised for what is missing; a one-block file is run on each runtime."""
    say = on_progress or (lambda _: None)
    rows = [Row("simam-deploy", __version__, True, f"Python {platform.python_version()} on {platform.machine()}")]
    tries: dict[str, Callable[[Path], str]] = {
        "torch": _try_torch,
        "onnx_reference": lambda file: _try_session(file, "onnx_reference"),
        "ort": lambda file: _try_session(file, "ort", kernel="off"),
        "openvino": lambda file: _try_session(file, "openvino"),
        "tensorrt_rtx": _try_tensorrt_rtx,
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "block.onnx")
        onnx_file.save(alone("function", ("n", 2, "h", "w")), file)
        for name, attempt in tries.items():
            say(f"try {name}")
            rows.append(_attempt(name, attempt, file))
        say("try the kernel library")
        rows.append(_library(file))
        rows.append(_cuda_kernels())
        rows.append(_attempt("ort, CUDA", lambda f: _try_session(f, "ort", "CUDAExecutionProvider"), file, "ort-gpu"))
    version = _version(PACKAGES["tensorrt"][1])
    detail = "installed; the engine builder of this version uses TensorRT-RTX" if version else _mend("tensorrt")
    rows.append(Row("tensorrt", version or "-", bool(version), detail))
    return rows


def kernel_in(file: Path, model: onnx.ModelProto | None = None) -> KernelUse:
    """Which SimAM nodes of a file the compiled kernel takes in ort: seen in one run, on inputs that are made.

    model : as read from it, if it was.
    The run, and the load before it, are in a process with LIMITS: a file may run for ever. A file without nodes of
    ours is not run, nor one of very many parts.
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
    """The fields of a KernelUse. Runs the file: call it in a process of its own."""
    with open_session(file, "ort", threads=1) as session:
        if sum(math.prod(inputs.resolve(spec, None)) for spec in session.inputs) > MOST_NUMBERS:
            return asdict(KernelUse(None, count, why=f"its inputs hold more than {MOST_NUMBERS:,} numbers"))
        (case,) = inputs.cases(["plain"], inputs.specs(file))
        names = [spec.name for spec in session.inputs]
        return asdict(session.kernel_use(dict(zip(names, case.feeds[0], strict=True))))


def _library(file: Path) -> Row:
    """The compiled kernel: found, asked, and seen to run."""
    name = "kernel library"
    try:
        library = native.library()
    except NativeError as error:
        return Row(name, "-", False, str(error))
    if library is None:
        return Row(name, "-", False, native.why_not())
    use = kernel_in(file)
    what = f"{library.path}; {library.target} on {library.machine}; in ort: {use}{use.why and f', {use.why}'}"
    return Row(name, str(library.version), use.ran == use.of, what)


def _cuda_kernels() -> Row:
    """The CUDA kernels as PyTorch takes them: found, loaded, and seen to run where there is a GPU."""
    name = "CUDA kernels"
    try:
        found = cuda_library.kernels()
        if found is None:
            return Row(name, "-", False, cuda_library.why_not())
        import torch

        from simam_deploy.pytorch.module import SimAM

        if not torch.cuda.is_available():
            return Row(name, "-", False, f"{found.path}; not run: torch sees no GPU")
        x = np.random.default_rng(0).standard_normal((2, 2, 5, 7)).astype(np.float32)
        y = SimAM(kernel="require").eval()(torch.from_numpy(x).cuda()).cpu().numpy()
    except Exception as error:  # of a driver or a broken installation, in any type
        return Row(name, "-", False, (str(error).splitlines() or [type(error).__name__])[0])
    return Row(
        name, "-", True, f"{found.path}; SimAM on {torch.cuda.get_device_name()} at {_share(y, x):.2f} of tolerance"
    )


def _attempt(name: str, attempt: Callable[[Path], str], file: Path, extra: str | None = None) -> Row:
    room = name.partition(",")[0]
    version = _version(PACKAGES[room][1])
    try:
        return Row(name, version or "-", True, attempt(file))
    except (SimAMDeployError, ImportError) as error:
        why = (str(error).splitlines() or ["cannot be imported"])[0]
    except Exception as error:  # a broken installation says so in any type; the other rows are still wanted
        why = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return Row(name, version or "-", False, f"{why}\n{_mend(extra or PACKAGES[room][0])}")


def _mend(extra: str) -> str:
    if extra == "onnx":
        return "pip install --upgrade onnx"
    return f'pip install "simam-deploy[{extra}]"'


def _version(packages: tuple[str, ...]) -> str:
    for package in packages:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return ""


def _try_torch(_: Path) -> str:
    import torch

    from simam_deploy.pytorch.module import SimAM

    x = np.random.default_rng(0).standard_normal((2, 2, 5, 7)).astype(np.float32)
    share = _share(SimAM()(torch.from_numpy(x)).numpy(), x)
    cuda = f"CUDA {torch.version.cuda} on {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "no CUDA"
    return f"SimAM in float32 at {share:.2f} of tolerance; {cuda}"


def _try_session(file: Path, runtime: str, provider: str | None = None, kernel: str | None = None) -> str:
    """kernel : "off" for ort itself, as the kernel library has a row of its own."""
    x = np.random.default_rng(0).standard_normal((2, 2, 5, 7)).astype(np.float32)
    with open_session(file, runtime, provider=provider, kernel=kernel) as session:
        (y,) = session.run({"x": x}).values()
        taken = [f"SimAM runs as {session.kernel_use({'x': x})}"] if provider and not session.notes else []
        return "; ".join([f"{session.label} at {_share(y, x):.2f} of tolerance", *session.notes, *taken])


def _try_tensorrt_rtx(file: Path) -> str:
    from simam_deploy.engines import builder

    shapes = builder.parse_shapes(["x:1x2x4x4,1x2x8x8,2x2x8x8"])
    report = builder.build_engine(file, file.with_suffix(".engine"), targets=["sm86"], shapes=shapes)
    return f"builds engines without a GPU; a block for sm86 took {report.build_s:.1f} s"


def _share(
    y: np.ndarray[tuple[int, ...], np.dtype[np.float32]], x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
) -> float:
    share = float((np.abs(y - formula.reference(x)) / formula.tolerance(x, np.float32)).max())
    if not share <= 1:
        raise RuntimeUnavailable(f"runs, but what it computes is not SimAM: {share:.3g} of tolerance")
    return share
