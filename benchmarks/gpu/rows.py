"""Rows of the speed table: type, layout, shape, operator and target."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.gpu.api import TYPES, Machine
from benchmarks.gpu.problem import PLAIN, group_of
from simam_deploy.formula import Op
from simam_deploy.native.cuda_library import ACTIVATIONS, TACTICS, Params

EPILOGUE = Op(True, True, "relu")
REGIMES = {"tiny": (7, 14, 20), "medium": (28, 56, 112), "large": (160, 224, 320), "huge": (640,)}
TARGETS = {"tiny": 0.85, "medium": 0.92, "large": 0.88, "huge": 0.85, "HWC8": 0.80, "int8": 0.60, "epilogue": 0.90}
"""At least this share of the copy's bandwidth."""
BATCH_1 = 1.3
"""At most so many times a copy of the same size, both in a graph."""
INT8_SCALES = (4 / 127, 4 / 90, 4 / 100)


@dataclass(frozen=True)
class SpeedRow:
    """shape : (N, C, H, W). N = 0 means as many images as fill the given memory, see `filled`."""

    regime: str
    type: str
    layout: str
    shape: tuple[int, int, int, int]
    op: Op = PLAIN

    @property
    def name(self) -> str:
        """As in `medium f16 NCHW 56x56`."""
        images, channels, height, width = self.shape
        size = f"{height}x{width}" if self.regime != "batch 1" else f"{images}x{channels}x{height}x{width}"
        return f"{self.regime} {self.type} {self.layout} {size}"

    @property
    def target(self) -> float:
        """A share of the copy's bandwidth; of batch 1, a multiple of its time."""
        return BATCH_1 if self.regime == "batch 1" else TARGETS[self.regime]

    def meets(self, figure: float) -> bool:
        """Whether the figure is as good as the target."""
        return figure <= self.target if self.regime == "batch 1" else figure >= self.target

    def filled(self, size: int) -> SpeedRow:
        """Set N so that x has about `size` bytes, unless N is given."""
        if self.shape[0]:
            return self
        image = math.prod(self.shape[1:]) * TYPES[self.type].itemsize
        return SpeedRow(self.regime, self.type, self.layout, (-(-size // image), *self.shape[1:]), self.op)


def all_rows() -> list[SpeedRow]:
    """The ones that matter most come first: the time may not do for all."""
    rows = [*_planes("f16"), *_epilogues("f16"), *_batch_1(), *_planes("f32"), *_planes("bf16"), *_planes("s8")]
    rows += [SpeedRow("HWC8", "bf16", "HWC8", (0, 256, n, n)) for n in (14, 28, 56)]
    rows += [
        SpeedRow("int8", "s8", layout, (0, 256, n, n)) for layout in ("HWC16", "CHW32", "CHW4") for n in (28, 56)
    ]
    rows += [
        SpeedRow("epilogue", type, "NCHW", (0, 256, n, n), EPILOGUE) for type in ("f32", "bf16") for n in (14, 56)
    ]
    return rows


def _planes(type: str) -> Iterator[SpeedRow]:
    for regime, sizes in REGIMES.items():
        for n in sizes:
            channels = 512 if n < 28 else 256 if n < 160 else 64
            yield SpeedRow("int8" if type == "s8" else regime, type, "NCHW", (0, channels, n, n))


def _epilogues(type: str) -> Iterator[SpeedRow]:
    for n in (7, 14, 28, 56, 112, 224):
        yield SpeedRow("HWC8", type, "HWC8", (0, 512 if n < 28 else 256 if n < 112 else 64, n, n))
    for n in (7, 14, 28, 56, 112, 224):
        yield SpeedRow("epilogue", type, "NCHW", (0, 512 if n < 28 else 256 if n < 112 else 64, n, n), EPILOGUE)


def _batch_1() -> Iterator[SpeedRow]:
    for channels, n in ((512, 7), (2048, 7), (256, 14), (128, 28), (64, 56), (256, 56), (256, 80), (64, 160)):
        yield SpeedRow("batch 1", "f16", "NCHW", (1, channels, n, n))
    yield SpeedRow("batch 1", "f32", "NCHW", (1, 64, 56, 56))
    yield SpeedRow("batch 1", "f16", "HWC8", (1, 64, 56, 56))
    yield SpeedRow("batch 1", "f16", "NCHW", (1, 64, 56, 56), EPILOGUE)


class Filled:
    """Memory for a row: x, y and, for an epilogue, a residual. Random numbers; lay-outs without padding only."""

    def __init__(self, machine: Machine, row: SpeedRow, seed: int, tactic: str = "automatic") -> None:
        self.row = row
        images, channels, height, width = row.shape
        group = group_of(row.layout, channels)
        assert channels % group == 0, f"{row.name} has padding"
        generator = torch.Generator(machine.device).manual_seed(seed)
        count = math.prod(row.shape)
        self.x = _random(machine, row.type, count, generator)
        self.y = torch.full_like(self.x, 0 if row.type == "s8" else math.nan)
        self.residual = _random(machine, row.type, count, generator) if row.op.residual else None
        self.scale = torch.rand(channels, generator=generator, device=machine.device) + 0.5
        self.bias = torch.rand(channels, generator=generator, device=machine.device) - 0.5
        self.params = Params(
            type=list(TYPES).index(row.type),
            activation=ACTIVATIONS.index(row.op.activation),
            tactic=TACTICS.index(tactic),
            group=group,
            x=self.x.data_ptr(),
            y=self.y.data_ptr(),
            residual=None if self.residual is None else self.residual.data_ptr(),
            scale=self.scale.data_ptr() if row.op.affine else None,
            bias=self.bias.data_ptr() if row.op.affine else None,
            images=images,
            channels=channels,
            pixels=height * width,
            e_lambda=1e-4,
            x_scale=INT8_SCALES[0],
            residual_scale=INT8_SCALES[1],
            y_scale=INT8_SCALES[2],
        )
        self.set_tactic(machine, tactic)

    def set_tactic(self, machine: Machine, tactic: str) -> bool:
        """Another tactic, and the workspace for it. False: it does not accept this."""
        self.params.tactic = TACTICS.index(tactic)
        size = machine.kernels.workspace(self.params)
        self._workspace = torch.empty(size + 16, dtype=torch.uint8, device=machine.device)
        self.params.workspace = self._workspace.data_ptr() + (-self._workspace.data_ptr() % 16)
        self.params.workspace_size = size
        return machine.kernels.accepts(self.params)

    @property
    def size(self) -> int:
        """Bytes of x."""
        return self.x.numel() * self.x.element_size()

    @property
    def mandatory(self) -> int:
        """Bytes that must be moved: each input once, and y."""
        return self.size * (3 if self.residual is not None else 2)

    def as_torch(self, flat: Tensor) -> Tensor:
        """x, y or the residual as PyTorch has it, (N, C, H, W): a view."""
        images, channels, height, width = self.row.shape
        if self.row.layout == "NCHW":
            return flat.view(self.row.shape)
        group = group_of(self.row.layout, channels)
        apart = flat.view(images, channels // group, height, width, group).permute(0, 1, 4, 2, 3)
        return apart.reshape(self.row.shape) if channels != group else apart.view(self.row.shape)


def _random(machine: Machine, type: str, count: int, generator: torch.Generator) -> Tensor:
    if type == "s8":
        return torch.randint(-128, 128, (count,), generator=generator, device=machine.device, dtype=torch.int8)
    return torch.randn(count, generator=generator, device=machine.device, dtype=TYPES[type])
