"""ResNet-50 with SimAM: 1x1, 3x3 and 1x1 convolutions per block, 16 blocks, 25,557,032 parameters.

He et al., CVPR 2016, Table 1; SimAM as in the checkpoints of Yang et al., ICML 2021 (λ = 0.1). See `_resnet.py`.
x : (N, 3, 224, 224) float32 to logits (N, 1000). SimAM sees
(N, C, H, W) = (N, 64, 56, 56), (N, 128, 28, 28), (N, 256, 14, 14), (N, 512, 7, 7) in 3, 4, 6 and 3 blocks;
with `build_end` four times as many channels.
"""

from __future__ import annotations

from torch import Tensor, nn

from export_models import _resnet

BLOCKS = (3, 4, 6, 3)


def build() -> tuple[nn.Module, Tensor]:
    """SimAM between conv2 and bn2 of every block, as published; example (1, 3, 224, 224) float32."""
    return _resnet.build(BLOCKS, bottleneck=True, place="conv2")


def build_end() -> tuple[nn.Module, Tensor]:
    """SimAM on every block's output, behind the last BatchNorm and before the shortcut is added."""
    return _resnet.build(BLOCKS, bottleneck=True, place="end")


def build_plain() -> tuple[nn.Module, Tensor]:
    """No SimAM, all else equal: what SimAM costs is the difference."""
    return _resnet.build(BLOCKS, bottleneck=True, place="none")
