"""Arrays of an npz as inputs: what arrives at the model, and the words for what cannot."""

from pathlib import Path

import numpy as np
import pytest
from helpers.input_specs import F32, FIXED, X, only

from simam_deploy.errors import InputError
from simam_deploy.runtimes.session import TensorSpec


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
