"""Boxes in the outputs of YOLO models, and how far two runs agree."""

import numpy as np
import pytest

from simam_deploy.compare.boxes import agreement
from simam_deploy.compare.outputs import compare

BOXES = [(10, 10, 50, 50), (60, 60, 90, 100), (0, 70, 30, 95)]
SCORES, LABELS = [0.9, 0.6, 0.3], [2, 0, 2]
CLASSES, ANCHORS = 3, 40


def columns(boxes: list = BOXES, scores: list = SCORES, labels: list = LABELS) -> np.ndarray:
    """(1, 4 + classes, anchors), each box twice, as neighbouring cells give it; the rest of a low score."""
    out = np.full((4 + CLASSES, ANCHORS), 0.01, np.float32)
    for at, ((left, top, right, bottom), score, label) in enumerate(zip(boxes, scores, labels, strict=True)):
        for copy, less in ((2 * at, 1), (2 * at + 1, 0.95)):
            out[:4, copy] = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
            out[4 + label, copy] = score * less
    return out[None]


def rows(boxes: list = BOXES, scores: list = SCORES, labels: list = LABELS) -> np.ndarray:
    """(1, boxes, 6), filled up with boxes of no score, as a model gives that suppresses by itself."""
    found = [(*box, score, label) for box, score, label in zip(boxes, scores, labels, strict=True)]
    return np.array([*found, *[(0,) * 6] * 7], np.float32)[None]


@pytest.mark.parametrize("make", [columns, rows])
@pytest.mark.parametrize(
    ("change", "share"),
    [
        pytest.param({}, 1, id="the same"),
        pytest.param({"boxes": [BOXES[0], BOXES[1], (2, 72, 31, 96)]}, 1, id="moved a little"),
        pytest.param({"boxes": [BOXES[0], BOXES[1], (20, 20, 70, 60)]}, 4 / 6, id="elsewhere"),
        pytest.param({"labels": [2, 1, 2]}, 4 / 6, id="another label"),
        pytest.param({"scores": [0.9, 0.6, 0.2]}, 4 / 5, id="no longer sure"),
        pytest.param({"scores": [np.nan, 0.6, 0.3]}, 4 / 5, id="NaN"),
        pytest.param({"scores": [0.1, 0.1, 0.1]}, 0, id="nothing found"),
    ],
)
def test_agreement(make, change: dict, share: float) -> None:  # type: ignore[no-untyped-def]
    got = make(**{"boxes": BOXES, "scores": SCORES, "labels": LABELS, **change})
    assert agreement([(got, make())]) == pytest.approx(share)
    assert agreement([(got.astype(np.float16), make())]) == pytest.approx(share)


def test_boxes_without_a_size_do_not_count() -> None:
    odd = [*BOXES[:2], (30, 95, 0, 70)]
    assert agreement([(rows(boxes=odd), rows(boxes=odd))]) == 1
    assert agreement([(rows(boxes=odd), rows())]) == pytest.approx(4 / 5)


def test_counts_add_up_over_feeds() -> None:
    nothing = rows(scores=[0.1, 0.1, 0.1])
    assert agreement([(rows(), rows()), (nothing, nothing)]) == 1
    assert agreement([(nothing, rows()), (rows(), rows())]) == pytest.approx(6 / 9)
    assert agreement([(nothing, nothing)]) is None


@pytest.mark.parametrize(
    "other",
    [
        np.random.default_rng(0).standard_normal((1, 7, 40)),
        np.random.default_rng(0).standard_normal((1, 40, 6)),
        np.zeros((1, 4, 40)),
        np.zeros((2, 3)),
        np.zeros((1, 3, 8, 8)),
        np.zeros((1, 0, 6)),
    ],
)
def test_other_outputs_hold_no_boxes(other: np.ndarray) -> None:
    assert agreement([(other, other)]) is None


def test_a_row_of_verify_holds_it() -> None:
    got = columns(labels=[2, 1, 2])
    (row,), _ = compare("case", "session", ["output0"], [[got]], [[columns().astype(np.float64)]], np.ones((1, 2)))
    assert row.agreement == pytest.approx(4 / 6)
    assert not row.labels
