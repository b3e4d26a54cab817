"""The networks of export_models that take pictures, and real pixels for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from export_models import detector, digits, mobilenetv2, resnet18, resnet50, scenes
from export_models.scenes import data
from simam_deploy.compare.inputs import specs
from simam_deploy.compare.pictures import MEAN, STD
from simam_deploy.formula import Array
from simam_deploy.precision.samples import Samples
from simam_deploy.text import Say
from simam_deploy.to_onnx import export

Pixels = Callable[[int, int, int], Array]


@dataclass(frozen=True)
class Network:
    """build : module and example input.  pixels : height, width, count -> pictures, from 0 to 1.

    normalised : whether the network takes them normalised as for ImageNet.  count : pictures to use.
    """

    build: Callable[[], tuple[nn.Module, Tensor]]
    pixels: Pixels
    normalised: bool = False
    count: int = 16

    def export(self, path: Path, say: Say) -> None:
        """Write the float32 file, with SimAM in the form `function`."""
        export(*self.build(), path, check=False, exporter="torchscript", on_progress=say)

    def samples(self, path: Path, *, raw: bool = False) -> Samples:
        """Samples for the file at `path`. raw : pixels from 0 to 255, as a camera gives them."""
        (spec,) = specs(path)
        *_, height, width = (size for size in spec.shape or () if isinstance(size, int))
        x = self.pixels(height, width, self.count)
        if raw:
            x = 255 * x
        elif self.normalised:
            x = (x - MEAN[:, None, None]) / STD[:, None, None]
        return Samples({spec.name: x.astype(np.float32)}, [spec])


def _scans(height: int, width: int, count: int) -> Array:
    """Held-out scans of digits, (count, 1, 8, 8)."""
    scans = digits.test_set()[0][:count]
    assert scans.shape[2:] == (height, width)
    return scans


def _crops(height: int, width: int, count: int) -> Array:
    """Crops of scikit-learn's two photographs, (count, 3, H, W)."""
    rng = np.random.default_rng(0)
    found = []
    for at in range(count):
        photo = _photographs()[at % 2]
        top, left = int(rng.integers(photo.shape[0] - height + 1)), int(rng.integers(photo.shape[1] - width + 1))
        found.append(photo[top : top + height, left : left + width].transpose(2, 0, 1))
    return np.stack(found) / 255


def _scenes(height: int, width: int, count: int) -> Array:
    """Held-out digits on held-out photographs, (count, 3, 160, 160)."""
    images = data.test_set(count)[0]
    assert images.shape[2:] == (height, width)
    return images


@cache
def _photographs() -> list[Array]:
    from sklearn.datasets import load_sample_images

    return list(load_sample_images().images)


NETWORKS = {
    "digits": Network(digits.build, _scans, count=400),
    "resnet18": Network(resnet18.build, _crops, normalised=True),
    "resnet50": Network(resnet50.build, _crops, normalised=True, count=8),
    "mobilenetv2": Network(mobilenetv2.build, _crops, normalised=True),
    "detector": Network(detector.build, _crops),
    "scenes": Network(scenes.build, _scenes),
}
