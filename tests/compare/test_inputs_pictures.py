"""Pictures as inputs: what arrives at the model, and the words for what cannot."""

from pathlib import Path

import numpy as np
import pytest
from helpers.input_specs import F32, FIXED, X, only
from PIL import Image

from simam_deploy.compare.inputs import cases
from simam_deploy.compare.pictures import MEAN, STD, Pictures
from simam_deploy.errors import InputError
from simam_deploy.runtimes.session import TensorSpec


def save_picture(path: Path, mode: str, size: tuple[int, int] = (9, 7), value: int = 51) -> None:
    Image.new(mode, size, value if len(mode) == 1 else (value,) * len(mode)).save(path)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1"])
def test_pictures_of_every_mode(tmp_path: Path, mode: str) -> None:
    save_picture(tmp_path / "a.png", mode)
    ((x,),) = only(tmp_path, X, sizes=[(1, 3, 4, 6)]).feeds
    assert x.shape == (1, 3, 4, 6)
    if mode in ("RGB", "L", "RGBA"):
        np.testing.assert_allclose(
            x[0], np.broadcast_to(((51 / 255 - MEAN) / STD)[:, None, None], (3, 4, 6)), rtol=1e-6
        )


def test_pictures_for_one_channel_are_grey_from_0_to_1(tmp_path: Path) -> None:
    save_picture(tmp_path / "a.png", "RGB", value=255)
    save_picture(tmp_path / "b.JPG", "RGB", value=0)
    ((x,),) = only(tmp_path, TensorSpec("x", F32, ("n", 1, 8, 8))).feeds
    assert x[:, 0, 0, 0].tolist() == [1, 0]


def test_the_axes_of_a_picture(tmp_path: Path) -> None:
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:4, :, 0] = 255  # the upper half is red
    Image.fromarray(pixels).save(tmp_path / "a.png")
    ((x,),) = only(tmp_path, X, sizes=[(1, 3, 8, 16)]).feeds
    red = x[0, 0] * STD[0] + MEAN[0]
    np.testing.assert_allclose(red, np.repeat([[1.0]] * 4 + [[0.0]] * 4, 16, axis=1), atol=1e-6)


def test_tiny_pictures_and_batches_by_name(tmp_path: Path) -> None:
    for i in range(4):
        save_picture(tmp_path / f"{i}.png", "L", (1, 1), value=i)
    case = only(tmp_path, TensorSpec("x", F32, (2, 1, 4, 4)))
    assert case.name == f"{tmp_path.name}/"
    assert [[round(float(v) * 255) for v in feed[0][:, 0, 0, 0]] for feed in case.feeds] == [[0, 1], [2, 3]]


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    for suffix in ("png", "jpg", "bmp", "webp"):
        path = tmp_path / f"p.{suffix}"
        Image.fromarray(noise).save(path)
        whole = path.read_bytes()
        for length in (0, 10, len(whole) // 2):
            path.write_bytes(whole[:length])
            with pytest.raises(InputError, match=f"cannot read the picture .*p.{suffix}"):
                only(tmp_path, X)
        path.unlink()


def test_pictures_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no picture \(.bmp, "):
        only(tmp_path, X)
    save_picture(tmp_path / "a.png", "L")
    for spec in (TensorSpec("x", F32, (1, 2, 4, 4)), TensorSpec("x", F32, (1, 3))):
        with pytest.raises(InputError, match=r"pictures need a model with one input .*; this one takes x: float32"):
            only(tmp_path, spec)
    with pytest.raises(InputError, match="pictures need a model with one input"):
        only(tmp_path, X, X)
    with pytest.raises(InputError, match="fed as floats; 'x' takes uint8"):
        only(tmp_path, TensorSpec("x", np.dtype(np.uint8), (1, 3, 4, 4)))
    with pytest.raises(InputError, match="holds 1 examples; the model takes 2 at a time"):
        only(tmp_path, FIXED)
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"b.png has more than 8 bits per pixel \(mode I;16\)"):
        only(tmp_path, X)


def test_a_picture_is_decoded_when_it_is_read(tmp_path: Path) -> None:
    for i in range(3):
        save_picture(tmp_path / f"{i}.png", "L", value=i)
    read = iter(Pictures.of(tmp_path, [X], [(1, 3, 4, 6)], mean=0, std=1 / 255))
    assert [round(float(next(read).max()), 4) for _ in range(2)] == [0, 1]
    (tmp_path / "2.png").unlink()
    with pytest.raises(InputError, match=r"there is no file .*2.png"):
        next(read)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mean": (0.5, 0.5)}, r"mean is one number, or 3 for the channels of the model; got \(0.5, 0.5\)"),
        ({"mean": float("nan")}, "mean is one number.*got nan"),
        ({"std": 0}, "std must be above 0, as pixels are divided by it; got 0"),
    ],
)
def test_statistics_that_cannot_be_used(tmp_path: Path, given: dict, words: str) -> None:
    save_picture(tmp_path / "a.png", "L")
    with pytest.raises(InputError, match=words):
        Pictures.of(tmp_path, [X], [(1, 3, 4, 6)], **given)


def test_statistics_of_the_user(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (255, 0, 51)).save(tmp_path / "a.png")
    specs = [TensorSpec("x", np.dtype(np.float32), (1, 3, 4, 4))]
    (case,) = cases([str(tmp_path)], specs, mean=0, std=1)
    np.testing.assert_allclose(case.feeds[0][0][0, :, 0, 0], [1, 0, 0.2])
    (case,) = cases([str(tmp_path)], specs, mean=[0.5, 0, 0], std=0.5)
    np.testing.assert_allclose(case.feeds[0][0][0, :, 0, 0], [1, 0, 0.4])
