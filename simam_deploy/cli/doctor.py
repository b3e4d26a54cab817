"""Tests of the installed runtimes and libraries, with a command to install each missing one."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simam_deploy import __version__
from simam_deploy.cli import render
from simam_deploy.cli.options import JsonOption, QuietOption
from simam_deploy.errors import NativeError, RuntimeUnavailable, SimAMDeployError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Float32 = NDArray[np.float32]

EXAMPLE = "doctor"
PACKAGES = {
    "torch": ("torch", ("torch",)),
    "onnx_reference": ("onnx", ("onnx",)),
    "ort": ("ort", ("onnxruntime", "onnxruntime-gpu")),
    "openvino": ("openvino", ("openvino",)),
    "tensorrt_rtx": ("tensorrt-rtx", ("tensorrt-rtx-cu13", "tensorrt-rtx")),
    "tensorrt": ("tensorrt", ("tensorrt",)),
    "trt": ("tensorrt", ("tensorrt", "tensorrt-rtx-cu13", "tensorrt-rtx")),
}
"""Runtime -> extra of this package that installs it, and its names on PyPI."""


@dataclass(frozen=True)
class DoctorRow:
    """Result for one runtime or library."""

    name: str
    version: str
    works: bool
    detail: str
    """Observed result; or the reason why it does not work, then the command to repair it."""


def doctor(
    everything: Annotated[
        bool, typer.Option("--all", help="Also what the experimental parts need, which have never run on a GPU.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say what is installed, what each runtime can do here, and how to mend what is missing."""
    with render.progress(quiet) as say:
        rows = examine(say)
        experimental = examine_experimental() if everything else []
    if as_json:
        rows = [*rows, *experimental]
        render.json([{**asdict(row), "experimental": row in experimental} for row in rows])
        return
    _show("what is here", ("", "version", "works", "what it does here"), rows)
    if everything:
        render.lines([""])
        _show("experimental: never run on a GPU", ("", "version", "is here", "what it needs"), experimental)
    render.verdict(f"works: {sum(row.works for row in rows)} of {len(rows)}")


def _show(title: str, columns: Sequence[str], rows: Sequence[DoctorRow]) -> None:
    """Print a table, then reasons and commands in full for all that does not work."""
    details = [row.detail.splitlines()[0] if row.works else "see below" for row in rows]
    works = ["yes" if row.works else "no" for row in rows]
    render.table(title, columns, [(r.name, r.version, w, d) for r, w, d in zip(rows, works, details, strict=True)])
    render.lines([f"{row.name}: {row.detail}" for row in rows if not row.works], "how to mend what is missing:")


