"""Runs the kernel of an installed simam-deploy in ONNX Runtime, and compares with the formula. For wheels.py.

    python -I plugins/try_wheel.py [--doctor path/to/simam-deploy]

It needs no checkout, compiler or PATH. Exit status 1, with the reason, if the kernel is not the wheel's own, is not
the widest that fits this processor, or is not right. --doctor also asks the command `simam-deploy doctor` about it.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime

import simam_deploy
from simam_deploy import formula, native
from simam_deploy.graph import onnx_file
from simam_deploy.rewrite.forms import alone

WIDEST = {"avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma"}, "avx2": {"avx2", "fma"}}
SHAPES = [(1, 1, 1, 2), (2, 3, 5, 7), (1, 64, 56, 56)]


def main() -> None:
    """Try, and print one line of it."""
    library = native.library()
    package = Path(simam_deploy.__file__).parent
    if library is None:
        sys.exit(native.why_not())
    if library.path.parent != package / "lib":
        sys.exit(f"the library is {library.path}, not that of {package}")
    if library.target != (fitting := widest()):
        sys.exit(f"the kernel uses {library.target}; this processor has {fitting}")
    share = max(worst(shape) for shape in SHAPES)
    if not share <= 1:
        sys.exit(f"SimAM is {share:.2f} of the tolerance from the formula")
    if sys.argv[1:2] == ["--doctor"]:
        ask_doctor(sys.argv[2])
    versions = f"Python {platform.python_version()}, ONNX Runtime {onnxruntime.__version__}"
    print(f"{versions}, {library.target} at {share:.2f} of tolerance")


def worst(shape: tuple[int, int, int, int]) -> float:
    """The distance between the kernel and the formula, as a share of the tolerance."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "block.onnx")
        onnx_file.save(alone("function", shape), file)
        with simam_deploy.open_session(file, "ort", kernel="require") as session:
            (y,) = session.run({"x": x}).values()
            use = session.kernel_use({"x": x})
    if (use.ran, use.of) != (1, 1):
        sys.exit(f"the kernel ran {use.ran} of {use.of} SimAM nodes: {use.why}")
    return float(np.max(np.abs(y - formula.reference(x)) / formula.tolerance(x, np.float32)))


def widest() -> str:
    """The widest kernel that the instructions of this processor allow, as the system lists them."""
    if platform.machine() != "x86_64":
        return "baseline"
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    return next((name for name, needed in WIDEST.items() if needed <= set(flags.split())), "baseline")


def ask_doctor(command: str) -> None:
    """Exit with its words unless `simam-deploy doctor` sees ONNX Runtime and the kernel library work."""
    done = subprocess.run([command, "doctor", "--json"], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"simam-deploy doctor ended with {done.returncode}: {done.stderr}")
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    for name in ("ort", "kernel library"):
        if not rows[name]["works"]:
            sys.exit(f"simam-deploy doctor says of {name}: {rows[name]['detail']}")


if __name__ == "__main__":
    main()
