"""Networks with attention modules in them, and what is said of them."""

import pytest
import torch
from torch import Tensor, nn

from simam_deploy.pytorch.adopt.report import Adopted
from simam_deploy.pytorch.adopt.trial import TrialResult

X = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """Convolution, attention that is in a list too, and a shortcut."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.layers = nn.ModuleList([attention, nn.ReLU()])

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        for layer in self.layers:
            y = layer(y)
        return x + y


def net(*attentions: nn.Module) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(*(Block(a) for a in attentions), nn.Conv2d(3, 2, 1)).eval()


def names(done: Adopted) -> list[str]:
    return [name for row in done.rows for name in row.names]


def said(done: Adopted) -> str:
    return "\n".join(map(str, done.left_alone))


def says(judged: TrialResult, words: str) -> None:
    """The words are among the reasons."""
    with pytest.raises(AssertionError, match=words):
        raise AssertionError("; ".join(judged.reasons))


def outputs(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(X)
