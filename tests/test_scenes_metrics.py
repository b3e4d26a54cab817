"""Decoding and mean average precision of the scenes detector, against cases worked out by hand."""

import numpy as np
import pytest

from export_models.scenes.metrics import MAPS, Detections, Truth, decode, mean_average_precision, overlaps


def found(*objects: tuple[list[float], float, int]) -> Detections:
    boxes, scores, labels = zip(*objects, strict=True) if objects else ((), (), ())
    return Detections(np.array(boxes, "f").reshape(-1, 4), np.array(scores, "f"), np.array(labels, np.int64))


def truth(*objects: tuple[list[float], int]) -> Truth:
    boxes, labels = zip(*objects, strict=True) if objects else ((), ())
    return Truth(np.array(boxes, "f").reshape(-1, 4), np.array(labels, np.int64))


A, B, C = [0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]


def test_overlaps() -> None:
    a = np.array([A, [5, 0, 15, 10], [0, 0, 0, 0]], "f")
    assert overlaps(a, np.array([A, B], "f")).tolist() == [[1, 0], [np.float32(50 / 150), 0], [0, 0]]


@pytest.mark.parametrize(
    ("results", "truths", "expected"),
    [
        # precision 1 at recall 1/2; a false one; 2/3 at recall 1
        ([found((A, 0.9, 1), (C, 0.8, 1), (B, 0.7, 1))], [truth((A, 1), (B, 1))], (1 + 2 / 3) / 2),
        # precision 0, 1/2, 2/3: at recall 1/2 the better precision beyond counts
        ([found((C, 0.9, 1), (A, 0.8, 1), (B, 0.7, 1))], [truth((A, 1), (B, 1))], 2 / 3),
        # the order within a result is no matter, the scores are
        ([found((B, 0.7, 1), (A, 0.8, 1), (C, 0.9, 1))], [truth((A, 1), (B, 1))], 2 / 3),
        # the second detection of one truth is false
        ([found((A, 0.9, 1), (A, 0.8, 1), (B, 0.7, 1))], [truth((A, 1), (B, 1))], (1 + 2 / 3) / 2),
        # half of the truths are never found
        ([found((A, 0.9, 1))], [truth((A, 1), (B, 1))], 1 / 2),
        # one class right, one found under a wrong name; class 5 has no truths and does not count
        ([found((A, 0.9, 1), (B, 0.9, 5))], [truth((A, 1), (B, 2))], 1 / 2),
        # of two for one truth the surer takes it, wherever it stands
        ([found((A, 0.7, 1), (A, 0.9, 1))], [truth((A, 1))], 1),
        # a box on another image is false; the surest of all images comes first
        ([found((B, 0.9, 1)), found((B, 0.8, 1))], [truth((A, 1)), truth((B, 1))], 1 / 4),
        ([found((B, 0.8, 1)), found((B, 0.9, 1))], [truth((A, 1)), truth((B, 1))], 1 / 2),
        # the surer one takes the truth that it overlaps most, the other what is left
        ([found(([2, 0, 12, 10], 0.9, 1), (A, 0.8, 1))], [truth((A, 1), ([3, 0, 13, 10], 1))], 1),
        ([found()], [truth((A, 1))], 0),
    ],
)
def test_mean_average_precision(results: list[Detections], truths: list[Truth], expected: float) -> None:
    assert mean_average_precision(results, truths) == pytest.approx(expected)


def test_an_overlap_of_just_iou_is_enough() -> None:
    results, truths = [found(([0, 0, 10, 5], 0.9, 1))], [truth((A, 1))]
    assert mean_average_precision(results, truths, 0.5) == 1
    assert mean_average_precision(results, truths, 0.51) == 0


def test_precision_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no truth to compare with"):
        mean_average_precision([found((A, 0.9, 1))], [truth()])
    with pytest.raises(ValueError, match="got 1 and 0"):
        mean_average_precision([found()], [])


def outputs(images: int = 1) -> list[np.ndarray]:
    """Of an input of 32x48: nothing anywhere."""
    return [
        np.full((images, channels, *side), value, "f")
        for side in ((4, 6), (2, 3))
        for channels, value in ((4, 0), (10, -20))
    ]


def test_decode_places_boxes_in_pixels() -> None:
    maps = outputs(images=2)
    # of stride 8, centre (3.5 + 0.25, 2.5 - 0.5) cells, 2 by 3 cells; of stride 16, centre (0.5, 1.5), 1 by 1/2
    maps[0][1, :, 2, 3] = 0.25, -0.5, np.log(2), np.log(3)
    maps[1][1, 7, 2, 3] = 0
    maps[2][1, :, 1, 0] = 0, 0, 0, np.log(0.5)
    maps[3][1, 4, 1, 0] = np.log(3)
    none, two = decode(maps)
    assert none.boxes.shape == (0, 4)
    assert two.labels.tolist() == [4, 7]  # the surest first
    np.testing.assert_allclose(two.scores, [0.75, 0.5], rtol=1e-6)
    np.testing.assert_allclose(two.boxes, [[0, 20, 16, 28], [22, 4, 38, 28]], rtol=1e-6)
    assert decode(maps, threshold=0.6)[1].labels.tolist() == [4]
    assert decode(maps, limit=1)[1].labels.tolist() == [4]


def test_of_two_proposals_for_one_object_the_surer_stays() -> None:
    maps = outputs()
    for column, label, logit in ((1, 3, 1), (2, 5, 2), (5, 5, 0)):
        maps[0][0, 2:, 1, column] = np.log(4)  # 32 pixels wide, 8 from one to the next: an overlap of 0.6
        maps[1][0, label, 1, column] = logit
    assert decode(maps)[0].labels.tolist() == [5, 5]
    assert decode(maps, iou=0.7)[0].labels.tolist() == [5, 3, 5]


def test_a_broken_network_finds_nothing_and_warns_of_nothing() -> None:
    maps = outputs()
    maps[0][:, 0] = np.nan
    maps[1][:] = 500
    maps[2][:, 2:] = -500
    maps[3][:, :, 0] = np.nan
    maps[3][:, :, 1] = -500
    assert len(decode(maps)[0].labels) == 0
    maps[0][:, 0] = np.inf
    maps[2][:, 3] = 500
    assert len(decode(maps)[0].labels) == 0


def test_decode_counts_the_outputs() -> None:
    with pytest.raises(ValueError, match=f"4 outputs {', '.join(MAPS)}; got 3"):
        decode(outputs()[:3])
