"""A problem for a kernel: real values in (N, C, M), and how they lie in memory, between guards.

M = H * W. Values are float64 tensors on the device that the kernel runs on, exactly what the type holds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.api import TYPES, Machine
from simam_deploy import formula
from simam_deploy.formula import Op
from simam_deploy.native.cuda_library import ACTIVATIONS, TACTICS, Params

GUARD = 256
"""Bytes on either side of what a kernel may touch."""
LAYOUTS = ("NCHW", "HWC8", "HWC16", "CHW32", "CHW4")
GUARDED = {"in": 0xFF, "out": 0x5A}
"""Fill of the guards: NaN around inputs, a number around outputs."""


PLAIN = Op()
OPS = (*formula.OPS.values(), Op(False, True), Op(False, False, "silu"))
"""The operators in files, and two more that the kernels support."""


@dataclass(frozen=True)
class Values:
    """Inputs. x, residual : (N, C, M); scale, bias : (C,) float32. The scales of int8 are float32."""

    type: str
    x: Tensor
    residual: Tensor
    scale: Tensor
    bias: Tensor
    e_lambda: float = 1e-4
    x_scale: float = 1.0
    residual_scale: float = 1.0
    y_scale: float = 1.0


def values(type: str, x: Tensor, seed: int, e_lambda: float = 1e-4) -> Values:
    """x rounded to what the type holds, and those beside it of its size."""
    generator = torch.Generator(x.device).manual_seed(seed)

    def spread(*shape: int) -> Tensor:
        return 2 * torch.rand(*shape, generator=generator, device=x.device, dtype=torch.float64) - 1

    most = float(x[x.isfinite()].abs().max())
    scales = [float(np.float32(most / part)) for part in (127, 90, 100)] if type == "s8" else [1.0] * 3
    channels = x.shape[1]
    return Values(
        type,
        held(type, x, scales[0]),
        held(type, most * spread(*x.shape), scales[1]),
        (2 * spread(channels)).float(),
        (most * spread(channels)).float(),
        float(np.float32(e_lambda)),
        *scales,
    )


def held(type: str, x: Tensor, scale: float) -> Tensor:
    """x as the type holds it."""
    return decode(type, encode(type, x, scale), scale)


def encode(type: str, x: Tensor, scale: float) -> Tensor:
    """As the type's elements; int8 is x / scale, rounded and clipped."""
    if type == "s8":
        return (x / scale).round().clamp(-128, 127).to(torch.int8)
    return x.to(TYPES[type])


def decode(type: str, elements: Tensor, scale: float) -> Tensor:
    """The real values, float64."""
    return elements.double() * scale if type == "s8" else elements.double()


def group_of(layout: str, channels: int) -> int:
    """How many channels lie side by side."""
    return {
        "NCHW": 1,
        "HWC8": (channels + 7) // 8 * 8,
        "HWC16": (channels + 15) // 16 * 16,
        "CHW32": 32,
        "CHW4": 4,
    }[layout]


