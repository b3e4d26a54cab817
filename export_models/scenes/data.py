"""Scenes: scanned digits at many sizes on crops of photographs, drawn from scikit-learn's data.

Scans: `load_digits`, 8x8 pixels, split as in `export_models.digits`. Backgrounds: `load_sample_images`, china.jpg and
flower.jpg. Training crops the rows above `SPLIT_ROW`, the test crops those below: they share no pixel and no scan.
Each scan is enlarged to 14 to 80 pixels and blended into the photograph, light ink on dark ground or dark on light.
Its box is tight around the ink. Digits do not overlap.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export_models import digits
from export_models.scenes.metrics import Truth

Floats = NDArray[np.float32]
Split = Literal["training", "test"]

SIDE = 160
"""Height and width of a scene in pixels."""
SIZES = 14, 80
"""Smallest and largest side of an enlarged scan, in pixels."""
MOST = 6
"""Digits that a scene holds at most."""
SPLIT_ROW = 256
"""Of 427: training backgrounds end above this row, test backgrounds begin at it."""
SMALLEST_CROP = 80
"""Side of the smallest square of a photograph that becomes a background, in pixels."""
INK = 0.25
"""A pixel belongs to a digit from this share of ink on."""
GAP = 2
"""Pixels between two digits at least."""
TEST_SCENES = 256
"""Scenes that accuracy is told on."""
SEEDS = {"training": 0, "test": 1}


class Scene(NamedTuple):
    """An image (3, SIDE, SIDE) float32 from 0 to 1, and the digits on it."""

    image: Floats
    truth: Truth


def training_set(count: int, first: int = 0) -> tuple[Floats, list[Truth]]:
    """Scenes that scenes.pt was trained on, from number `first`: images (count, 3, 160, 160) float32, and truths.

    Always the same, and as many as are asked for. Needs scikit-learn.
    """
    return _stacked("training", range(first, first + count))


def test_set(count: int) -> tuple[Floats, list[Truth]]:
    """Scenes of held-out scans on held-out backgrounds: images (count, 3, 160, 160) float32 from 0 to 1, and truths.

    Always the same; a smaller count gives the first of them. Needs scikit-learn.
    """
    return _stacked("test", range(count))


def scene(split: Split, index: int) -> Scene:
    """Scene number `index` of a split. The same each time, and apart from all others."""
    rng = np.random.default_rng((SEEDS[split], index))
    image = _background(split, rng)
    scans, names = _scans(split)
    boxes: list[tuple[int, int, int, int]] = []
    labels: list[int] = []
    for _ in range(int(rng.integers(1, MOST + 1))):
        number = int(rng.integers(len(scans)))
        size = round(float(np.exp(rng.uniform(*np.log(SIZES)))))
        ink = np.asarray(Image.fromarray(scans[number]).resize((size, size), Image.Resampling.BILINEAR)) / 255
        place = _place(ink, boxes, rng)
        if place is not None:
            x, y, box = place
            _blend(image[y : y + size, x : x + size], ink, rng)
            boxes.append(box)
            labels.append(int(names[number]))
    truth = Truth(np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64))
    return Scene(np.ascontiguousarray(image.transpose(2, 0, 1)), truth)


def _stacked(split: Split, numbers: range) -> tuple[Floats, list[Truth]]:
    scenes = [scene(split, number) for number in numbers]
    return np.stack([image for image, _ in scenes]), [truth for _, truth in scenes]


def _background(split: Split, rng: np.random.Generator) -> Floats:
    """A square crop at any place and size, mirrored or not, a little brighter or darker: (SIDE, SIDE, 3)."""
    photographs = _photographs(split)
    photograph = photographs[int(rng.integers(len(photographs)))]
    side = int(rng.integers(SMALLEST_CROP, min(photograph.size) + 1))
    left, top = (int(rng.integers(0, most - side + 1)) for most in photograph.size)
    crop = photograph.resize((SIDE, SIDE), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    image = np.asarray(crop, np.float32) / 255
    if rng.random() < 0.5:
        image = image[:, ::-1]
    return np.clip(image * np.float32(rng.uniform(0.7, 1.2)), 0, 1)


def _place(
    ink: NDArray[np.float64], taken: list[tuple[int, int, int, int]], rng: np.random.Generator
) -> tuple[int, int, tuple[int, int, int, int]] | None:
    """Where the scan goes and the box of its ink, clear of the boxes taken; None if 20 tries find no room."""
    rows, columns = (np.flatnonzero((ink >= INK).any(axis=axis)) for axis in (1, 0))
    for x, y in rng.integers(0, SIDE - len(ink) + 1, (20, 2)).tolist():
        box = (x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]) + 1, y + int(rows[-1]) + 1)
        if all(
            box[0] >= other[2] + GAP
            or other[0] >= box[2] + GAP
            or box[1] >= other[3] + GAP
            or other[1] >= box[3] + GAP
            for other in taken
        ):
            return x, y, box
    return None


def _blend(ground: Floats, ink: NDArray[np.float64], rng: np.random.Generator) -> None:
    """Draw into `ground`: light ink where it is dark under the digit, dark ink where it is light."""
    share = ink.astype(np.float32)[..., None]
    under = float((ground * share).sum() / (3 * share.sum()))
    colour = rng.uniform(0, 0.3, 3) if under > 0.5 else rng.uniform(0.7, 1, 3)
    ground += share * (colour.astype(np.float32) - ground)


@cache
def _photographs(split: Split) -> list[Image.Image]:
    from sklearn.datasets import load_sample_images

    rows = slice(None, SPLIT_ROW) if split == "training" else slice(SPLIT_ROW, None)
    return [Image.fromarray(pixels[rows]) for pixels in load_sample_images().images]


@cache
def _scans(split: Split) -> tuple[NDArray[np.uint8], digits.Labels]:
    images, labels = digits.training_set() if split == "training" else digits.test_set()
    return np.round(images[:, 0] * 255).astype(np.uint8), labels
