"""The scenes: the same each time, digits apart and boxes tight, nothing of the test in training."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.datasets import load_sample_images
from sklearn.utils import Bunch

from export_models import digits
from export_models.scenes import data, metrics


@pytest.fixture
def photographs(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[np.ndarray], None]], None]:
    """Changes the photographs for one test, with a function that changes one in place."""
    uncached = data._photographs.__wrapped__

    def change(how: Callable[[np.ndarray], None]) -> None:
        images = [image.copy() for image in load_sample_images().images]
        for image in images:
            how(image)
        monkeypatch.setattr("sklearn.datasets.load_sample_images", lambda: Bunch(images=images))
        monkeypatch.setattr(data, "_photographs", uncached)

    return change


def test_scenes_are_the_same_each_time_and_hold_digits_apart() -> None:
    images, truths = data.test_set(12)
    assert (images.shape, images.dtype) == ((12, 3, 160, 160), np.float32)
    assert 0 <= images.min() < 0.1
    assert 0.9 < images.max() <= 1
    again, _ = data.test_set(3)
    assert np.array_equal(images[:3], again)
    assert len({image.tobytes() for image in (*images, *data.training_set(12)[0])}) == 24
    assert np.array_equal(data.training_set(2, first=3)[0], data.training_set(5)[0][3:])
    for boxes, labels in truths:
        assert 1 <= len(labels) == len(boxes) <= data.MOST
        assert boxes.min() >= 0
        assert boxes.max() <= 160
        assert np.array_equal(metrics.overlaps(boxes, boxes), np.eye(len(boxes)))
    sizes = np.concatenate([boxes[:, 3] - boxes[:, 1] for boxes, _ in truths])
    assert sizes.min() < 16
    assert sizes.max() > 60


def test_boxes_are_tight_around_the_ink(photographs: Callable[[Callable[[np.ndarray], None]], None]) -> None:
    photographs(lambda image: image.fill(0))
    for image, truth in zip(*data.test_set(8), strict=True):
        brightest = image.max(axis=0)
        for left, top, right, bottom in truth.boxes.astype(int).tolist():
            inside = brightest[top:bottom, left:right]
            for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
                assert edge.max() >= data.INK * 0.7  # light ink has 0.7 to 1 of each colour
            brightest[top:bottom, left:right] = 0
        assert brightest.max() < data.INK


def test_backgrounds_of_training_and_test_share_no_pixel(
    photographs: Callable[[Callable[[np.ndarray], None]], None],
) -> None:
    trained, held = data.training_set(32)[0], data.test_set(32)[0]
    photographs(lambda image: image[data.SPLIT_ROW :].fill(0))
    assert np.array_equal(data.training_set(32)[0], trained)
    assert not np.array_equal(data.test_set(32)[0], held)
    photographs(lambda image: image[: data.SPLIT_ROW].fill(0))
    assert np.array_equal(data.test_set(32)[0], held)


def test_scans_are_those_of_the_digits_split() -> None:
    for split, (images, labels) in (("training", digits.training_set()), ("test", digits.test_set())):
        scans, names = data._scans(split)
        assert np.array_equal(scans, np.round(images[:, 0] * 255))
        assert np.array_equal(names, labels)
