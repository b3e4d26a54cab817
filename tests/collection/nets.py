"""Small networks around an attention module, as such modules are used. What is behind the last one adds no gain."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from collection.modules import MISSES, SPELLINGS, Written

CHANNELS = 4
CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def _layers(inputs: int, axes: int, relu: bool) -> list[nn.Module]:
    """Convolution, BatchNorm with statistics as after training, and ReLU or not."""
    norm = NORM[axes](CHANNELS)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    nn.init.uniform_(norm.running_mean, -0.1, 0.1)
    nn.init.uniform_(norm.running_var, 0.1, 0.3)
    return [CONV[axes](inputs, CHANNELS, 3, padding=1), norm, *([nn.ReLU()] if relu else [])]


def _last(axes: int) -> nn.Module:
    """A 1x1 convolution whose rows have absolute sum 1: it makes no error larger."""
    conv = CONV[axes](CHANNELS, 3, 1)
    with torch.no_grad():
        conv.weight /= conv.weight.abs().sum(1, keepdim=True)
    return conv


def plain(make: Callable[[], nn.Module], axes: int = 2) -> nn.Module:
    return nn.Sequential(*_layers(3, axes, True), make(), _last(axes))


def without_relu(make: Callable[[], nn.Module], axes: int = 2) -> nn.Module:
    """For misses: behind a ReLU, relu(x) is x."""
    return nn.Sequential(*_layers(3, axes, False), make(), _last(axes))


def edge(make: Callable[[], nn.Module], axes: int = 2) -> nn.Module:
    """Attention alone: x is the graph's input and y its output."""
    del axes
    return nn.Sequential(make())


def two(make: Callable[[], nn.Module], axes: int = 2) -> nn.Module:
    return nn.Sequential(*_layers(3, axes, True), make(), make(), _last(axes))


def same_twice(make: Callable[[], nn.Module], axes: int = 2) -> nn.Module:
    """One module object in two places."""
    one = make()
    return nn.Sequential(*_layers(3, axes, True), one, *_layers(CHANNELS, axes, True), one, _last(axes))


class Residual(nn.Module):
    """ReLU(image + attention(layers(image))): the product's only user is a sum."""

    def __init__(self, make: Callable[[], nn.Module], axes: int = 2) -> None:
        super().__init__()
        self.first = nn.Sequential(*_layers(3, axes, True))
        self.body = nn.Sequential(*_layers(CHANNELS, axes, False))
        self.attention = make()
        self.last = _last(axes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        return self.last(torch.relu(x + self.attention(self.body(x))))


class ResidualGate(nn.Module):
    """x + SimAM(x): the product inside is SimAM, the whole is not."""

    def __init__(self, make: Callable[[], nn.Module], axes: int = 2) -> None:
        super().__init__()
        self.first = nn.Sequential(*_layers(3, axes, False))
        self.attention = make()
        self.last = _last(axes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        return self.last(x + self.attention(x))


def beside(make: Callable[[], nn.Module], axes: int = 2) -> nn.Module:
    """A near miss behind a SimAM as published, each with layers of its own."""
    true = SPELLINGS["published"].make(1e-4)
    return nn.Sequential(*_layers(3, axes, True), true, *_layers(CHANNELS, axes, False), make(), _last(axes))


NETS: dict[str, tuple[Callable[..., nn.Module], int]] = {
    "plain": (plain, 1),
    "without_relu": (without_relu, 1),
    "edge": (edge, 1),
    "two": (two, 2),
    "same_twice": (same_twice, 2),
    "residual": (Residual, 1),
    "residual_gate": (ResidualGate, 1),
}
"""Each net, and how many attention modules it holds."""


def build(net: str, written: Written) -> nn.Module:
    """The net with that module in it, in evaluation mode; the same weights every time."""
    torch.manual_seed(0)
    make = beside if net == "beside" else NETS[net][0]
    return make(lambda: written.make(written.e_lambda), written.axes).eval()


def written(name: str) -> Written:
    """The spelling or the near miss of that name."""
    return SPELLINGS[name] if name in SPELLINGS else MISSES[name]
