"""Boxes in the output of a detector, and how far those of two runs agree. NumPy alone.

A box is (left, top, right, bottom) in pixels of the input, right and bottom exclusive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simam_deploy.formula import Array

Floats = NDArray[np.float32]

SURE = 0.25
"""Score above which a box counts, as in Ultralytics' predictions."""
SUPPRESSED = 0.7
"""Overlap from which two boxes of one label are one object, as there."""
SAME = 0.5
"""Overlap from which boxes of two runs agree, as in mAP@0.5."""
MOST = 300
ROWS = "rows"
LARGEST_LABEL = 1 << 16
"""Labels are integers up to it; more would be coordinates."""


class Detections(NamedTuple):
    """Objects found on one image, the surest first: boxes (n, 4), scores (n,) from 0 to 1, labels (n,)."""

    boxes: Floats
    scores: Floats
    labels: NDArray[np.int64]


def agreement(pairs: Sequence[tuple[Array, Array]]) -> float | None:
    """Share of boxes of two runs that agree: twice their number over that of all boxes, from 0 to 1.

    pairs : for each feed, the output of one run and that of the truth, floats. Two boxes agree with one label and an
    overlap (intersection over union) of SAME or more. Only boxes of a score above SURE count.
    None if the truth holds no boxes of a kind that `kind_of` knows, or if neither run is sure of any.
    """
    matched = total = 0
    for got, true in pairs:
        kind = kind_of(true)
        if not kind or got.shape != true.shape:
            return None
        for ours, theirs in zip(_found(got, kind), _found(true, kind), strict=True):
            matched += _matched(ours, theirs)
            total += len(ours.boxes) + len(theirs.boxes)
    return 2 * matched / total if total else None


def overlaps(a: Floats, b: Floats) -> Floats:
    """Intersection over union of each box of a (n, 4) with each of b (m, 4): (n, m)."""
    corner = np.maximum(a[:, None, :2], b[None, :, :2])
    inside = np.clip(np.minimum(a[:, None, 2:], b[None, :, 2:]) - corner, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b)]
    shares: Floats = inside / np.maximum(areas[0][:, None] + areas[1][None, :] - inside, np.finfo(np.float32).tiny)
    return shares


def suppressed(found: Detections, threshold: float, iou: float, limit: int, *, by_label: bool = False) -> Detections:
    """Non-maximum suppression: of boxes that overlap by more than `iou` the surest stays.

    by_label : only among those of one label.
    At most `limit` remain, of scores above `threshold`. Boxes with a NaN or an infinity are left out.
    """
    sure = np.flatnonzero((found.scores > threshold) & np.isfinite(found.boxes).all(axis=1))
    waiting = sure[np.argsort(-found.scores[sure], kind="stable")]
    kept: list[int] = []
    while len(waiting) and len(kept) < limit:
        first, rest = waiting[0], waiting[1:]
        kept.append(int(first))
        apart = overlaps(found.boxes[first][None], found.boxes[rest])[0] <= iou
        waiting = rest[apart | (found.labels[rest] != found.labels[first])] if by_label else rest[apart]
    return Detections(found.boxes[kept], found.scores[kept], found.labels[kept])


def kind_of(true: Array) -> str:
    """How an output holds boxes, or "" if it does not.

    rows    : (N, boxes, 6) of left, top, right, bottom, score, label, as YOLO models end that need no suppression.
    columns : (N, 4 + classes, boxes) of centre, size and a score for each class, as other YOLO models end.
    """
    if true.ndim != 3 or not true.size or not np.isfinite(wide := true.astype(np.float32)).all():
        return ""
    label = wide[..., 5] if true.shape[2] == 6 else np.full(1, -1.0)
    if np.array_equal(label, np.clip(np.round(label), 0, LARGEST_LABEL)) and _are_scores(wide[..., 4]):
        return ROWS
    columns = 4 < true.shape[1] < true.shape[2] and _are_scores(wide[:, 4:]) and (wide[:, 2:4] >= 0).all()
    return "columns" if columns else ""


def are_ranked(outputs: Sequence[Array]) -> bool:
    """Whether outputs of the truth list boxes by their scores, so that a small change moves whole rows."""
    return all(kind_of(output) == ROWS for output in outputs)


def _are_scores(array: Array) -> bool:
    return bool(((array >= 0) & (array <= 1)).all())


def _found(output: Array, kind: str) -> list[Detections]:
    """The sure boxes of each image."""
    found = []
    for image in output.astype(np.float32):
        if kind == ROWS:
            sure = np.flatnonzero((image[:, 4] > SURE) & np.isfinite(image).all(axis=1) & _have_size(image))
            found.append(Detections(image[sure, :4], image[sure, 4], image[sure, 5].astype(np.int64)))
            continue
        centre, size, scores = image[:2].T, image[2:4].T, image[4:].T
        edges = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
        kept = _have_size(edges)
        proposed = Detections(edges[kept], scores[kept].max(axis=1), scores[kept].argmax(axis=1))
        found.append(suppressed(proposed, SURE, SUPPRESSED, MOST, by_label=True))
    return found


def _have_size(boxes: Array) -> NDArray[np.bool_]:
    """Of each box, whether it has one. An untrained network also gives boxes that are inside out."""
    sizes: NDArray[np.bool_] = ((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])).astype(bool)
    return sizes


def _matched(ours: Detections, theirs: Detections) -> int:
    """Number of pairs that agree. The surest of ours chooses first, the one that it overlaps most."""
    same = ours.labels[:, None] == theirs.labels[None]
    overlap = np.where(same, overlaps(ours.boxes, theirs.boxes), 0)
    count = 0
    for at in np.argsort(-ours.scores, kind="stable"):
        best = int(overlap[at].argmax()) if overlap.shape[1] else -1
        if best >= 0 and overlap[at, best] >= SAME:
            count += 1
            overlap[:, best] = 0
    return count
