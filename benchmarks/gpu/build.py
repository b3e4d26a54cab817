"""Build the libraries with plain nvcc and g++ into build/gpu, for the current device, unless up to date.

A library is written beside its target and renamed, so an existing one is complete.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from simam_deploy.errors import BuildError
from simam_deploy.native.cuda_library import TYPES

ROOT = Path(__file__).parents[2]
CUDA = ROOT / "plugins/cuda"
TESTS = ROOT / "plugins/tests"
HERE = Path(__file__).parent
INTO = ROOT / "build/gpu"
PLAN = (CUDA / "plan.cpp", CUDA / "refuse.cpp")
FORMATS = tuple(name.upper() for name in TYPES)


@dataclass(frozen=True)
class Libraries:
    """Paths of the libraries. sanitized : a program; None without a GPU."""

    kernels: Path
    probe: Path
    plan: Path
    sanitized: Path | None = None


def for_device(capability: int) -> Libraries:
    """All of them for this compute capability (10 * major + minor); raises BuildError."""
    nvcc = find_nvcc()
    into = INTO / f"sm_{capability}"
    shared = ["-shared", "-cudart=static"]
    flags = ["-std=c++17", "-O3", "-DNDEBUG", f"-gencode=arch=compute_{capability},code=sm_{capability}"]
    flags += ["-Xcompiler=-fPIC,-fvisibility=hidden"]
    sources = [(f"kernels_{f}", CUDA / "kernels.cu", [f"-DSIMAM_FORMAT={f}"]) for f in FORMATS]
    sources += [(source.stem, source, []) for source in (CUDA / "simam_cuda.cpp", *PLAN)]
    objects = [into / f"{name}.o" for name, _, _ in sources]
    exports = CUDA / "exports.map"
    found = Libraries(into / "libsimam_cuda.so", into / "libprobe.so", INTO / "libplan.so", into / "sanitized")
    _run_all(
        [
            *(
                _Job(out, [nvcc, *flags, *more, "-c", str(source)], _read_by(CUDA))
                for out, (_, source, more) in zip(objects, sources, strict=True)
            ),
            _Job(found.probe, [nvcc, *flags, *shared, str(HERE / "probe.cu")], _read_by(CUDA, HERE)),
            _plan(),
        ]
    )
    linked = list(map(str, objects))
    assert found.sanitized is not None
    _run_all(
        [
            _Job(
                found.kernels,
                [nvcc, *shared, "-Xlinker", f"--version-script={exports}", *linked],
                [*objects, exports],
            ),
            _Job(
                found.sanitized,
                [nvcc, *flags, "-lineinfo", "-cudart=static", str(HERE / "sanitized.cu"), *linked],
                [*objects, *_read_by(HERE)],
            ),
        ]
    )
    return found


def emulated() -> Libraries:
    """The same calls on the emulator, with g++; raises BuildError."""
    cxx = _cxx()
    shared = [cxx, "-std=c++17", "-O1", "-shared", "-fPIC", "-Wno-psabi"]
    kernels, probe = INTO / "libsimam_emulated.so", INTO / "libprobe_emulated.so"
    hidden = ["-fvisibility=hidden", f"-Wl,--version-script={CUDA / 'exports.map'}"]
    sources = [str(TESTS / "emulated.cpp"), str(TESTS / "emulated_kernels.cpp"), *map(str, PLAN)]
    read = [
        TESTS / name for name in ("emulated.cpp", "emulated_kernels.cpp", "emulated.h", "emulator.h", "harness.h")
    ]
    _run_all(
        [
            _Job(kernels, [*shared, *hidden, *sources], [*_read_by(CUDA), *read]),
            _Job(probe, [*shared, "-x", "c++", str(HERE / "probe.cu")], _read_by(CUDA, HERE)),
            _plan(),
        ]
    )
    return Libraries(kernels, probe, INTO / "libplan.so")


def find_nvcc() -> str:
    """CUDACXX, as for `make native-cuda`, or NVCC, the PATH, then the newest /usr/local/cuda*; raises BuildError."""
    if named := _named("CUDACXX") or _named("NVCC"):
        return named
    installed = sorted(Path("/usr/local").glob("cuda*/bin/nvcc"), reverse=True)
    found = shutil.which("nvcc") or next(map(str, installed), None)
    if found is None:
        raise BuildError(
            "there is no nvcc on the PATH nor in /usr/local/cuda*/bin; install CUDA's compiler or set CUDACXX"
        )
    return found


def _cxx() -> str:
    found = _named("CXX") or shutil.which("g++") or shutil.which("clang++")
    if found is None:
        raise BuildError("there is no g++ and no clang++ on the PATH; install one, or set CXX")
    return found


def _named(variable: str) -> str | None:
    """The program named by a variable; None if unset. Raises BuildError for an invalid one."""
    named = os.environ.get(variable)
    if named and shutil.which(named) is None:
        raise BuildError(f"{variable} is {named!r}, which is no program here; name one, without options, or unset it")
    return named or None


def _plan() -> _Job:
    sources = [TESTS / "describe_plan.cpp", *PLAN]
    command = [_cxx(), "-std=c++17", "-O1", "-shared", "-fPIC", *map(str, sources)]
    return _Job(INTO / "libplan.so", command, [*_read_by(CUDA), *sources])


@dataclass(frozen=True)
class _Job:
    """A command that makes `out`, which it is told behind -o."""

    out: Path
    command: Sequence[str]
    sources: Sequence[Path]

    def is_done(self) -> bool:
        """`out` is there and no older than its sources and this file."""
        if not self.out.exists():
            return False
        made = self.out.stat().st_mtime
        return all(path.stat().st_mtime <= made for path in (*self.sources, Path(__file__)))


def _read_by(*folders: Path) -> list[Path]:
    """The sources in these folders: any may be included by any."""
    return [path for folder in folders for path in folder.iterdir() if path.suffix in (".h", ".cu", ".cpp")]


def _run_all(jobs: Iterable[_Job]) -> None:
    """All at once. Raises BuildError with what the compiler wrote."""
    running = []
    for job in jobs:
        if job.is_done():
            continue
        job.out.parent.mkdir(parents=True, exist_ok=True)
        beside = job.out.with_name(f"{job.out.name}.{os.getpid()}.o")
        command = [*job.command, "-o", str(beside)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        running.append((job, beside, process))
    failed = []
    for job, beside, process in running:
        said, _ = process.communicate()
        if process.returncode != 0:
            beside.unlink(missing_ok=True)
            failed.append(f"{' '.join(job.command)}\n{said}")
        else:
            beside.replace(job.out)
    if failed:
        raise BuildError("\n".join(failed))
