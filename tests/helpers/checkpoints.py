"""A network with trained weights, and its checkpoints as files."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from simam_deploy.errors import ModelFileError
from simam_deploy.pytorch import checkpoint

Weights = dict[str, Any]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.head = nn.Linear(2, 3)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.scale = nn.Parameter(torch.tensor(1.0))


def trained(seed: int = 0) -> Weights:
    """A state_dict in which no value is the one that a new Net has."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        held = Net().state_dict()
    return {
        name: value if name == "mask" else torch.rand(value.shape, generator=generator).to(value.dtype) + 2
        for name, value in held.items()
    }


def prefixed(prefix: str, weights: Weights) -> Weights:
    return {prefix + name: value for name, value in weights.items()}


def loaded(held: object, folder: Path, wanted: str = "") -> tuple[Net, str]:
    torch.save(held, folder / "w.pth")
    net = Net()
    return net, checkpoint.load(net, folder / "w.pth", wanted)


def refused(held: object, folder: Path, words: str, wanted: str = "") -> None:
    with pytest.raises(ModelFileError, match=words):
        loaded(held, folder, wanted)


def same(net: nn.Module, weights: Weights) -> bool:
    return all(torch.equal(value, weights[name].to(value.dtype)) for name, value in net.state_dict().items())
