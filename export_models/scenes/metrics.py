"""From raw outputs to named boxes, and how good these are. NumPy alone: for the outputs of any session.

A box is (left, top, right, bottom) in pixels of the input, right and bottom exclusive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simam_deploy.compare.boxes import Detections, Floats, overlaps, suppressed

__all__ = ["Detections", "Floats", "Truth", "decode", "mean_average_precision", "overlaps"]

STRIDES = 8, 16
"""Pixels per cell of the two levels."""
MAPS = tuple(f"{kind}_{stride}" for stride in STRIDES for kind in ("boxes", "scores"))
"""The outputs in their order."""
LARGEST = 10.0
"""Logarithm of the largest size in cells: what goes beyond comes from a broken network, and must not overflow."""


class Truth(NamedTuple):
    """Objects on one image: boxes (n, 4) float32, labels (n,) int64."""

    boxes: Floats
    labels: NDArray[np.int64]


def decode(
    outputs: Sequence[ArrayLike], *, threshold: float = 0.05, iou: float = 0.5, limit: int = 100
) -> list[Detections]:
    """One `Detections` per image, from the network's four outputs in order (see the package).

    Each cell proposes its best label if the score exceeds `threshold`. Of proposals that overlap by more than `iou`
    the surest stays, whatever their labels: an object has one name. At most `limit` remain. Cells with a NaN or an
    infinite box propose nothing, so a broken network finds nothing.
    """
    maps = [np.asarray(array, np.float32) for array in outputs]
    if len(maps) != len(MAPS):
        raise ValueError(f"decode takes the {len(MAPS)} outputs {', '.join(MAPS)}; got {len(maps)}")
    boxes = np.concatenate([_boxes(raw, stride) for raw, stride in zip(maps[::2], STRIDES, strict=True)], axis=1)
    logits = np.concatenate([_cells(raw) for raw in maps[1::2]], axis=1)
    scores = 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
    return [
        suppressed(Detections(b, s.max(axis=1), s.argmax(axis=1)), threshold, iou, limit)
        for b, s in zip(boxes, scores, strict=True)
    ]


def mean_average_precision(results: Sequence[Detections], truths: Sequence[Truth], iou: float = 0.5) -> float:
    """The mean over classes of the average precision, from 0 to 1; a class without truths does not count.

    Per class, from the surest detection of all images down: each takes the free truth of its image that it overlaps
    most, if by at least `iou`. A detection that finds none is false. Average precision is the area below the curve of
    precision over recall, at all its points: at each recall the best precision at that recall or a higher one.
    """
    if len(results) != len(truths):
        raise ValueError(f"as many results as truths are compared; got {len(results)} and {len(truths)}")
    classes = sorted(set().union(*(truth.labels.tolist() for truth in truths)))
    if not classes:
        raise ValueError("no truth to compare with: mean average precision is not defined")
    return float(np.mean([_average_precision(results, truths, label, iou) for label in classes]))


def _average_precision(results: Sequence[Detections], truths: Sequence[Truth], label: int, iou: float) -> float:
    scores: list[float] = []
    hits: list[bool] = []
    total = 0
    for found, truth in zip(results, truths, strict=True):
        mine = np.flatnonzero(found.labels == label)
        mine = mine[np.argsort(-found.scores[mine], kind="stable")]
        wanted = truth.boxes[truth.labels == label]
        overlap = overlaps(found.boxes[mine], wanted)
        for row in overlap:
            best = int(row.argmax()) if len(row) else -1
            hits.append(best >= 0 and row[best] >= iou)
            if hits[-1]:
                overlap[:, best] = -1  # taken
        scores.extend(found.scores[mine].tolist())
        total += len(wanted)
    true = np.cumsum(np.array(hits, bool)[np.argsort(-np.array(scores), kind="stable")])
    precision = true / np.arange(1, len(true) + 1)
    best_beyond = np.maximum.accumulate(precision[::-1])[::-1]
    gained = np.diff(true, prepend=0) / total
    return float((gained * best_beyond).sum())


def _cells(raw: Floats) -> Floats:
    """(N, C, h, w) to (N, h * w, C)."""
    return raw.reshape(*raw.shape[:2], -1).transpose(0, 2, 1)


def _boxes(raw: Floats, stride: int) -> Floats:
    """(N, 4, h, w), offset of the centre from the cell's and log of the size, in cells: to boxes (N, h * w, 4)."""
    height, width = raw.shape[2:]
    y, x = np.mgrid[:height, :width].reshape(2, 1, -1) + np.float32(0.5)
    offset_x, offset_y, log_width, log_height = np.moveaxis(_cells(raw), 2, 0)
    x, y = x + offset_x, y + offset_y
    half_width, half_height = (np.exp(np.minimum(log, LARGEST)) / 2 for log in (log_width, log_height))
    edges = np.stack([x - half_width, y - half_height, x + half_width, y + half_height], axis=2)
    return (edges * stride).astype(np.float32)
