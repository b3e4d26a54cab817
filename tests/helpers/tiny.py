"""Networks as small as can be, by the names that the tests give on the command line."""

import torch
from torch import Tensor, nn

from simam_deploy.pytorch.module import SimAM

Built = tuple[nn.Module, Tensor]


class Net(nn.Module):
    """Convolution and SimAM, then a factor: another factor is another model with the same weights."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.simam = SimAM()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.simam(self.conv(x)) * self.factor


class PopulationVariance(nn.Module):
    """The wrong SimAM that is found most often: the sum over M in place of M - 1."""

    def forward(self, x: Tensor) -> Tensor:
        d = (x - x.mean(dim=(2, 3), keepdim=True)) ** 2
        return x * torch.sigmoid(d / (4 * (d.mean(dim=(2, 3), keepdim=True) + 1e-4)) + 0.5)


class Gate(nn.Module):
    """SimAM under another name, with λ = 0.1."""

    def forward(self, x: Tensor) -> Tensor:
        d = (x - x.mean(dim=(2, 3), keepdim=True)) ** 2
        return x * torch.sigmoid(d / (4 * (x.var(dim=(2, 3), keepdim=True) + 0.1)) + 0.5)


def _seeded(factor: float = 1.0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Net(factor)


def _x(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def build() -> Built:
    return _seeded(), _x(2, 3, 6, 5)


class Nested(Net):
    """Takes a dict, and returns one with a number and None in it."""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, object]:  # type: ignore[override]
        return {"y": super().forward(batch["image"]), "factor": self.factor, "none": None}


def nested() -> tuple[nn.Module, dict[str, Tensor]]:
    return Nested(), {"image": _x(2, 3, 6, 5)}


def no_example() -> nn.Module:
    return _seeded()


def other() -> Built:
    return _seeded(1.001), _x(2, 3, 6, 5)


def other_inputs() -> Built:
    return nn.Conv2d(5, 4, 3), _x(1, 5, 6, 5)


def population() -> Built:
    return PopulationVariance(), _x(1, 2, 4, 4)


def without() -> Built:
    return nn.Conv2d(3, 4, 3), _x(1, 3, 6, 5)


def foreign() -> Built:
    return nn.Sequential(Gate(), PopulationVariance()), _x(1, 2, 4, 4)


def map_1x1() -> Built:
    return SimAM(), _x(1, 2, 1, 1)


def input_3d() -> Built:
    return SimAM(), _x(2, 4, 4)


def input_5d() -> Built:
    return SimAM(), _x(1, 2, 4, 4, 4)
