"""A small trained detector, which finds scanned digits on photographs and names them.

The scenes come from data of scikit-learn (`data`): scans enlarged to 14 to 80 pixels, on crops of two photographs.
The network is ours. Each SimAM stands between convolution and BatchNorm, as published, in the backbone and the neck.

    x : (N, 3, H, W) float32 from 0 to 1, H and W multiples of 16; example (1, 3, 160, 160)
    backbone  (N, 16, H/2, W/2)   (N, 48, H/4, W/4)   (N, 64, H/8, W/8)   (N, 96, H/16, W/16), SimAM in each
    neck      (N, 64, H/8, W/8) from coarse to fine, (N, 64, H/16, W/16) back, SimAM in both
    boxes_8   (N, 4, H/8, W/8)      scores_8   (N, 10, H/8, W/8)
    boxes_16  (N, 4, H/16, W/16)    scores_16  (N, 10, H/16, W/16), raw: `metrics.decode` makes boxes of them

Boxes and scores are outputs of their own, since their ranges differ: in one tensor, int8 would give both one scale.
Sizes are logarithms, so that a rounding of them is the same share of a large box and of a small one.

The weights in scenes.pt are made by `python -m export_models.train_scenes`. Their mAP@0.5 on 256 test scenes is
0.9546.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export_models import digits
from export_models.scenes import metrics
from export_models.scenes.net import Scenes

WEIGHTS = Path(__file__).with_name("scenes.pt")


def build() -> tuple[nn.Module, Tensor]:
    """The trained network in eval mode; example (1, 3, 160, 160) float32, a drawn 7 on a ground that grows lighter.

    Raises FileNotFoundError without scenes.pt (make it with `python -m export_models.train_scenes`).
    """
    with torch.random.fork_rng(devices=[]):
        net = Scenes()
    net.load_state_dict(torch.load(WEIGHTS, map_location="cpu", weights_only=True))
    ink = F.pad(F.interpolate(digits.seven(), size=(64, 64), mode="bilinear"), (48, 48, 48, 48))
    ground = torch.linspace(0.1, 0.5, 160).expand(1, 3, 160, 160)
    return net.eval(), ground + ink * (0.9 - ground)


def detect(net: nn.Module, images: metrics.Floats, batch: int = 32) -> list[metrics.Detections]:
    """Digits that the network finds in PyTorch on images (N, 3, H, W): one `Detections` per image."""
    found: list[metrics.Detections] = []
    with torch.no_grad():
        for part in torch.from_numpy(images).split(batch):
            found += metrics.decode([y.numpy() for y in net(part)])
    return found
