"""Samples as a stream of feeds, and the words for those that cannot be used."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.input_specs import F32, FIXED, X
from PIL import Image

from simam_deploy.compare.pictures import MEAN, STD, Pictures
from simam_deploy.errors import InputError
from simam_deploy.precision import samples as module
from simam_deploy.precision.samples import Samples
from simam_deploy.runtimes.session import TensorSpec

PLANE = TensorSpec("x", F32, ("n", 1, 4, 4))
PAIRS = TensorSpec("x", F32, (2, 1, 4, 4))


def pictures(folder: Path, count: int) -> Path:
    for i in range(count):
        Image.new("L", (5, 5), i).save(folder / f"{i:03}.png")
    return folder


def values(samples: Samples) -> list[list[int]]:
    """The first number of each sample, by feed."""
    return [np.round(feed["x"][:, 0, 0, 0] * 255).astype(int).tolist() for feed in samples]


def planes(count: int) -> np.ndarray:
    return np.tile(np.arange(count, dtype=np.float32).reshape(-1, 1, 1, 1) / 255, (1, 1, 4, 4))


def test_pictures_one_batch_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    whole = Pictures.read
    monkeypatch.setattr(Pictures, "read", lambda self, file: (read.append(file.name), whole(self, file))[1])
    samples = Samples(pictures(tmp_path, 6), [PAIRS])
    stream = iter(samples)
    assert not read
    assert next(stream)["x"].shape == (2, 1, 4, 4)
    assert read == ["000.png", "001.png"]
    assert (len(samples), samples.count) == (3, 6)
    assert values(samples) == values(samples) == [[0, 1], [2, 3], [4, 5]]


def test_a_dynamic_batch_is_one_sample(tmp_path: Path) -> None:
    assert values(Samples(pictures(tmp_path, 2), [PLANE])) == [[0], [1]]
    assert values(Samples({"x": planes(2)}, [PLANE])) == [[0], [1]]


def test_statistics_and_size(tmp_path: Path) -> None:
    folder = pictures(tmp_path, 1)
    Image.new("RGB", (5, 5), (51, 102, 153)).save(folder / "000.png")
    (feed,) = Samples(folder, [X], size=(4, 6))
    np.testing.assert_allclose(feed["x"][0, :, 0, 0], (np.array([0.2, 0.4, 0.6]) - MEAN) / STD, rtol=1e-6)
    (feed,) = Samples(folder, [X], size=(4, 6), mean=0, std=1)
    assert feed["x"].shape == (1, 3, 4, 6)
    np.testing.assert_allclose(feed["x"][0, :, 0, 0], [0.2, 0.4, 0.6], rtol=1e-6)


def test_an_npz_and_several_inputs(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", other=np.array(7), u=np.arange(4, dtype=np.float32), x=planes(4))
    samples = Samples(tmp_path / "x.npz", [PLANE, TensorSpec("u", F32, ("n",))])
    assert [feed["u"].tolist() for feed in samples] == [[0], [1], [2], [3]]
    assert samples.notes == ["x.npz: left out, as the model has no inputs of these names: other"]


def test_a_limit_takes_samples_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"x": planes(9)}
    assert values(Samples(given, [PLANE], limit=3)) == [[0], [4], [8]]
    assert values(Samples(given, [PLANE]).fewer(3)) == [[0], [4], [8]]
    assert values(Samples(given, [PAIRS], limit=5)) == [[0, 3], [5, 8]]
    assert Samples(given, [PLANE], limit=3).notes == []
    assert Samples(given, [PAIRS]).notes == ["the arrays: 8 of 9 samples are used, as batches have 2"]
    monkeypatch.setattr(module, "MOST", 4)
    assert Samples(given, [PLANE]).notes == ["the arrays: 4 of 9 samples are used; --samples N takes N"]


@pytest.mark.parametrize(
    ("given", "how", "words"),
    [
        ({"x": planes(0)}, {}, "the arrays holds no samples; give some"),
        ({"x": planes(1)}, {"limit": 0}, "0 samples are asked for; give 1 or more"),
        ({"x": planes(1)}, {"size": (4, 4)}, "--size is for pictures, and the arrays holds arrays"),
        ({"x": planes(1)}, {"mean": 0}, "--mean is for pictures"),
        ({"x": planes(1)[..., :3]}, {}, r"an array of shape \(1, 1, 4, 3\) does not fit 'x'"),
        ({"y": planes(1), "z": planes(1)}, {}, "holds y, z; the model's inputs are x"),
        ("nowhere", {}, "nowhere is not there; give a folder of pictures, or an .npz"),
        (__file__, {}, "test_samples.py is neither a folder of pictures nor an .npz; give"),
    ],
)
def test_samples_that_cannot_be_used(given: Any, how: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Samples(given, [PLANE], **how)


def test_too_few_for_a_batch() -> None:
    with pytest.raises(InputError, match="holds 1 samples; the model takes 2 at a time: give 2 or more"):
        Samples({"x": planes(1)}, [PAIRS])


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_number_that_is_not_finite_is_named(value: float) -> None:
    x = planes(3)
    x[2, 0, 1, 3] = value
    with pytest.raises(InputError, match=rf"'x' is {value} in sample 2, at \[0, 1, 3\]; take the sample away"):
        Samples({"x": x}, [PLANE])


def test_pictures_for_a_dynamic_size_need_one(tmp_path: Path) -> None:
    folder = pictures(tmp_path, 1)
    with pytest.raises(
        InputError, match=r"x: float32\[n, 3, h, w\] leaves their size open; give it as H,W with --size"
    ):
        Samples(folder, [X])
    with pytest.raises(InputError, match=r"'x' has shape \(2, 3, 4, 5\); \(2, 3, 8, 8\) does not fit it"):
        Samples(folder, [FIXED], size=(8, 8))
    with pytest.raises(InputError, match="a size of 1 or more; got --size 0,4"):
        Samples(folder, [X], size=(0, 4))
    with pytest.raises(InputError, match=r"leaves their channels open; give an \.npz"):
        Samples(folder, [TensorSpec("x", F32, ("n", "c", 4, 4))])
    with pytest.raises(InputError, match="pictures need a model with one input"):
        Samples(folder, [X, X])


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no picture"):
        Samples(tmp_path, [PLANE])


def test_inputs_of_unlike_batches() -> None:
    with pytest.raises(InputError, match=r"first axes of .* differ; samples need one batch size"):
        Samples({"x": planes(2), "y": planes(2)}, [PAIRS, TensorSpec("y", F32, (1, 1, 4, 4))])
    with pytest.raises(InputError, match="unlike numbers of samples: x 2, y 3; give as many for each input"):
        Samples({"x": planes(2), "y": planes(3)}, [PLANE, TensorSpec("y", F32, ("n", 1, 4, 4))])


def test_a_list_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"samples are a folder of pictures, an .npz, .*; got list"):
        Samples(["scans.npz"], [])
