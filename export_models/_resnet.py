"""ResNet with SimAM in the published place, at the end of a block, or nowhere.

He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016, Table 1 and Figure 5; the stride sits
in the 3x3 convolution of a bottleneck. Names are those of the published checkpoints, so their weights load:

    x : (N, 3, H, W)  conv1, bn1, maxpool  /4   layer1  /4   layer2  /8   layer3  /16   layer4  /32   fc  (N, 1000)
    a block           conv1, bn1, conv2, bn2[, conv3, bn3][, downsample.0, downsample.1]

"conv2"  SimAM between conv2 and bn2, where the authors of SimAM trained it: conv2.weight becomes conv2.0.weight
"end"    SimAM on the block's output, behind the last BatchNorm and before the shortcut is added
"none"   no SimAM: the names of torchvision's checkpoints

SimAM has no parameters, so the three have equally many. H or W must be above 32, or the maps of layer4 are 1x1.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export_models._random import images, randomised
from simam_deploy.pytorch.module import SimAM

Place = Literal["conv2", "end", "none"]
E_LAMBDA = 0.1
"""λ of the published ImageNet checkpoints."""


class Block(nn.Module):
    """Convolutions with BatchNorm, ReLU between them, and a shortcut around them.

    plan : (kernel, channels, stride) of each convolution; two make a basic block, three a bottleneck.
    forward: x : (N, channels_in, H, W) float32 to (N, last channels, H/s, W/s), s the product of the strides.
    """

    def __init__(self, channels_in: int, plan: list[tuple[int, int, int]], place: Place) -> None:
        super().__init__()
        self.depth = len(plan)
        stride, channels = 1, channels_in
        for i, (kernel, width, step) in enumerate(plan, start=1):
            conv: nn.Module = nn.Conv2d(channels, width, kernel, step, kernel // 2, bias=False)
            if i == 2 and place == "conv2":
                conv = nn.Sequential(conv, SimAM(e_lambda=E_LAMBDA))
            self.add_module(f"conv{i}", conv)
            self.add_module(f"bn{i}", nn.BatchNorm2d(width))
            stride, channels = stride * step, width
        self.simam = SimAM(e_lambda=E_LAMBDA) if place == "end" else nn.Identity()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != channels_in:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y = x
        for i in range(1, self.depth + 1):
            y = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(y))
            y = F.relu(y) if i < self.depth else y
        return F.relu(self.simam(y) + self.downsample(x))


class ResNet(nn.Module):
    """Four layers of `Block` behind a stem, then pooling and `fc`.

    counts : blocks per layer.  bottleneck : three convolutions per block, the last four times as wide.
    forward: x : (N, 3, H, W) float32 to logits (N, 1000).
    """

    def __init__(self, counts: tuple[int, int, int, int], *, bottleneck: bool, place: Place) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for number, count in enumerate(counts, start=1):
            width = 32 * 2**number
            blocks = []
            for index in range(count):
                step = 2 if index == 0 and number > 1 else 1
                if bottleneck:
                    plan = [(1, width, 1), (3, width, step), (1, 4 * width, 1)]
                else:
                    plan = [(3, width, step), (3, width, 1)]
                blocks.append(Block(channels, plan, place))
                channels = plan[-1][1]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        for number in range(1, 5):
            y = self.get_submodule(f"layer{number}")(y)
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(y, 1), 1))


def build(counts: tuple[int, int, int, int], *, bottleneck: bool, place: Place) -> tuple[nn.Module, Tensor]:
    """A ResNet with random weights in eval mode, and an example (1, 3, 224, 224) float32."""
    net = randomised(
        lambda: ResNet(counts, bottleneck=bottleneck, place=place), calibrate_on=images(4, 128, 128, seed=1), seed=0
    )
    return net, images(1, 224, 224, seed=2)
