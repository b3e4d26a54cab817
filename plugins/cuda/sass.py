"""Properties of the compiled kernels, read from the objects: one row for each kernel and architecture.

The text is that of NVIDIA's cuobjdump, which is fetched from PyPI with nvdisasm: no toolkit's wheels have the two.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MODES = ("whole", "cluster", "moments", "gate")
TEAMS = ("lanes", "block")
BYTES = {"F32": 4, "F16": 2, "BF16": 2, "S8": 1}
THREADS = {"planes": 640, "tiles": 512, "lanes": 128}  # the most of a block, as kernels.cu bounds them

# entry<Planes<Vectors<F16>, 7, Team::block, Mode::whole, false>>, as the linker calls it
_ENTRY = re.compile(
    r"entryINS\d*_\d+(?:(?P<shape>Planes|Tiles)INS\d*_\d+(?P<access>Vectors|Elements)INS\d*_\d+(?P<format>F32|F16|BF16|S8)EE"
    r"|(?P<small>Small)INS\d*_\d+(?P<of>F32|F16|BF16|S8))E"
    r"Li(?P<held>\d+)E(?:LNS\d*_4TeamE(?P<team>\d)E)?(?:LNS\d*_4ModeE(?P<mode>\d)E)?(?:Lb(?P<aligned>[01])E)?"
    r"Lb(?P<epilogue>[01])E"
)


@dataclass(frozen=True, order=True)
class Kernel:
    """One instance of entry<> in kernels.cu; `wide`: 16 bytes at a time."""

    format: str
    shape: str
    wide: bool
    held: int  # chunks in a thread's registers
    team: str  # of planes
    mode: str
    epilogue: bool

    def __str__(self) -> str:
        access = "wide" if self.wide else "narrow"
        parts = (self.format, self.shape, access, str(self.held), self.team, self.mode, "epilogue" * self.epilogue)
        return " ".join(filter(None, parts))

    @property
    def threads(self) -> int:
        """Of a block, at most."""
        return THREADS["lanes" if self.shape == "small" or self.team == "lanes" else self.shape]

    @property
    def elements(self) -> int:
        """Elements in a thread's registers."""
        return self.held * (16 // BYTES[self.format] if self.wide and self.shape != "small" else 1)


@dataclass
class Measured:
    """A kernel for one architecture. `mnemonics`: how often each instruction is in it, padding left out."""

    kernel: Kernel
    arch: int
    registers: int = 0
    stack: int = 0  # bytes of a thread in local memory: spills and arrays
    shared: int = 0  # bytes of a block, those of the launch not counted
    mnemonics: dict[str, int] = field(default_factory=dict)

    def count(self, pattern: str) -> int:
        """How many instructions begin like this."""
        like = re.compile(pattern)
        return sum(number for name, number in self.mnemonics.items() if like.match(name))

    @property
    def instructions(self) -> int:
        """All of them, loops and rare paths once."""
        return sum(self.mnemonics.values())

    @property
    def per_element(self) -> float:
        """Instructions of a thread per element that it holds."""
        return self.instructions / self.kernel.elements


def kernel_of(symbol: str) -> Kernel:
    """The kernel of a linker's name. ValueError if it is none."""
    found = _ENTRY.search(symbol)
    if found is None:
        raise ValueError(f"{symbol} is no entry of kernels.cu; say in sass.py what it is")
    small = found["small"] is not None
    return Kernel(
        format=found["of"] if small else found["format"],
        shape="small" if small else found["shape"].lower(),
        wide=found["aligned"] == "1" if small else found["access"] == "Vectors",
        held=int(found["held"]),
        team=TEAMS[int(found["team"])] if found["team"] else "",
        mode=MODES[int(found["mode"])] if found["mode"] else "",
        epilogue=found["epilogue"] == "1",
    )


def read_usage(lines: Iterator[str]) -> Iterator[Measured]:
    """Of `cuobjdump -res-usage`: registers and memory."""
    arch, kernel = 0, None
    for line in lines:
        if found := re.match(r"arch = sm_(\d+)", line):
            arch = int(found[1])
        elif found := re.match(r"\s*Function (\S+):", line):
            kernel = kernel_of(found[1])
        elif kernel and (found := re.match(r"\s*REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", line)):
            registers, stack, shared, local = map(int, found.groups())
            yield Measured(kernel, arch, registers, stack + local, shared)
            kernel = None


def read_code(lines: Iterator[str]) -> Iterator[tuple[Kernel, int, Counter[str]]]:
    """Of `cuobjdump -sass`: the instructions of each kernel for each architecture."""
    instruction = re.compile(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)")
    arch, kernel, mnemonics = 0, None, Counter[str]()
    for line in lines:
        if found := instruction.match(line):
            if found[1] != "NOP":
                mnemonics[found[1]] += 1
        elif found := re.match(r"\s*(?:Function : (\S+)|code for sm_(\d+))", line):
            if kernel:
                yield kernel, arch, mnemonics
            mnemonics = Counter()
            kernel = kernel_of(found[1]) if found[1] else None
            arch = int(found[2]) if found[2] else arch
    if kernel:
        yield kernel, arch, mnemonics


def measure(objects: list[Path], tools: Path) -> list[Measured]:
    """All kernels in nvcc's objects; `tools`: the folder of cuobjdump and nvdisasm."""
    rows: dict[tuple[Kernel, int], Measured] = {}
    for path in objects:
        for row in read_usage(dump(tools, "-res-usage", path)):
            rows[row.kernel, row.arch] = row
        for kernel, arch, mnemonics in read_code(dump(tools, "-sass", path)):
            rows[kernel, arch].mnemonics = dict(mnemonics)
    return sorted(rows.values(), key=lambda row: (row.kernel, row.arch))


def dump(tools: Path, what: str, path: Path) -> Iterator[str]:
    """Lines of cuobjdump, which finds nvdisasm on the PATH."""
    path_of_tools = f"{tools}{os.pathsep}{os.environ.get('PATH', '')}"
    command = [str(tools / "cuobjdump"), what, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PATH": path_of_tools}) as p:
        assert p.stdout is not None
        yield from p.stdout
    if p.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit status {p.returncode}")
