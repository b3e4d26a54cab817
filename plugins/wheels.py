"""Wheels with the kernel inside, for x86-64 and aarch64: `make wheel`.

    python plugins/wheels.py [x86_64] [aarch64] [--into dist]

zig compiles for both against glibc 2.17, the C library of manylinux_2_17. auditwheel checks each wheel and tags it.
Then the wheel is installed in a clean environment and runs SimAM in ONNX Runtime (try_wheel.py): on this machine or,
for aarch64, under qemu. Exit status 1, with the reason, if a wheel cannot be built, has another tag, or is not tried.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

from fetch import Unavailable, fetch

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build/wheels"
GLIBC = (2, 17)
"""The C library that the wheels need at least; what they depend on needs a later one."""
MACHINES = {"x86_64": 62, "aarch64": 183}
"""Architecture -> its number in an ELF file."""
LIBRARIES = {"libsimam_onnxruntime.so", "libsimam_ahead.so"}
"""All that a wheel holds. Libraries with CUDA kernels are built where CUDA is."""
FLAGS = ("CXX", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "CMAKE_ARGS", "CMAKE_TOOLCHAIN_FILE", "TENSORRT_INCLUDE_DIR")
"""Of the environment, and they would change the build: `-march=native` is for one kind of processor."""

QEMU = "build/qemu-user/usr/bin/qemu-aarch64"  # that of bookworm crashes in ONNX Runtime
SYSROOT = "build/sysroot-aarch64"
PYTHON = "python3.11"
DEBIAN = [
    *(f"{PYTHON}-minimal", f"lib{PYTHON}-minimal", f"lib{PYTHON}-stdlib", "libc6", "libgcc-s1", "libstdc++6"),
    *("libexpat1", "zlib1g", "libssl3", "libffi8", "libbz2-1.0", "liblzma5", "libuuid1", "libcrypt1"),
]
"""A Python of Debian bookworm, and all that it and the packages from PyPI load."""


class WheelError(Exception):
    """Why there is no wheel, or none that can be given away."""


def main() -> None:
    """Build, check, try, and print one row per wheel."""
    parser = argparse.ArgumentParser(description="Build wheels with the kernel inside.")
    parser.add_argument("architectures", nargs="*", help="of them; both if none is named: " + ", ".join(MACHINES))
    parser.add_argument("--into", type=Path, default=ROOT / "dist")
    asked = parser.parse_args()
    if unknown := set(asked.architectures) - set(MACHINES):
        parser.error(f"no wheel is built for {', '.join(sorted(unknown))}; choose from {', '.join(MACHINES)}")
    rows, untried = [], []
    for architecture in asked.architectures or MACHINES:
        try:
            wheel = make(architecture, asked.into)
        except (WheelError, Unavailable) as why:
            sys.exit(f"no wheel for {architecture}: {why}")
        try:
            say(f"{architecture}: install it in a clean environment and run it")
            tried = f"yes: {try_out(wheel, architecture)}"
        except (WheelError, Unavailable) as why:
            tried = "no"
            untried.append(f"{wheel.name} was not seen to run: {why}")
        rows.append(row(wheel, tried))
    for line in table([("file", "size", "tag", "glibc", "tried"), *rows]):
        print(line)
    if untried:
        sys.exit("\n".join(untried))


def make(architecture: str, into: Path) -> Path:
    """A checked wheel in `into`. Raises WheelError, or Unavailable if a tool cannot be fetched."""
    folder = WORK / architecture
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    say(f"{architecture}: compile; the first time zig builds its C++ library too, a minute or two")
    built = build(architecture, folder)
    check(built, architecture)
    say(f"{architecture}: check it by the rules of {tag(architecture)}")
    return repair(built, architecture, into)


def build(architecture: str, folder: Path) -> Path:
    """The wheel as the build backend makes it, for any Linux of the architecture: linux_x86_64."""
    if not os.environ.get("ONNXRUNTIME_INCLUDE_DIR"):
        fetch(["libonnxruntime-dev"], "trixie", ROOT / "build/headers")
    zig = importlib.util.find_spec("ziglang")
    if zig is None or zig.origin is None:
        raise WheelError("there is no zig; `make wheel` installs it from PyPI (ziglang)")
    compiler = [
        str(Path(zig.origin).with_name("zig")),
        "c++",
        "-target",
        f"{architecture}-linux-gnu.{_dotted(GLIBC)}",
    ]
    settings = {
        "cmake.define.CMAKE_CXX_COMPILER": ";".join(compiler),
        "cmake.define.CMAKE_SYSTEM_NAME": "Linux",
        "cmake.define.CMAKE_SYSTEM_PROCESSOR": architecture,
        "cmake.define.CMAKE_CXX_FLAGS": "-O3",  # in CMake's trials too, or zig builds its C++ library a second time
        "cmake.define.CMAKE_MODULE_LINKER_FLAGS": "-s",
        "cmake.define.SIMAM_CUDA": "OFF",
        "install.strip": "false",  # -s did it; this machine's `strip` cannot read other architectures
        "wheel.tags": f"py3-none-linux_{architecture}",
    }
    options = [f"--config-settings={name}={value}" for name, value in settings.items()]
    _run([sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, *options, ROOT])
    return _only(folder)


def check(wheel: Path, architecture: str) -> None:
    """Raise WheelError unless the wheel holds the libraries, and they are for this architecture and this glibc."""
    found = libraries(wheel)
    with zipfile.ZipFile(wheel) as archive:
        if "simam_deploy/lib/missing.txt" in archive.namelist():
            raise WheelError(archive.read("simam_deploy/lib/missing.txt").decode().strip().replace("\n", "; "))
    if set(found) != LIBRARIES:
        raise WheelError(f"{wheel.name} should hold {_listed(LIBRARIES)}; it holds {_listed(found) or 'none'}")
    for name, content in found.items():
        if (machine := int.from_bytes(content[18:20], "little")) != MACHINES[architecture]:
            raise WheelError(f"{name} is for ELF machine {machine}; {architecture} is {MACHINES[architecture]}")
    if (needed := glibc(wheel)) > GLIBC:
        raise WheelError(f"{wheel.name} needs glibc {_dotted(needed)}; {tag(architecture)} has {_dotted(GLIBC)}")


def repair(wheel: Path, architecture: str, into: Path) -> Path:
    """The wheel with its manylinux tag, in `into`. Raises WheelError where auditwheel gives it another."""
    here = wheel.parent / "tagged"
    # auditwheel finds the lowest tag by itself; its --plat knows the tags of this machine alone
    _run([sys.executable, "-m", "auditwheel", "repair", "-w", here, wheel])
    tagged = _only(here)
    if tag(architecture) not in tagged.name:
        raise WheelError(f"auditwheel calls it {tagged.name}, and it should be {tag(architecture)}")
    check(tagged, architecture)  # nothing was added
    into.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy2(tagged, into))


def try_out(wheel: Path, architecture: str) -> str:
    """Install the wheel in an environment with no compiler, run SimAM there: one line of it. Raises WheelError."""
    folder = WORK / architecture / "tried"
    shutil.rmtree(folder, ignore_errors=True)
    native = platform.system() == "Linux" and platform.machine() == architecture
    if not native and architecture != "aarch64":
        raise WheelError(f"this machine is {platform.machine()}, and there is no emulator for {architecture} here")
    program = ROOT / "plugins/try_wheel.py"
    if native:
        _run([sys.executable, "-m", "venv", folder])
        _install(wheel, [folder / "bin/python", "-m", "pip"], folder)
        done = _run([folder / "bin/python", "-I", program, "--doctor", folder / "bin/simam-deploy"], bare={})
    else:
        fetch(["qemu-user"], "trixie", ROOT / QEMU.partition("/usr")[0])
        fetch(DEBIAN, "bookworm", ROOT / SYSROOT, "arm64")
        version = PYTHON.removeprefix("python")
        chosen = [f"--platform=manylinux_2_{minor}_{architecture}" for minor in range(GLIBC[1], 37)]  # bookworm's: 36
        chosen += [f"--target={folder}", f"--python-version={version}", "--implementation=cp"]
        _install(wheel, [sys.executable, "-m", "pip"], folder, *chosen)
        qemu: list[str | Path] = [
            ROOT / QEMU,
            "-cpu",
            "cortex-a72",
            "-L",
            ROOT / SYSROOT,
        ]  # the oldest instructions: ARMv8.0
        done = _run([*qemu, ROOT / SYSROOT / "usr/bin" / PYTHON, "-P", program], bare={"PYTHONPATH": str(folder)})
    return done.strip().splitlines()[-1] + ("" if native else ", under qemu")


def _install(wheel: Path, pip: list[str | Path], folder: Path, *options: str) -> None:
    """With ONNX Runtime, from wheels alone: nothing is compiled, and there is nothing to compile it with."""
    words: list[str | Path] = [
        "install",
        "--only-binary=:all:",
        "-c",
        ROOT / "constraints.txt",
        *options,
        f"{wheel}[ort]",
    ]
    _run([*pip, *words], path=str(folder / "bin"))


def libraries(wheel: Path) -> dict[str, bytes]:
    """The shared libraries in a wheel: name -> content."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if re.search(r"\.so(\.|$)", name)]
        return {Path(name).name: archive.read(name) for name in names}


