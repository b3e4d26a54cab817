"""The network: a residual backbone of strides 2 to 16, a neck up to stride 8 and back, a head at strides 8 and 16."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simam_deploy.pytorch.module import SimAM

CLASSES = 10
WIDTHS = 16, 48, 64, 96
"""Channels at strides 2, 4, 8 and 16."""
NECK = 64
RARE = -4.6
"""Logit of 0.01, the share of cells that hold a digit: scores start there."""


class Conv(nn.Sequential):
    """Convolution, SimAM if asked for, BatchNorm, ReLU."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, stride: int = 1, *, simam: bool = False) -> None:
        conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
        between = [SimAM()] if simam else []
        super().__init__(conv, *between, nn.BatchNorm2d(c_out), nn.ReLU())


class Residual(nn.Module):
    """Two 3x3 convolutions with a shortcut, SimAM behind the second: (N, C, H, W) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = Conv(channels, channels)
        self.conv2 = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), SimAM())
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return F.relu(x + self.bn2(self.conv2(self.conv1(x))))


class Head(nn.Module):
    """Boxes (N, 4, H, W) and scores (N, CLASSES, H, W) of one level, raw, from (N, NECK, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = Conv(NECK, NECK)
        self.boxes = nn.Conv2d(NECK, 4, 1)
        self.scores = nn.Conv2d(NECK, CLASSES, 1)
        self.scores.bias = nn.Parameter(torch.full((CLASSES,), RARE))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        y = self.conv(x)
        return self.boxes(y), self.scores(y)


class Scenes(nn.Module):
    """See the package.

    forward: x : (N, 3, H, W) float32 from 0 to 1, to boxes and scores of stride 8, boxes and scores of stride 16.
    """

    def __init__(self) -> None:
        super().__init__()
        stages = [
            nn.Sequential(Conv(c_in, c_out, stride=2), Residual(c_out))
            for c_in, c_out in zip((3, *WIDTHS), WIDTHS, strict=False)
        ]
        self.to_fine = nn.Sequential(*stages[:3])
        self.to_coarse = stages[3]
        self.lateral = Conv(WIDTHS[3], NECK, 1)
        self.up = Conv(WIDTHS[2] + NECK, NECK, simam=True)
        self.down = Conv(NECK, NECK, stride=2)
        self.merge = Conv(2 * NECK, NECK, simam=True)
        self.heads = nn.ModuleList(Head() for _ in range(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See the class."""
        fine = self.to_fine(x)
        coarse = self.lateral(self.to_coarse(fine))
        fine = self.up(torch.cat([F.interpolate(coarse, scale_factor=2.0, mode="nearest"), fine], dim=1))
        coarse = self.merge(torch.cat([self.down(fine), coarse], dim=1))
        return *self.heads[0](fine), *self.heads[1](coarse)
