"""Looks at the kernels as nvcc compiled them, for all architectures, and says what is worse than it may be.

    python plugins/cuda/check.py build/native/cuda --tools build/cuda-tools/nvidia/cu13/bin [--update]

Two things are compared: rules.py, which says what must hold of any build, and budget.tsv, which says what each kernel
took of registers, bytes and instructions when it was last looked at, the worst of the architectures. --update writes
that file anew; its difference is then to be read. Exit status 1 if anything is worse.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import ptx
import rules
from ptx import Written
from rules import Finding
from sass import Kernel, Measured, dump, measure

HERE = Path(__file__).parent
BUDGET = HERE / "budget.tsv"
ARCHITECTURES = {75, 80, 86, 87, 89, 90, 100, 110, 120}
GENERATIONS = (75, 80, 90, 100)  # which the compiler is run for; each with the architectures up to the next
COLUMNS = ("registers", "stack", "shared", *(f"instructions/element {generation}" for generation in GENERATIONS))


@dataclass
class Build:
    """Compiled kernels."""

    nvcc: str  # its version
    code: list[Measured]
    ptx: list[Written]


Limits = dict[str, tuple[float, ...]]  # of a kernel's name, as COLUMNS


def main() -> None:
    """Parse, measure, compare, and say it."""
    parser = argparse.ArgumentParser(description="Check the compiled CUDA kernels against their budget.")
    parser.add_argument("build", type=Path)
    parser.add_argument("--tools", type=Path, required=True, help="the folder of cuobjdump and nvdisasm")
    parser.add_argument("--update", action="store_true", help="write budget.tsv as the build is")
    asked = parser.parse_args()
    if not asked.update:
        budget_here()  # before it is measured, which takes minutes
    build = look(asked.build, asked.tools)
    if asked.update:
        BUDGET.write_text(write_budget(build))
    version, limits = budget_here()
    print(table(build))
    worse = judge(build, version, limits)
    print("\n".join(["", *report(worse)]) if worse else f"{len(build.code)} kernels are as they should be")
    if version != build.nvcc:
        print(f"budget.tsv is of nvcc {version}, this is {build.nvcc}: only the rules were checked")
    sys.exit(1 if worse else 0)


def look(folder: Path, tools: Path) -> Build:
    """Kernels compiled below `folder`. Measured once, and stored in kernels.json beside the objects."""
    objects = sorted(folder.glob("cuda/**/kernels.cu.o"))
    if not objects:
        raise SystemExit(f"no kernels.cu.o below {folder}; `make native-cuda` makes them")
    kept = folder / "kernels.json"
    newest = max(path.stat().st_mtime for path in [*objects, HERE / "sass.py", HERE / "ptx.py"])
    if not kept.exists() or kept.stat().st_mtime < newest:
        compiler = next(folder.glob("CMakeFiles/*/CMakeCUDACompiler.cmake")).read_text()
        found = re.search(r'CMAKE_CUDA_COMPILER_VERSION "(\d+\.\d+)', compiler)
        assert found is not None
        text = "".join(line for path in objects for line in dump(tools, "-ptx", path))
        kept.write_text(to_json(Build(found[1], measure(objects, tools), list(ptx.read_ptx(text)))))
    return from_json(kept.read_text())


def to_json(build: Build) -> str:
    """See from_json."""
    return json.dumps(asdict(build))


def from_json(text: str) -> Build:
    """The Build that to_json wrote."""
    read = json.loads(text)
    for row in [*read["code"], *read["ptx"]]:
        row["kernel"] = Kernel(**row["kernel"])
    return Build(read["nvcc"], [Measured(**row) for row in read["code"]], [Written(**row) for row in read["ptx"]])


def judge(build: Build, version: str, limits: Limits) -> list[Finding | str]:
    """All that is worse than it may be. `limits` are of nvcc `version`: another one's build is not held to them."""
    worse: list[Finding | str] = [finding for row in build.code for finding in rules.findings(row)]
    worse += [finding for written in build.ptx for finding in rules.findings_in_ptx(written)]
    worse += _missing(build)
    if version != build.nvcc:
        return worse
    named = {str(row.kernel) for row in build.code}
    worse += [f"{name}: not in budget.tsv; look at it, then --update" for name in sorted(named - limits.keys())]
    worse += [f"{name}: in budget.tsv and in no object; --update" for name in sorted(limits.keys() - named)]
    for row in build.code:
        for what, got, most in zip(COLUMNS, numbers(row), limits.get(str(row.kernel), ()), strict=False):
            if got > most:
                worse.append(Finding(row.kernel, row.arch, what, got, f"{most:g}"))
    return worse