def glibc(wheel: Path) -> tuple[int, ...]:
    """The highest version of glibc that a symbol in the wheel's libraries names."""
    content = b"".join(libraries(wheel).values())
    return max((tuple(map(int, found)) for found in re.findall(rb"GLIBC_(\d+)\.(\d+)", content)), default=(0, 0))


def tag(architecture: str) -> str:
    """The platform of the wheel's name, as auditwheel calls it."""
    return f"manylinux_{GLIBC[0]}_{GLIBC[1]}_{architecture}"


def row(wheel: Path, tried: str) -> tuple[str, ...]:
    """One line of the table."""
    name, version, *tags = wheel.name.removesuffix(".whl").split("-")
    return f"{name}-{version}", f"{wheel.stat().st_size / 1e6:.2f} MB", "-".join(tags), _dotted(glibc(wheel)), tried


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Lines with their columns under each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in rows]


def say(words: str) -> None:
    """Progress, to stderr."""
    print(words, file=sys.stderr, flush=True)


def _run(command: list[str | Path], *, path: str | None = None, bare: dict[str, str] | None = None) -> str:
    """Run to its end in WORK and return stdout. Raises WheelError with the last lines of what it said.

    path : in place of this environment's PATH.   bare : in place of all of the environment, which has no PATH then.
    """
    tools = str(Path(sys.executable).parent)
    kept = {name: value for name, value in os.environ.items() if name not in FLAGS}
    kept |= {"PATH": path or f"{tools}:{kept['PATH']}", "ZIG_GLOBAL_CACHE_DIR": str(ROOT / "build/zig/cache")}
    words = [str(word) for word in command]
    environment = kept if bare is None else {"PATH": "", **bare}
    done = subprocess.run(words, cwd=WORK, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stdout + done.stderr).strip().splitlines()[-12:]
        raise WheelError(f"`{' '.join(words)[:200]}` ended with {done.returncode}:\n  " + "\n  ".join(last))
    return done.stdout


def _only(folder: Path) -> Path:
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise WheelError(f"one wheel should be in {folder}; there are {len(wheels)}")
    return wheels[0]


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


if __name__ == "__main__":
    main()
