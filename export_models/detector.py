"""A YOLO-style detector: CSP backbone, PAN neck with SimAM, three outputs.

CSP block: Wang et al., "CSPNet", CVPR Workshops 2020. PAN: Liu et al., "Path Aggregation Network for Instance
Segmentation", CVPR 2018, Figure 1. Pooling pyramid: He et al., "Spatial Pyramid Pooling", ECCV 2014, here three 5x5
poolings in a row. Arrangement and widths are those usual for the smallest detectors of the YOLO family.

    x : (N, 3, H, W) float32, H and W multiples of 32, H*W > 32*32; example (1, 3, 320, 320)
    backbone  (N, 64, H/8, W/8)   (N, 128, H/16, W/16)   (N, 256, H/32, W/32)
    neck      fine <- coarse, then fine -> coarse; SimAM (λ = 1e-4) ends each of its four CSP blocks
    outputs   (N, 255, H/8, W/8)  (N, 255, H/16, W/16)   (N, 255, H/32, W/32), raw: 3 anchors x (4 box, 1 object, 80)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export_models._random import images, randomised
from simam_deploy.pytorch.module import SimAM

ANCHORS = 3
CLASSES = 80
FINE, MIDDLE, COARSE = 64, 128, 256
"""Channels at strides 8, 16 and 32."""


class Conv(nn.Sequential):
    """Convolution, BatchNorm, SiLU: (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 1, stride: int = 1) -> None:
        conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(c_out), nn.SiLU())


class Residual(nn.Module):
    """1x1 and 3x3 convolution with a shortcut: (N, C, H, W) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(Conv(channels, channels), Conv(channels, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x + self.conv(x)


class CSP(nn.Module):
    """Half of the channels pass `depth` residuals, half go around: (N, c_in, H, W) to (N, c_out, H, W)."""

    def __init__(self, c_in: int, c_out: int, depth: int = 1, *, simam: bool = False) -> None:
        super().__init__()
        half = c_out // 2
        self.through = nn.Sequential(Conv(c_in, half), *[Residual(half) for _ in range(depth)])
        self.around = Conv(c_in, half)
        self.merge = Conv(c_out, c_out)
        self.simam = SimAM() if simam else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.simam(self.merge(torch.cat([self.through(x), self.around(x)], dim=1)))


class Pyramid(nn.Module):
    """The maximum over 5x5, 9x9 and 13x13 next to the value itself: (N, C, H, W) to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = Conv(channels, channels // 2)
        self.merge = Conv(channels * 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        levels = [self.reduce(x)]
        for _ in range(3):
            levels.append(F.max_pool2d(levels[-1], 5, 1, 2))
        return self.merge(torch.cat(levels, dim=1))


class Detector(nn.Module):
    """See the head of this file.

    forward: x : (N, 3, H, W) float32 to a tuple of three maps, strides 8, 16, 32.
    """

    def __init__(self, *, simam: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(Conv(3, 16, 3, 2), Conv(16, 32, 3, 2), CSP(32, 32))
        self.to_fine = nn.Sequential(Conv(32, FINE, 3, 2), CSP(FINE, FINE, 2))
        self.to_middle = nn.Sequential(Conv(FINE, MIDDLE, 3, 2), CSP(MIDDLE, MIDDLE, 2))
        self.to_coarse = nn.Sequential(Conv(MIDDLE, COARSE, 3, 2), CSP(COARSE, COARSE), Pyramid(COARSE))
        self.lateral_coarse = Conv(COARSE, MIDDLE)
        self.up_middle = CSP(2 * MIDDLE, MIDDLE, simam=simam)
        self.lateral_middle = Conv(MIDDLE, FINE)
        self.up_fine = CSP(2 * FINE, FINE, simam=simam)
        self.down_fine = Conv(FINE, FINE, 3, 2)
        self.down_middle = CSP(2 * FINE, MIDDLE, simam=simam)
        self.shrink_middle = Conv(MIDDLE, MIDDLE, 3, 2)
        self.down_coarse = CSP(2 * MIDDLE, COARSE, simam=simam)
        self.heads = nn.ModuleList(nn.Conv2d(c, ANCHORS * (5 + CLASSES), 1) for c in (FINE, MIDDLE, COARSE))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        fine = self.to_fine(self.stem(x))
        middle = self.to_middle(fine)
        coarse = self.lateral_coarse(self.to_coarse(middle))
        middle = self.lateral_middle(self.up_middle(_join(_double(coarse), middle)))
        fine = self.up_fine(_join(_double(middle), fine))
        middle = self.down_middle(_join(self.down_fine(fine), middle))
        coarse = self.down_coarse(_join(self.shrink_middle(middle), coarse))
        return self.heads[0](fine), self.heads[1](middle), self.heads[2](coarse)


def _join(a: Tensor, b: Tensor) -> Tensor:
    return torch.cat([a, b], dim=1)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def build() -> tuple[nn.Module, Tensor]:
    """SimAM at the end of each CSP block of the neck; example (1, 3, 320, 320) float32."""
    return _build(simam=True)


def build_plain() -> tuple[nn.Module, Tensor]:
    """No SimAM, all else equal: what SimAM costs is the difference."""
    return _build(simam=False)


def _build(*, simam: bool) -> tuple[nn.Module, Tensor]:
    net = randomised(lambda: Detector(simam=simam), calibrate_on=images(4, 256, 256, seed=1), seed=0)
    return net, images(1, 320, 320, seed=2)