def _missing(build: Build) -> list[str]:
    """Each kernel is there for all architectures, and in PTX."""
    wrong = []
    have = {(row.kernel, row.arch) for row in build.code}
    written = {row.kernel for row in build.ptx}
    for kernel in sorted({kernel for kernel, _ in have}):
        wrong += [
            f"{kernel}: not compiled for sm_{arch}" for arch in sorted(ARCHITECTURES) if (kernel, arch) not in have
        ]
        if kernel not in written:
            wrong.append(f"{kernel}: not in the PTX")
    return wrong


def numbers(row: Measured) -> tuple[float, ...]:
    """Budget of a kernel, as COLUMNS; instructions rounded up to tenths, 0 for other generations."""
    own = max(generation for generation in GENERATIONS if generation <= row.arch)
    per_element = math.ceil(10 * row.per_element) / 10
    each = (per_element if generation == own else 0 for generation in GENERATIONS)
    return row.registers, row.stack, row.shared, *each


def worst(build: Build) -> Limits:
    """Of each kernel the most over the architectures."""
    most: Limits = {}
    for row in build.code:
        name = str(row.kernel)
        most[name] = tuple(map(max, numbers(row), most.get(name, numbers(row))))
    return most


def write_budget(build: Build) -> str:
    """A budget that `build` just meets."""
    head = f"# nvcc {build.nvcc}; the most over {', '.join(f'sm_{arch}' for arch in sorted(ARCHITECTURES))}\n"
    lines = ["\t".join([name, *(f"{number:g}" for number in row)]) for name, row in worst(build).items()]
    return head + "\n".join(["\t".join(["kernel", *COLUMNS]), *lines]) + "\n"


def budget_here() -> tuple[str, Limits]:
    """Read budget.tsv. Raises SystemExit with file, line and remedy if it is invalid."""
    try:
        return read_budget(BUDGET.read_text())
    except (OSError, ValueError) as error:
        raise SystemExit(
            f"{BUDGET}: {error}; `make native-cuda-budget` writes it anew, git has the last one"
        ) from error


def read_budget(text: str) -> tuple[str, Limits]:
    """nvcc's version, and the limits of each kernel. Raises ValueError with the line that is wrong."""
    lines = text.splitlines()
    version = re.match(r"# nvcc (\d+\.\d+);", lines[0]) if lines else None
    if version is None:
        raise ValueError(f"line 1 is to be `# nvcc 13.0; ...`, it is {lines[0]!r}" if lines else "it is empty")
    names = ["kernel", *COLUMNS]
    limits: Limits = {}
    for number, line in enumerate(lines[1:], 2):
        name, *cells = line.split("\t")
        if number == 2:
            if [name, *cells] != names:
                raise ValueError(f"line 2 is to name the columns {', '.join(names)}; it is {line!r}")
        elif len(cells) != len(COLUMNS) or not all(re.fullmatch(r"\d+(\.\d+)?", cell) for cell in cells):
            raise ValueError(f"line {number} is to be a kernel and {len(COLUMNS)} numbers; it is {line!r}")
        elif name in limits:
            raise ValueError(f"line {number} is the second of {name}")
        else:
            limits[name] = tuple(map(float, cells))
    if not limits:
        raise ValueError("there is no kernel in it")
    if not text.endswith("\n"):
        raise ValueError(f"line {len(lines)} is cut off")
    return version[1], limits


def report(worse: list[Finding | str]) -> list[str]:
    """A line for each finding, the architectures with the same number in one."""
    lines: dict[tuple[str, str], list[int]] = {}
    for each in worse:
        if isinstance(each, Finding):
            lines.setdefault((f"{each.kernel}: {each.what}", f"{each.got:g}, allowed {each.allowed}"), []).append(
                each.arch
            )
        else:
            lines[each, ""] = []
    return [
        f"{what}: {number} (sm_{', '.join(map(str, archs))})" if archs else what
        for (what, number), archs in lines.items()
    ]


def table(build: Build) -> str:
    """Of each kind of kernel, how much it takes at most."""
    kinds: dict[tuple[str, ...], list[Measured]] = {}
    for row in build.code:
        kernel = row.kernel
        kinds.setdefault((kernel.format, kernel.shape, "wide" if kernel.wide else "narrow"), []).append(row)
    lines = [f"{'':20}{'kernels':>8}{'registers':>11}{'stack':>7}{'calls':>7}{'instructions/element':>22}"]
    for kind, rows in kinds.items():
        per = [row.per_element for row in rows if row.arch >= 90 or row.kernel.mode != "cluster"]
        lines.append(
            f"{' '.join(kind):20}{len({row.kernel for row in rows}):8}{max(row.registers for row in rows):11}"
            f"{max(row.stack for row in rows):7}{max(row.count('CALL') for row in rows):7}"
            f"{min(per):13.1f} to {max(per):5.1f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
