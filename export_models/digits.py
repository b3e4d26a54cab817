"""A small trained network: digits of scikit-learn's `load_digits`, 1797 scans of 8x8 pixels from 0 to 16.

Data: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI repository, 1998. The network is ours.
Every SimAM stands between convolution and BatchNorm, as published; the third block has a shortcut around it.

    x : (N, 1, 8, 8) float32, pixels / 16
    block1  (N, 32, 8, 8)    block2  (N, 64, 4, 4), stride 2    block3  (N, 64, 4, 4), shortcut
    mean over each plane, then logits (N, 10)

The weights in digits.pt are made by `python -m export_models.train_digits`; they read 447 of the 450 held-out scans
(99.3 %).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from simam_deploy.pytorch.module import SimAM

Images = NDArray[np.float32]
Labels = NDArray[np.int64]

WEIGHTS = Path(__file__).with_name("digits.pt")
TEST_SHARE = 0.25
SEVEN = (
    "..#####.",
    "..+++##.",
    ".....#+.",
    "....+#..",
    "..+###+.",
    "....#+..",
    "...+#...",
    "...##...",
)
"""The example: a 7 drawn by us, in the manner of the scans."""
INK = {".": 0.0, "+": 0.5, "#": 1.0}


class Digits(nn.Module):
    """Three blocks of convolution, SimAM, BatchNorm, ReLU.

    forward: x : (N, 1, 8, 8) float32 from 0 to 1, to logits (N, 10).
    """

    def __init__(self) -> None:
        super().__init__()
        self.block1 = _block(1, 32, 1)
        self.block2 = _block(32, 64, 2)
        self.block3 = _block(64, 64, 1)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y = F.relu(self.block1(x))
        y = F.relu(self.block2(y))
        y = F.relu(y + self.block3(y))
        return self.fc(y.mean(dim=(2, 3)))


def _block(c_in: int, c_out: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
    return nn.Sequential(conv, SimAM(), nn.BatchNorm2d(c_out))


def build() -> tuple[nn.Module, Tensor]:
    """The trained network in eval mode; example (1, 1, 8, 8) float32, a drawn 7.

    Raises FileNotFoundError without digits.pt (make it with `python -m export_models.train_digits`).
    """
    with torch.random.fork_rng(devices=[]):
        net = Digits()
    net.load_state_dict(torch.load(WEIGHTS, map_location="cpu", weights_only=True))
    return net.eval(), seven()


def seven() -> Tensor:
    """The drawn 7: (1, 1, 8, 8) float32, ink from 0 to 1."""
    return torch.tensor([[[[INK[c] for c in row] for row in SEVEN]]])


def training_set() -> tuple[Images, Labels]:
    """The scans that digits.pt was trained on: all but `test_set`, (1347, 1, 8, 8) and (1347,)."""
    return _split()[0]


def test_set() -> tuple[Images, Labels]:
    """The scans held out: images (450, 1, 8, 8) float32 from 0 to 1, labels (450,) int64, as NumPy arrays.

    Always the same quarter, with the ten digits in the same shares as in the whole. Needs scikit-learn.
    """
    return _split()[1]


def _split() -> tuple[tuple[Images, Labels], tuple[Images, Labels]]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    images = (data.images / 16).astype(np.float32)[:, None]
    labels = data.target.astype(np.int64)
    x, held_x, y, held_y = train_test_split(images, labels, test_size=TEST_SHARE, stratify=labels, random_state=0)
    return (x, y), (held_x, held_y)