def lay_out(elements: Tensor, group: int) -> Tensor:
    """(N, C, M) in its memory layout, flat. Padding channels hold bytes of 255, which are NaN."""
    images, channels, pixels = elements.shape
    if group == 1:
        return elements.reshape(-1)
    groups = -(-channels // group)
    size = elements.element_size()
    raw = torch.full((images * groups * group * pixels * size,), 255, dtype=torch.uint8, device=elements.device)
    room = raw.view(elements.dtype).view(images, groups * group, pixels)
    room[:, :channels] = elements
    return room.view(images, groups, group, pixels).permute(0, 1, 3, 2).reshape(-1)


def take_up(flat: Tensor, images: int, channels: int, pixels: int, group: int) -> tuple[Tensor, Tensor]:
    """Inverse of `lay_out`: (N, C, M), and the padding."""
    if group == 1:
        return flat.view(images, channels, pixels), flat[:0]
    groups = -(-channels // group)
    back = flat.view(images, groups, pixels, group).permute(0, 1, 3, 2).reshape(images, groups * group, pixels)
    return back[:, :channels], back[:, channels:]


class Guarded:
    """Memory between guards, `offset` bytes behind a multiple of 256."""

    def __init__(self, size: int, offset: int, fill: int, device: torch.device) -> None:
        room = size + offset + 3 * GUARD
        self._raw = torch.full((room,), fill, dtype=torch.uint8, device=device)
        self._fill = fill
        self._first = GUARD + (-self._raw.data_ptr() - GUARD) % GUARD + offset
        self._last = self._first + size
        self.address = self._raw.data_ptr() + self._first

    @property
    def bytes(self) -> Tensor:
        """(size,) uint8, a view."""
        return self._raw[self._first : self._last]

    def as_type(self, type: str) -> Tensor:
        """A copy, as elements."""
        return self.bytes.clone().view(TYPES[type])

    def put(self, elements: Tensor) -> None:
        """Write all of it."""
        self.bytes.copy_(elements.reshape(-1).view(torch.uint8))

    def intact(self) -> bool:
        """Nothing was written around it."""
        around = torch.cat([self._raw[: self._first], self._raw[self._last :]])
        return bool((around == self._fill).all())


@dataclass(frozen=True)
class Way:
    """How it is run. offsets : of x, y and residual, in bytes.  output : apart, on x or on residual."""

    layout: str = "NCHW"
    tactic: str = "automatic"
    op: Op = PLAIN
    offsets: tuple[int, int, int] = (0, 0, 0)
    output: str = "apart"

    def with_tactic(self, tactic: str) -> Way:
        """The same by another tactic."""
        return replace(self, tactic=tactic)


class Run:
    """Memory for one way of running one problem; `launch` as often as one likes."""

    def __init__(self, machine: Machine, of: Values, way: Way) -> None:
        self.machine, self.of, self.way = machine, of, way
        self.images, self.channels, self.pixels = of.x.shape
        self.group = group_of(way.layout, self.channels)
        size = self.images * -(-self.channels // self.group) * self.group * self.pixels * TYPES[of.type].itemsize
        device = machine.device
        self.x = Guarded(size, way.offsets[0], GUARDED["in"], device)
        self.residual = Guarded(size if way.op.residual else 0, way.offsets[2], GUARDED["in"], device)
        self.y = Guarded(size, way.offsets[1], GUARDED["out"], device)
        self.params = self._params()
        self.accepted = machine.kernels.accepts(self.params)
        self.workspace = Guarded(machine.kernels.workspace(self.params), 0, GUARDED["in"], device)
        self.params.workspace = self.workspace.address
        self.params.workspace_size = self.workspace.bytes.numel()
        self.fill(of)

    def _params(self) -> Params:
        of, op = self.of, self.way.op
        into = {"apart": self.y, "on x": self.x, "on residual": self.residual}[self.way.output]
        return Params(
            type=list(TYPES).index(of.type),
            activation=ACTIVATIONS.index(op.activation),
            tactic=TACTICS.index(self.way.tactic),
            group=self.group,
            x=self.x.address,
            y=into.address,
            residual=self.residual.address if op.residual else None,
            scale=of.scale.data_ptr() if op.affine else None,
            bias=of.bias.data_ptr() if op.affine else None,
            images=self.images,
            channels=self.channels,
            pixels=self.pixels,
            e_lambda=of.e_lambda,
            x_scale=of.x_scale,
            residual_scale=of.residual_scale,
            y_scale=of.y_scale,
        )

    def fill(self, of: Values) -> None:
        """Set other values of the same shape, and fill the output with NaN, or with a number for int8."""
        self.of = of
        self.x.put(lay_out(encode(of.type, of.x, of.x_scale), self.group))
        if self.way.op.residual:
            self.residual.put(lay_out(encode(of.type, of.residual, of.residual_scale), self.group))
        self.y.bytes.fill_(0x5A if of.type == "s8" else 0xFF)
        self._before = self.x.bytes.clone()

    def launch(self) -> int:
        """A cudaError_t."""
        return self.machine.kernels.launch(self.params, self.machine.stream())

    def output(self) -> Guarded:
        """Memory of y."""
        return {"apart": self.y, "on x": self.x, "on residual": self.residual}[self.way.output]

    def result(self) -> Tensor:
        """y in (N, C, M), float64."""
        flat = self.output().as_type(self.of.type)
        y, _ = take_up(flat, self.images, self.channels, self.pixels, self.group)
        return decode(self.of.type, y, self.of.y_scale)

    def harm(self) -> str:
        """Writes outside y, in words, or ""."""
        around = {"x": self.x, "y": self.y, "residual": self.residual, "workspace": self.workspace}
        harmed = [f"written outside {name}" for name, memory in around.items() if not memory.intact()]
        if self.way.output != "on x" and not torch.equal(self._before, self.x.bytes):
            harmed.append("x was changed")
        flat = self.output().as_type(self.of.type)
        _, padding = take_up(flat, self.images, self.channels, self.pixels, self.group)
        if not bool((padding == 0).all()):
            harmed.append("padding is not zero")
        return ", ".join(harmed)