def examine(on_progress: Callable[[str], None] | None = None) -> list[DoctorRow]:
    """Test everything; run a file with one block on each runtime. Raises nothing for a missing one."""
    from simam_deploy.graph import onnx_file
    from simam_deploy.rewrite.forms import alone

    say = on_progress or (lambda _: None)
    rows = [
        DoctorRow("simam-deploy", __version__, True, f"Python {platform.python_version()} on {platform.machine()}")
    ]
    tries: dict[str, Callable[[Path], str]] = {
        "torch": _try_torch,
        "onnx_reference": lambda file: _try_session(file, "onnx_reference"),
        "ort": lambda file: _try_session(file, "ort", kernel="off"),
        "openvino": lambda file: _try_session(file, "openvino"),
        "tensorrt_rtx": _try_tensorrt_rtx,
        "trt": _try_trt,
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
    detail = "installed; build --flavor tensorrt uses it" if version else _mend("tensorrt")
    rows.append(DoctorRow("tensorrt", version or "-", bool(version), detail))
    return rows


def examine_experimental() -> list[DoctorRow]:
    """Test the requirements of the experimental parts, which have never run on a GPU. Does not run them."""
    from simam_deploy.experimental.ahead_of_time.ready import ready

    return [_attempt("tensorrt, kernels ahead of time", lambda _: ready(), Path(), "ahead-of-time")]


def _library(file: Path) -> DoctorRow:
    """Test the kernel library: location, properties, one run."""
    from simam_deploy import native
    from simam_deploy.compare.kernel_use import kernel_in

    name = "kernel library"
    try:
        library = native.library()
    except NativeError as error:
        return DoctorRow(name, "-", False, str(error))
    if library is None:
        return DoctorRow(name, "-", False, native.why_not())
    use = kernel_in(file)
    what = f"{library.path}; {library.target} on {library.machine}; in ort: {use}{use.why and f', {use.why}'}"
    return DoctorRow(name, str(library.version), use.ran == use.of, what)


def _cuda_kernels() -> DoctorRow:
    """Test the CUDA kernels in PyTorch: location, loading, and one run if there is a GPU."""
    from simam_deploy.native import cuda_library

    name = "CUDA kernels"
    try:
        found = cuda_library.kernels()
        if found is None:
            return DoctorRow(name, "-", False, cuda_library.why_not())
        import torch

        from simam_deploy.pytorch.module import SimAM

        if not torch.cuda.is_available():
            return DoctorRow(name, "-", False, f"{found.path}; not run: torch sees no GPU")
        x = _example()
        y = SimAM(kernel="require").eval()(torch.from_numpy(x).cuda()).cpu().numpy()
    except Exception as error:  # of a driver or a broken installation, in any type
        return DoctorRow(name, "-", False, (str(error).splitlines() or [type(error).__name__])[0])
    return DoctorRow(
        name, "-", True, f"{found.path}; SimAM on {torch.cuda.get_device_name()} at {_share(y, x):.2f} of tolerance"
    )


def _attempt(name: str, attempt: Callable[[Path], str], file: Path, extra: str | None = None) -> DoctorRow:
    room = name.partition(",")[0]
    version = _version(PACKAGES[room][1])
    mend = _mend(extra or PACKAGES[room][0])
    try:
        return DoctorRow(name, version or "-", True, attempt(file))
    except (SimAMDeployError, ImportError) as error:
        why, *remedy = str(error).splitlines() or ["cannot be imported"]
        mend = remedy[-1] if room == "trt" and remedy else mend  # a package brings no driver
    except Exception as error:  # a broken installation says so in any type; the other rows are still wanted
        why = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return DoctorRow(name, version or "-", False, f"{why}\n{mend}")


def _mend(extra: str) -> str:
    if extra == "onnx":
        return "pip install --upgrade onnx"
    return f'pip install "simam-deploy[{extra}]"'


def _version(packages: tuple[str, ...]) -> str:
    from importlib import metadata

    for package in packages:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return ""


def _try_torch(_: Path) -> str:
    import torch

    from simam_deploy.pytorch.module import SimAM

    x = _example()
    share = _share(SimAM()(torch.from_numpy(x)).numpy(), x)
    cuda = f"CUDA {torch.version.cuda} on {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "no CUDA"
    return f"SimAM in float32 at {share:.2f} of tolerance; {cuda}"


def _try_session(file: Path, runtime: str, provider: str | None = None, kernel: str | None = None) -> str:
    """Run the file in a runtime. kernel : "off" for ort itself, as the kernel library has its own row."""
    from simam_deploy.runtimes import open_session

    x = _example()
    with open_session(file, runtime, provider=provider, kernel=kernel) as session:
        (y,) = session.run({"x": x}).values()
        taken = [f"SimAM runs as {session.kernel_use({'x': x})}"] if provider and not session.notes else []
        return "; ".join([f"{session.label} at {_share(y, x):.2f} of tolerance", *session.notes, *taken])


def _try_tensorrt_rtx(file: Path) -> str:
    from simam_deploy.engines import builder

    shapes = {"x": ((1, 2, 4, 4), (1, 2, 8, 8), (2, 2, 8, 8))}
    report = builder.build_engine(file, file.with_suffix(".engine"), targets=["sm86"], shapes=shapes)
    return f"builds engines without a GPU; a block for sm86 took {report.build_s:.1f} s"


def _try_trt(file: Path) -> str:
    """Build and run an engine, where a GPU is."""
    from simam_deploy.engines import builder, flavors
    from simam_deploy.runtimes.trt_cuda import open_gpu

    gpu = open_gpu()
    targets = [] if flavors.TENSORRT.installed else [gpu.name]
    engine, shapes = file.with_suffix(".trt"), {"x": ((1, 2, 4, 4), (2, 2, 5, 7), (2, 2, 8, 8))}
    builder.build_engine(file, engine, targets=targets, shapes=shapes, tf32=False)
    return _try_session(engine, "trt")


def _example() -> Float32:
    import numpy as np

    return np.random.default_rng(0).standard_normal((2, 2, 5, 7)).astype(np.float32)


def _share(y: Float32, x: Float32) -> float:
    import numpy as np

    from simam_deploy import formula

    share = float((np.abs(y - formula.reference(x)) / formula.tolerance(x, np.float32)).max())
    if not share <= 1:
        raise RuntimeUnavailable(f"runs, but what it computes is not SimAM: {share:.3g} of tolerance")
    return share
