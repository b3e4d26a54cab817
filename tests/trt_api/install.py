"""Install the bindings of each version below build/trt-api: python -m trt_api.install.

A version that cannot be had is named with its reason, and its tests are skipped: no wheel for this machine or Python,
no network, no C compiler. Any other failure is an error.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from trt_api import ROOT, VERSIONS, folder

HERE = Path(__file__).parent
PYTHON = f"cp{sys.version_info[0]}{sys.version_info[1]}-"
"""In the name and the tag of a wheel. Another Python needs another wheel."""
LIBRARIES = ("nvinfer", "nvonnxparser", "nvinfer_plugin")
LOAD = """\
import contextlib
import ctypes
from pathlib import Path

with contextlib.suppress(ImportError):
    import tensorrt_rtx_libs
for library in sorted(Path(__file__).parent.glob("*.so")):
    ctypes.CDLL(str(library))
"""
"""The bindings import tensorrt_libs. They then find the libraries by name, as these are loaded."""
BINDINGS = "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n"


class Unavailable(Exception):
    """A version cannot be had here."""


def made_of() -> str:
    """The Python and the hash of the files that an installed folder comes from."""
    files = ("core.c", "install.py", "names.py", "overlay.py")
    return PYTHON + hashlib.sha256(b"".join((HERE / name).read_bytes() for name in files)).hexdigest()


def run(*command: str | Path, **environment: str) -> str:
    """Output of a command. Its errors go to ours."""
    return subprocess.run(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def download(version: str) -> None:
    """NVIDIA's wheel, without what it requires, into the folder of the version."""
    pip = (sys.executable, "-m", "pip", "install", "--no-deps", "--only-binary", ":all:", "--retries", "1")
    with tempfile.TemporaryDirectory(dir=ROOT) as scratch:
        new = Path(scratch) / version
        command = [*pip, "--target", str(new), f"tensorrt-cu12-bindings=={version}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise Unavailable((errors or [f"pip ended with {done.returncode}"])[-1])
        shutil.rmtree(folder(version), ignore_errors=True)
        new.rename(folder(version))


def install(version: str) -> str:
    """Install one version. Returns what was done."""
    to = folder(version)
    stamp = to / "made_of"
    if stamp.is_file() and stamp.read_text() == made_of():
        return "is installed"
    stamp.unlink(missing_ok=True)
    if shutil.which("cc") is None:
        raise Unavailable("there is no C compiler, cc")
    if not any(PYTHON in wheel.read_text() for wheel in to.glob("*.dist-info/WHEEL")):
        download(version)
    major = version.partition(".")[0]
    for package in ("tensorrt", "tensorrt_libs"):
        shutil.rmtree(to / package, ignore_errors=True)
        (to / package).mkdir()
    for name in LIBRARIES:
        out = to / "tensorrt_libs" / f"lib{name}.so"
        kind = f"-DFORWARD={int(major == '11')}"
        run("cc", "-shared", "-fPIC", kind, f"-Wl,-soname,lib{name}.so.{major}", HERE / "core.c", "-o", out, "-ldl")
    (to / "tensorrt_libs" / "__init__.py").write_text(LOAD)
    (to / "tensorrt" / "__init__.py").write_text(BINDINGS if major == "11" else (HERE / "overlay.py").read_text())
    (to / "names.json").write_text(run(sys.executable, HERE / "names.py", "tensorrt_bindings", PYTHONPATH=str(to)))
    stamp.write_text(made_of())
    return "installed"


def main() -> None:
    """Install all versions that can be had."""
    ROOT.mkdir(parents=True, exist_ok=True)
    for version in VERSIONS:
        try:
            print(f"TensorRT {version}:", install(version))
        except Unavailable as error:
            print(f"TensorRT {version}: cannot be had, its tests are skipped:", error)


if __name__ == "__main__":
    main()
