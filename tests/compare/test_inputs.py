"""Inputs that are made or given: what arrives at the model, and the words for what cannot."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from simam_deploy.compare.inputs import ADVERSARIAL, MADE, MEAN, STD, Case, cases, resolve
from simam_deploy.errors import InputError
from simam_deploy.runtimes.session import TensorSpec

F32 = np.dtype(np.float32)
X = TensorSpec("x", F32, ("n", 3, "h", "w"))
FIXED = TensorSpec("x", F32, (2, 3, 4, 5))


def only(what: str | Path, *specs: TensorSpec, sizes: list[tuple[int, ...]] | None = None, seed: int = 0) -> Case:
    (case,) = cases([str(what)], specs, sizes=sizes, seed=seed)
    return case


@pytest.mark.parametrize("name", MADE)
def test_each_made_input_has_the_type_and_size_of_the_model(name: str) -> None:
    case = only(name, FIXED)
    ((x,),) = case.feeds
    assert case.name == name
    assert x.shape == (2, 3, 4, 5)
    assert x.dtype == np.float32
    assert np.isfinite(x).all()


def test_made_inputs_are_what_their_names_say() -> None:
    made = {name: only(name, X, sizes=[(2, 3, 40, 50)]).feeds[0][0].astype(np.float64) for name in MADE}
    assert np.ptp(made["constant"], axis=(2, 3)).max() == 0
    assert np.ptp(made["constant"]) > 0.1
    assert abs(made["offset"].mean() - 1000) < 1
    assert 0.9 < made["offset"].std() < 1.1
    assert 0.9e-2 < made["faint"].std() < 1.1e-2
    assert (made["outlier"][..., -1, -1] == 1000).all()
    assert np.abs(made["outlier"][..., 0, 0]).max() < 10
    assert (40 * 50 * made["large"].var(axis=(2, 3))).min() > np.finfo(np.float16).max
    assert np.abs(made["large"]).max() < np.finfo(np.float16).max
    assert made["uniform"].min() >= 0
    assert made["uniform"].max() < 1


def test_adversarial_is_all_of_them_in_order() -> None:
    assert [case.name for case in cases(["adversarial", "uniform"], [FIXED])] == [*ADVERSARIAL, "uniform"]


def test_a_seed_gives_the_same_numbers_again() -> None:
    first, again, other = (only("plain", FIXED, seed=s).feeds[0][0] for s in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_dynamic_axes_with_and_without_sizes() -> None:
    assert only("plain", X).feeds[0][0].shape == (2, 3, 64, 96)
    assert only("plain", X, sizes=[(1, 3, 8, 9)]).feeds[0][0].shape == (1, 3, 8, 9)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((None, 3, None, None), (2, 3, 64, 96)),
        (("n", 3, "s", "s"), (2, 3, 64, 64)),
        (("n", 3, 32, "w"), (2, 3, 32, 96)),
        (("n", 3, "h", 32), (2, 3, 64, 32)),
        (("n", 3, "d", "h", "w"), (2, 3, 64, 64, 96)),
        (("n", 3, "t"), (2, 3, 64)),
        (("n",), (2,)),
        ((), ()),
    ],
)
def test_a_plane_is_no_square_unless_its_axes_have_one_name(
    shape: tuple[int | str | None, ...], size: tuple[int, ...]
) -> None:
    assert resolve(TensorSpec("v", F32, shape), None) == size


@pytest.mark.parametrize("shape", [(), (5,), (2, 5), (2, 3, 5)])
@pytest.mark.parametrize("name", MADE)
def test_inputs_of_fewer_axes(name: str, shape: tuple[int, ...]) -> None:
    ((x,),) = only(name, TensorSpec("v", F32, shape)).feeds
    assert x.shape == shape


WHOLE = {np.uint8: (0, 255), np.int8: (-128, 127), np.uint16: (0, 65535), np.int16: (-32768, 32767), np.bool_: (0, 1)}
RANGES = [
    *((dtype, None, ends) for dtype, ends in WHOLE.items()),
    *((dtype, None, (0, 9)) for dtype in (np.int32, np.int64, np.uint32, np.uint64)),
    (np.int64, (0, 4), (0, 4)),
    (np.int32, (-3, 1), (-3, 1)),
    (np.int64, (5, 5), (5, 5)),
    (np.uint8, (0, 999), (0, 255)),
    (np.uint8, (-3, 20), (0, 20)),
]


@pytest.mark.parametrize(("dtype", "given", "ends"), RANGES)
def test_integers_go_over_what_they_may_hold(
    dtype: type, given: tuple[int, int] | None, ends: tuple[int, int]
) -> None:
    low, high = ends
    spec = TensorSpec("ids", np.dtype(dtype), (4, 30, 50), given)
    made = {case.name: case.feeds[0][0] for case in cases(list(MADE), [spec])}
    for array in made.values():
        assert (array.dtype, array.shape) == (dtype, (4, 30, 50))
        assert low <= array.min() <= array.max() <= high
    assert np.ptp(made["plain"].astype(float)) > 0.98 * (high - low) - 1
    assert np.ptp(made["uniform"].astype(float)) > 0.98 * (high - low) - 1
    assert set(np.unique(made["large"])) == {low, high}
    assert (made["outlier"][:, -1, -1] == high).all()
    assert made["offset"].min() >= max(low, high - 9)
    assert made["offset"].max() == high
    assert len(np.unique(made["faint"])) <= 2
    assert (made["constant"] == made["constant"][:, :1, :1]).all()


@pytest.mark.parametrize("shape", [(), (5,), (2, 5)])
def test_integers_of_fewer_axes(shape: tuple[int, ...]) -> None:
    for case in cases(list(MADE), [TensorSpec("n", np.dtype(np.uint8), shape)]):
        assert case.feeds[0][0].shape == shape


def test_an_index_for_which_there_is_no_value() -> None:
    with pytest.raises(InputError, match="input 'ids' is an index for which the graph leaves no value"):
        only("plain", TensorSpec("ids", np.dtype(np.int64), (2,), (0, -1)))


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_floats(dtype: type) -> None:
    assert {
        case.feeds[0][0].dtype for case in cases(["adversarial"], [TensorSpec("x", np.dtype(dtype), (1, 2, 4, 4))])
    } == {np.dtype(dtype)}


@pytest.mark.parametrize(
    ("what", "spec", "sizes", "words"),
    [
        (
            ["bogus"],
            X,
            None,
            r"'bogus' names no inputs; there are plain, .*adversarial .*FILE.npz, a folder of pictures",
        ),
        ([], X, None, "no inputs are named; name one or more of plain"),
        (["plain"], X, [(1, 3, 8)], r"input 'x' has shape .*; \(1, 3, 8\) does not fit it"),
        (["plain"], X, [(1, 4, 8, 8)], "does not fit it"),
        (["plain"], X, [], r"0 sizes are given; the model has 1 inputs: x: float32\[n, 3, h, w\]"),
        (["plain"], X, [(1, 3, 8, 8)] * 2, "2 sizes are given"),
        (["plain"], TensorSpec("x", F32, None), None, "declares no shape.*give an .npz"),
        (["plain"], TensorSpec("s", np.dtype(object), (2,)), None, "nothing is made for input 's' of type object"),
        (["plain"], TensorSpec("s", np.dtype(np.complex64), (2,)), None, "of type complex64"),
    ],
)
def test_inputs_that_cannot_be_made(
    what: list[str], spec: TensorSpec, sizes: list[tuple[int, ...]] | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        list(cases(what, [spec], sizes=sizes))


def ramp(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_npz_by_name_whatever_the_order_and_whatever_else_is_in_it(tmp_path: Path) -> None:
    a, b = ramp(4, 3), ramp(4, 2)
    np.savez(tmp_path / "in.npz", labels=np.arange(4), b=b, a=a)
    case = only(tmp_path / "in.npz", TensorSpec("a", F32, ("n", 3)), TensorSpec("b", F32, ("n", 2)))
    assert case.name == "in.npz"
    np.testing.assert_array_equal(case.feeds[0][0], a)
    np.testing.assert_array_equal(case.feeds[0][1], b)
    assert case.note == "in.npz: left out, as the model has no inputs of these names: labels"
    np.savez(tmp_path / "in.npz", a=a, b=b, **{f"k{at}\n": a for at in range(8)})
    case = only(tmp_path / "in.npz", TensorSpec("a", F32, ("n", 3)), TensorSpec("b", F32, ("n", 2)))
    assert case.note.endswith(r"these names: k0\n, k1\n, k2\n, k3\n, k4\n and 3 more")
    np.savez(tmp_path / "in.npz", b=b, a=a)
    assert only(tmp_path / "in.npz", TensorSpec("a", F32, ("n", 3)), TensorSpec("b", F32, ("n", 2))).note == ""


def test_npz_by_position(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", ramp(4, 3), ramp(4, 2))
    case = only(tmp_path / "in.npz", TensorSpec("a", F32, ("n", 3)), TensorSpec("b", F32, ("n", 2)))
    assert [array.shape for array in case.feeds[0]] == [(4, 3), (4, 2)]


@pytest.mark.parametrize("compressed", [True, False])
def test_npz_is_cut_into_the_batches_that_the_model_takes(tmp_path: Path, compressed: bool) -> None:
    x = ramp(6, 3, 4, 5)
    (np.savez_compressed if compressed else np.savez)(tmp_path / "in.npz", x=x)
    whole = only(tmp_path / "in.npz", X).feeds
    assert len(whole) == 1
    np.testing.assert_array_equal(whole[0][0], x)
    parts = only(tmp_path / "in.npz", FIXED).feeds
    assert [feed[0].shape for feed in parts] == [(2, 3, 4, 5)] * 3
    np.testing.assert_array_equal(np.concatenate([feed[0] for feed in parts]), x)


def test_npz_for_a_model_that_declares_no_shape(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=ramp(6, 7))
    assert only(tmp_path / "in.npz", TensorSpec("x", F32, None)).feeds[0][0].shape == (6, 7)


def test_npz_with_inputs_that_are_no_batches(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=ramp(4, 3), s=np.float32(2))
    specs = TensorSpec("x", F32, (2, 3)), TensorSpec("s", F32, ())
    assert [[a.shape for a in feed] for feed in only(tmp_path / "in.npz", *specs).feeds] == [[(2, 3), ()]] * 2
    np.savez(tmp_path / "in.npz", x=ramp(1, 3), anchors=ramp(5, 2))
    specs = TensorSpec("x", F32, (1, 3)), TensorSpec("anchors", F32, (5, 2))
    assert [[a.shape for a in feed] for feed in only(tmp_path / "in.npz", *specs).feeds] == [[(1, 3), (5, 2)]]


def test_npz_takes_the_float_type_of_the_model(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=ramp(2, 3).astype(np.float64))
    assert only(tmp_path / "in.npz", TensorSpec("x", np.dtype(np.float16), ("n", 3))).feeds[0][0].dtype == np.float16


@pytest.mark.parametrize(
    ("arrays", "specs", "words"),
    [
        ({}, [X], "holds nothing; the model's inputs are x"),
        ({"y": ramp(1, 3, 4, 5), "z": ramp(1)}, [X], "holds y, z; the model's inputs are x"),
        ({"x": ramp(1, 3, 4, 5)}, [X, TensorSpec("y", F32, (1,))], "holds x; the model's inputs are x, y"),
        ({"x": ramp(3, 4, 5)}, [X], r"shape \(3, 4, 5\) does not fit 'x'"),
        ({"x": ramp(1, 4, 4, 5)}, [X], r"shape \(1, 4, 4, 5\) does not fit 'x'"),
        ({"x": ramp(3, 3, 4, 5)}, [FIXED], "holds 3 examples; the model takes 2 at a time"),
        ({"x": ramp(0, 3, 4, 5)}, [X], "holds 0 examples; the model takes one or more"),
        ({"x": ramp(1, 3, 4, 5).astype(complex)}, [X], "array of complex128 does not fit 'x' of float32"),
        ({"x": np.full((1, 3, 4, 5), "a")}, [X], "array of <U1 does not fit 'x' of float32"),
        ({"i": ramp(2, 3)}, [TensorSpec("i", np.dtype(np.int64), ("n", 3))], "float32 does not fit 'i' of int64"),
        ({"x": np.array([1, None], dtype=object)}, [X], "Object arrays cannot be loaded"),
        (
            {"a": ramp(4, 3), "b": ramp(2, 3)},
            [TensorSpec("a", F32, ("n", 3)), TensorSpec("b", F32, ("n", 3))],
            "unlike numbers of examples: a 4, b 2",
        ),
    ],
)
def test_npz_that_does_not_fit(
    tmp_path: Path, arrays: dict[str, np.ndarray], specs: list[TensorSpec], words: str
) -> None:
    np.savez(tmp_path / "in.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=words):
        only(tmp_path / "in.npz", *specs)


@pytest.mark.parametrize("compressed", [True, False])
def test_npz_truncated_or_damaged_anywhere(tmp_path: Path, compressed: bool) -> None:
    x = np.random.default_rng(0).standard_normal((1, 3, 4, 5)).astype(np.float32)
    path = tmp_path / "in.npz"
    (np.savez_compressed if compressed else np.savez)(path, x=x)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"as an .npz file of numpy.savez"):
            only(path, X)
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            only(path, X)
        except InputError:
            continue


def test_what_is_no_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", ramp(1, 3, 4, 5))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "folder.npz").mkdir()
    for name in ("array.npz", "text.npz"):
        with pytest.raises(InputError, match=f"cannot read .*{name} as an .npz file"):
            only(tmp_path / name, X)
    with pytest.raises(InputError, match=r"folder.npz is a folder; give the .npz file in it"):
        only(tmp_path / "folder.npz", X)
    with pytest.raises(InputError, match=r"there is no file .*nowhere.npz"):
        only(tmp_path / "nowhere.npz", X)


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
