"""Rules for every compiled kernel, independent of its budget.

The kernels that reach memory in vectors move x, the residual and y 16 bytes at a time and no other way, keep them in
registers, call nothing, and take the special functions that the formula has. `float16` and the like below count
instructions of one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ptx import Written
from sass import BYTES, Kernel, Measured

# Instructions per element of the kernels that large tensors take, by format.
CEILING = {"F32": 22.0, "F16": 18.0, "BF16": 18.0, "S8": 18.0}
CEILING_OF_75 = {**CEILING, "F16": 19.0, "BF16": 25.0}  # Turing cannot round two at once, nor bfloat16 at all
MOST_HELD = {"F32": 13, "F16": 7, "BF16": 7, "S8": 3}  # of plan.h
BATCH = 4  # of small.h
FEW_RECIPROCALS = 12  # of a plane and of whole-number divisions: once per thread, not per element
TRAP = 32  # instructions of a kernel that its architecture cannot have; sm_87 begins each with 20 of its own


@dataclass(frozen=True)
class Finding:
    """Something that a kernel has too much of, or not as much of as it must."""

    kernel: Kernel
    arch: int
    what: str
    got: float
    allowed: str

    def __str__(self) -> str:
        return f"{self.kernel}, sm_{self.arch}: {self.what}: {self.got:g}, allowed {self.allowed}"


def findings(row: Measured) -> Iterator[Finding]:
    """Violations of a kernel for one architecture."""
    for what, got, least, most in _rules(row):
        if not least <= got <= most:
            allowed = f"{most:g}" if least in (0, most) else f"{least:g} to {most:g}"
            yield Finding(row.kernel, row.arch, what, got, allowed)


def _rules(row: Measured) -> Iterator[tuple[str, float, float, float]]:
    """Each rule of the kernel: what is counted, the number, the least and the most of it."""
    kernel, count = row.kernel, row.count
    if kernel.mode == "cluster" and row.arch < 90:
        yield "instructions where there are no clusters", row.instructions, 1, TRAP
        return
    barriers = count("UCGABAR")
    yield "cluster barriers", barriers, *((2, 8) if kernel.mode == "cluster" else (0, 0))
    if not kernel.wide:
        return
    yield "bytes of stack", row.stack, 0, 0
    yield "accesses of local memory (LDL, STL)", count("LDL|STL"), 0, 0
    # Without a RET it is no call: sm_80 leaves a loop in front of a barrier by one.
    yield "calls", count("CALL") if count("RET") else 0, 0, 0
    yield "narrow accesses of x or y", count(r"(LDG|STG)\S*\.[US](8|16)\b"), 0, 0
    yield "stores of less than 16 bytes", count(r"STG(?!.*\.128)"), 0, 0
    yield from _moved(row)
    yield from _special(row)
    if (kernel.shape, kernel.mode, kernel.epilogue) == ("planes", "whole", False) and kernel.held == MOST_HELD[
        kernel.format
    ]:
        yield (
            "instructions per element",
            round(row.per_element, 2),
            0,
            (CEILING_OF_75 if row.arch < 80 else CEILING)[kernel.format],
        )


def _moved(row: Measured) -> Iterator[tuple[str, float, float, float]]:
    """Violations in global memory access. Streamed data is loaded past L1 (NA); parameters and workspace are not."""
    kernel, count = row.kernel, row.count
    operands = 2 if kernel.epilogue else 1  # x, and the residual
    streamed, stored = count(r"LDG.*\.NA.*\.128"), count(r"STG.*\.128")
    if kernel.shape == "small":  # a loop, which nvcc may unroll
        yield "vectors loaded, but for whole batches", streamed % (BATCH * operands), 0, 0
    else:
        yield "vectors loaded", streamed, *2 * (kernel.held * operands,)
        # moments: one thread stores one to the workspace
        yield "vectors stored", stored, *2 * (1 if kernel.mode == "moments" else kernel.held,)
    if kernel.mode != "gate":
        yield "vectors loaded into L1", count(r"LDG(?!.*\.NA).*\.128"), 0, 0
    channels = 16 // BYTES[kernel.format] if kernel.shape == "tiles" else 1
    if kernel.shape == "tiles" and channels > 8:
        channels *= kernel.held  # not kept in registers
    # scale and bias of each channel; of the workspace, the first part's mean
    most = (2 * channels if kernel.epilogue else 0) + (kernel.mode == "gate")
    yield "loads of single floats", count(r"LDG(?!.*\.(128|64))"), 0, most


def _special(row: Measured) -> Iterator[tuple[str, float, float, float]]:
    """MUFU: a tanh, or an ex2 and a rcp, for each element's gate, and an ex2 and a rcp for SiLU."""
    kernel, count = row.kernel, row.count
    elements = 0 if kernel.mode == "moments" else kernel.elements
    if kernel.shape == "small":
        elements += 1  # one more at a time, of what no run has
    exact = kernel.format == "F32"
    tanh = 0 if exact else elements
    ex2 = elements * (exact + kernel.epilogue)
    got = count(r"MUFU\.TANH")
    copies = 1
    if kernel.shape == "small" and elements:  # nvcc may peel its loop: whole copies of it
        copies = max(1, (count(r"MUFU\.EX2") if exact else got) // (ex2 if exact else tanh))
    yield "MUFU.TANH", got, *2 * (copies * tanh,)
    yield "MUFU.EX2", count(r"MUFU\.EX2"), *2 * (copies * ex2,)
    yield "MUFU.RCP", count(r"MUFU\.RCP"), copies * ex2, copies * ex2 + FEW_RECIPROCALS
    yield "other MUFU", count(r"MUFU\.(?!TANH|EX2|RCP)"), 0, 0


def findings_in_ptx(written: Written) -> Iterator[Finding]:
    """Violations of a kernel in PTX."""
    kernel = written.kernel
    rules: list[tuple[str, float, float, float]] = [
        ("PTX: threads of a block", written.threads, *2 * (kernel.threads,)),
        ("PTX: ld.global.nc", written.non_coherent, 0, 0),
        ("PTX: instructions of clusters", written.cluster, *((3, 64) if kernel.mode == "cluster" else (0, 0))),
    ]
    if kernel.wide:
        rules += [("PTX: .local", written.local, 0, 0), ("PTX: calls", written.calls, 0, 0)]
    for what, got, least, most in rules:
        if not least <= got <= most:
            allowed = f"{most:g}" if least in (0, most) else f"{least:g} to {most:g}"
            yield Finding(kernel, written.target, what, got, allowed)
