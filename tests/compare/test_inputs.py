"""Inputs that are made: what arrives at the model, and the words for what cannot."""

import ml_dtypes
import numpy as np
import pytest
from helpers.input_specs import F32, FIXED, X, only

from simam_deploy.compare.inputs import ADVERSARIAL, MADE, cases, resolve
from simam_deploy.errors import InputError
from simam_deploy.runtimes.session import TensorSpec


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
