"""MobileNetV2 with SimAM behind each depthwise convolution: 17 blocks, 3,504,872 parameters.

Sandler et al.: "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, Table 2 and Figure 4d.
x : (N, 3, 224, 224) float32 to logits (N, 1000). SimAM (λ = 0.1) sees (N, C, H, W) from (N, 32, 112, 112) and
(N, 96, 56, 56) to (N, 960, 7, 7).

SimAM stands behind the depthwise convolution's BatchNorm and ReLU6 and before the projection, so the names are those
of torchvision's checkpoints (features.1.conv.0.0.weight, classifier.1.weight) and planes hold no negative value. The
code of Yang et al., ICML 2021, has it between the depthwise convolution and its BatchNorm instead, which then is
features.1.conv.0.2: their checkpoint does not load here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export_models._random import images, randomised
from simam_deploy.pytorch.module import SimAM

E_LAMBDA = 0.1
"""λ of the published ImageNet checkpoint."""
STAGES = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
"""Table 2: expansion, channels, blocks, stride of the first block."""


def conv_norm(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU6; the padding keeps the size at stride 1."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU6())


class InvertedResidual(nn.Module):
    """Expand (1x1), filter each channel (3x3), SimAM, project (1x1); a shortcut where input and output agree.

    forward: x : (N, c_in, H, W) float32 to (N, c_out, H / stride, W / stride).
    """

    def __init__(self, c_in: int, c_out: int, *, expansion: int, stride: int, simam: bool) -> None:
        super().__init__()
        hidden = c_in * expansion
        depthwise = conv_norm(hidden, hidden, 3, stride, groups=hidden)
        if simam:
            depthwise.append(SimAM(e_lambda=E_LAMBDA))
        expand = [conv_norm(c_in, hidden, 1)] if expansion != 1 else []
        project = nn.Conv2d(hidden, c_out, 1, bias=False)
        self.conv = nn.Sequential(*expand, depthwise, project, nn.BatchNorm2d(c_out))
        self.shortcut = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    """Table 2 at width 1.

    forward: x : (N, 3, H, W) float32, H or W above 32, to logits (N, 1000).
    """

    def __init__(self, *, simam: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_norm(3, 32, 3, 2)]
        channels = 32
        for expansion, width, count, step in STAGES:
            for index in range(count):
                stride = step if index == 0 else 1
                layers.append(InvertedResidual(channels, width, expansion=expansion, stride=stride, simam=simam))
                channels = width
        layers.append(conv_norm(channels, 1280, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(self.features(x), 1), 1))


def build() -> tuple[nn.Module, Tensor]:
    """SimAM in every inverted residual; example (1, 3, 224, 224) float32."""
    return _build(simam=True)


def build_plain() -> tuple[nn.Module, Tensor]:
    """No SimAM, all else equal: what SimAM costs is the difference."""
    return _build(simam=False)


def _build(*, simam: bool) -> tuple[nn.Module, Tensor]:
    net = randomised(lambda: MobileNetV2(simam=simam), calibrate_on=images(4, 128, 128, seed=1), seed=0)
    return net, images(1, 224, 224, seed=2)
