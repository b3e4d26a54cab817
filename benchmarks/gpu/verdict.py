"""Parts of the checks: sizes, inputs, and the verdict on a case."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.gpu import reference
from benchmarks.gpu.api import TYPES, Machine
from benchmarks.gpu.problem import OPS, Run, Values, Way
from simam_deploy.formula import Op
from simam_deploy.native.cuda_library import TACTICS

Shape = tuple[int, int]


@dataclass(frozen=True)
class Sizes:
    """Sizes of the checks. few : shapes for checks that do not need all.  every : numbers of pixels."""

    shapes: Sequence[Shape]
    ops: Sequence[Op]
    few: tuple[Shape, ...]
    every: Sequence[int]
    small: bool = False

    @property
    def pairs(self) -> Sequence[tuple[str, str]]:
        """Types and layouts: each with each, or each once."""
        each = tuple(itertools.product(TYPES, ("NCHW", "HWC8")))
        return each[::3] if self.small else each  # 8 by 3: of both layouts, and of three types

    def planes(self, shape: Shape) -> tuple[int, int]:
        """(N, C): more planes than a GPU has multiprocessors, unless that is too much memory."""
        if self.small:
            return (2, 9) if math.prod(shape) < 100 else (1, 3)
        return (2, 13) if math.prod(shape) > 110_000 else (2, 70)


_SQUARES = (14, 20, 28, 56, 112, 160, 223, 224, 320, 640)
FULL = Sizes(
    ((1, 2), (7, 7), *((n, n) for n in _SQUARES[:1]), (15, 17), *((n, n) for n in _SQUARES[1:])),
    OPS,
    ((7, 7), (15, 17), (28, 28), (56, 56), (160, 160)),
    range(2, 1100),
)
SMALL = Sizes(
    ((1, 2), (7, 7), (15, 17), (24, 32)), (OPS[0], OPS[5], OPS[3]), ((7, 7), (24, 32)), range(2, 600, 37), True
)
"""For the emulator: seconds."""


@dataclass(frozen=True)
class Verdict:
    """share : the error over what is allowed.  why : what is wrong beside it; empty if nothing."""

    name: str
    share: float
    why: str = ""

    @property
    def ok(self) -> bool:
        """Within bounds, and nothing else wrong."""
        return self.share <= 1 and not self.why


class Skipped(Exception):
    """A check cannot run here; the text says why."""


Check = Callable[[Machine, Sizes], Iterator[Verdict]]


def normal(machine: Machine, shape: Sequence[int], seed: int, mean: float = 0.0, spread: float = 1.0) -> Tensor:
    """(N, C, M) float64."""
    generator = torch.Generator(machine.device).manual_seed(seed)
    x = torch.randn(*shape, generator=generator, device=machine.device, dtype=torch.float64)
    return mean + spread * x


def judge(run: Run, name: str, exact: Tensor | None = None) -> Verdict:
    """Launch once and compare. exact : simam of x, if known."""
    of, op = run.of, run.way.op
    if error := run.launch():
        return Verdict(name, 0.0, f"simam_launch gives error {error}")
    run.machine.synchronize()
    return compare(run, name, reference.simam(of.x, of.e_lambda) if exact is None else exact, op)


def compare(run: Run, name: str, exact: Tensor, op: Op) -> Verdict:
    """Compare the output after a launch."""
    share = reference.worst(run.of, reference.expect(run.of, op, exact), run.result())
    return Verdict(name, share, run.harm())


def judge_tactics(machine: Machine, of: Values, way: Way, name: str) -> Iterator[Verdict]:
    """Each tactic that takes it; automatic and split take everything."""
    exact = reference.simam(of.x, of.e_lambda)
    for tactic in TACTICS:
        run = Run(machine, of, way.with_tactic(tactic))
        title = f"{name} {way.op} {tactic}"
        if run.accepted:
            yield judge(run, title, exact)
        elif tactic in ("automatic", "split"):
            yield Verdict(title, 0.0, "it does not accept this shape")


def name_of(type: str, layout: str, of: Values) -> str:
    """As in `f16 NCHW 2x70x49`."""
    return f"{type} {layout} {'x'.join(map(str, of.x.shape))}"
