"""Looks at the libraries that `make native-cuda-aarch64` made, and runs them under qemu.

    python plugins/check_aarch64.py build/native/jetson-cuda13 --cuda 13

That they are for AArch64, for which GPUs the code in them is, what they show and need, and that nothing is newer than
what JetPack 6 has (Ubuntu 22.04). The compilers are those in build/jetson. Exit status 1, with a line for each
disagreement.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
JETSON = ROOT / "build/jetson"
TOOL = f"{JETSON}/gcc/bin/aarch64-linux-gnu"
CUOBJDUMP = JETSON / "tools/nvidia/cu13/bin/cuobjdump"
NEWEST = {"GLIBC": (2, 35), "GLIBCXX": (3, 4, 30), "GCC": (12, 0)}  # of Ubuntu 22.04
SYSTEM = {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-aarch64.so.1"}
GPUS = {"12": {"sm_87"}, "13": {"sm_87", "sm_110"}}
OP_LIBRARY = {"RegisterCustomOps", "simam_version", "simam_target", "simam_machine", "simam_providers"}
# What each shows; and whether there are kernels in it.
LIBRARIES = {
    "simam_cuda": ({"simam_launch", "simam_accepts", "simam_workspace", "simam_prepare"}, True),
    "simam_tensorrt": ({"getCreators", "setLoggerFinder"}, True),
    "simam_onnxruntime_cuda": (OP_LIBRARY, True),
    "simam_onnxruntime": (OP_LIBRARY, False),
}


def main() -> None:
    """Look at each library, run them all, and say what is wrong."""
    parser = argparse.ArgumentParser(description="Looks at the libraries for Jetson.")
    parser.add_argument("build", type=Path)
    parser.add_argument("--cuda", choices=GPUS, required=True)
    parser.add_argument("--probe", type=Path, help="the program of plugins/tests/aarch64_probe.cpp")
    asked = parser.parse_args()
    wrong = []
    for name, (shown, kernels) in LIBRARIES.items():
        file = asked.build / f"lib{name}.so"
        if not file.exists():
            wrong.append(f"{file} was not built")
            continue
        gpus = GPUS[asked.cuda] if kernels else set()
        shared = {"libcudart.so.12"} if kernels and asked.cuda == "12" else set()
        wrong += [f"{file.name}: {what}" for what in disagreements(file, shown, gpus, shared)]
    if asked.probe and not wrong:
        wrong += run(asked.build, asked.probe, asked.cuda)
    sys.exit("\n".join(wrong) or 0)


def disagreements(file: Path, shown: set[str], gpus: set[str], shared: set[str]) -> Iterator[str]:
    """What is not as it has to be, and on the screen what is."""
    machine = re.findall(r"Machine: +(\w+)", _ask(f"{TOOL}-readelf", "-hW", file))
    needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", _ask(f"{TOOL}-readelf", "-dW", file)))
    exported = set(re.findall(r"GLOBAL +DEFAULT +\d+ (\S+)", _ask(f"{TOOL}-readelf", "--dyn-syms", "-W", file)))
    text = _ask(f"{TOOL}-readelf", "-VW", file)
    newest = {kind: found for kind in NEWEST if (found := versions(kind, text))}
    code = set(re.findall(r"\.(sm_\d+)\.cubin", _ask(CUOBJDUMP, "--list-elf", file))) if gpus else set()
    worst = ", ".join(f"{kind} {'.'.join(map(str, found))}" for kind, found in newest.items())
    print(f"{file.name}: {' '.join(machine)}; {' '.join(sorted(code)) or 'no GPU code'}; needs {worst}", end="; ")
    print(" ".join(sorted(needed)))
    if machine != ["AArch64"]:
        yield f"its machine is {machine}, not AArch64"
    if code != gpus:
        yield f"it has code for {sorted(code)}, not for {sorted(gpus)}"
    if exported != shown:
        yield f"it shows {sorted(exported)}, not {sorted(shown)}"
    for library in sorted(needed - SYSTEM - shared):
        yield f"it needs {library}, which a device need not have"
    for kind, found in newest.items():
        if found > NEWEST[kind]:
            yield f"it needs {kind} {found}; Ubuntu 22.04 has {NEWEST[kind]}"


def versions(kind: str, text: str) -> tuple[int, ...]:
    """The newest version of a library's symbols, as (2, 34); empty where there is none."""
    found = re.findall(rf"\b{kind}_(\d+(?:\.\d+)*)", text)
    return max((tuple(map(int, version.split("."))) for version in found), default=())


def run(build: Path, probe: Path, cuda: str) -> list[str]:
    """Load and call each library under qemu, and print what they say."""
    files = [str(build / f"lib{name}.so") for name in LIBRARIES]
    qemu: list[str | Path] = [JETSON / "qemu/usr/bin/qemu-aarch64-static", "-L", JETSON / "gcc/usr/aarch64-linux-gnu"]
    runtime = f"LD_LIBRARY_PATH={JETSON}/cuda{cuda}/lib64"
    done = subprocess.run([*qemu, "-E", runtime, probe, *files], capture_output=True, text=True, check=False)
    creators = re.findall(r"^creator (\S*)::(\S+) 1$", done.stdout, re.MULTILINE)
    print(f"qemu: {len(creators)} creators; {'; '.join(re.findall('^simam_.*', done.stdout, re.MULTILINE))}")
    if done.returncode:
        return [f"under qemu, exit status {done.returncode}: {done.stdout}{done.stderr}"]
    wanted = {(space, name) for space in ("", "simam") for name in operators()}
    if set(creators) != wanted:
        return [f"under qemu it has creators of {sorted(creators)}, not of {sorted(wanted)}"]
    return []


def operators() -> set[str]:
    """The names of the operators, as common/simam.h has them."""
    return set(re.findall(r'\{"(SimAM\w*)"', (ROOT / "plugins/common/simam.h").read_text()))


def _ask(*command: str | os.PathLike[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
