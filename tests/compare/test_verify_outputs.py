"""Outputs that are no plain floats: empty, integer, masks, of another shape or type."""

from collections.abc import Callable

import numpy as np
import pytest
from helpers.made_sessions import CASE, Made, X, check, gives, truth, twin

from simam_deploy.compare.inputs import Case
from simam_deploy.compare.verify import Report, verify
from simam_deploy.errors import InputError
from simam_deploy.runtimes.session import Array, Session


def test_masks_and_indices_are_compared_too() -> None:
    def run(open_session: Callable[[], Session]) -> Report:
        return verify({"candidate": open_session}, [CASE], truth=masked, twin=masked)

    def masked() -> Session:
        return Made(lambda x: x > 0, lambda x: x.argmax(axis=1), names=("mask", "index"))

    assert run(masked).passed
    assert not run(lambda: Made(lambda x: x > 1, lambda x: x.argmax(axis=1), names=("mask", "index"))).passed


@pytest.mark.parametrize(
    "function",
    [lambda x: x[..., 0], lambda x: x[:1], lambda x: x[..., :0], lambda x: x[..., None], lambda x: np.float32(0)],
    ids=["rank", "size", "empty", "another axis", "a number"],
)
def test_another_shape_fails(function: Callable[[Array], Array]) -> None:
    report = check(function)
    shape = np.shape(function(X))
    assert [(row.passed, row.max_abs_error, row.snr_db) for row in report.rows] == [(False, np.inf, -np.inf)]
    assert report.notes == [f"candidate: output 'y' has shape {shape} on plain; the truth has (2, 3, 5, 7)"]


def test_more_rows_than_the_truth_fail_where_they_begin() -> None:
    case = Case("two", ((X,), (X + 1,)))
    report = check(lambda x: x if x[0, 0, 0, 0] == X[0, 0, 0, 0] else np.concatenate([x, x]), case)
    assert [(row.passed, row.worst_element) for row in report.rows] == [(False, 2)]


NOTHING = [X[:0], X[:, :0]]


@pytest.mark.parametrize("nothing", NOTHING, ids=str)
def test_an_output_that_is_empty_in_both_is_equal_with_a_note(nothing: Array) -> None:
    """As the boxes of a detector that found none."""
    report = verify(
        {"candidate": lambda: Made(lambda x: x[..., 0] if not x.size else x)},  # empty with another rank
        [CASE, Case("none", ((nothing,), (nothing,)))],
        truth=truth,
        twin=twin,
    )
    assert [(row.case, row.passed, row.max_abs_error) for row in report.rows][1] == ("none", True, 0)
    assert report.passed
    assert report.notes == ["output 'y' is empty on none: nothing of it was compared there"]


@pytest.mark.parametrize("nothing", NOTHING, ids=str)
def test_an_output_that_is_empty_in_one_fails(nothing: Array) -> None:
    case = Case("none", ((nothing,),))
    report = check(lambda _: X, case)
    assert [row.passed for row in report.rows] == [False]
    assert f"candidate: output 'y' has shape {X.shape} on none; the truth has {nothing.shape}" in report.notes


@pytest.mark.parametrize("nothing", NOTHING, ids=str)
def test_one_output_of_two_that_is_always_empty_is_named(nothing: Array) -> None:
    def two() -> Session:
        return Made(lambda x: x, lambda _: nothing, names=("y", "boxes"))

    report = verify({"candidate": two}, [CASE, Case("more", ((X + 1,),))], truth=two, twin=two)
    assert report.passed
    assert report.notes == ["output 'boxes' is empty on any of the inputs: nothing of it was compared there"]


@pytest.mark.parametrize("nothing", NOTHING, ids=str)
def test_nothing_but_empty_outputs_is_an_input_error(nothing: Array) -> None:
    words = r"nothing was compared: y of the truth hold nothing on any of the inputs \(plain, none\); give inputs"
    with pytest.raises(InputError, match=words):
        verify({"c": truth}, [Case("plain", ((nothing,),)), Case("none", ((nothing,),))], truth=truth, twin=twin)
    assert check(lambda x: x, Case("plain", ((nothing,), (X,)))).passed
    assert not check(lambda x: x + 1, Case("plain", ((nothing,), (X,)))).passed


def test_a_size_that_hangs_on_roundings_is_named() -> None:
    """Boxes over a threshold: one is over it in float64 alone."""
    found = {"truth": 3, "twin": 2, "right": 3, "wrong": 2}

    def boxes(name: str) -> Callable[[], Session]:
        return lambda: Made(lambda x: x[0, 0, : found[name]])

    report = verify(
        {"right": boxes("right"), "wrong": boxes("wrong")}, [CASE], truth=boxes("truth"), twin=boxes("twin")
    )
    assert [row.passed for row in report.rows] == [True, False]
    assert report.notes == [
        "plain: output 'y' has the shape (3, 7) in float64 and (2, 7) in float32, so it hangs on roundings",
        "wrong: output 'y' has shape (2, 7) on plain; the truth has (3, 7)",
    ]


@pytest.mark.parametrize(
    ("true", "wrong"),
    [
        (np.array([2**53 + 1]), np.array([2**53])),
        (np.array([5_000_000, 1]), np.array([5_000_001, 1])),
        (np.array([2**64 - 1], np.uint64), np.array([2**64 - 2], np.uint64)),
        (np.array(["cat", "dog"]), np.array(["cat", "cow"])),
        (np.array([1 + 1j]), np.array([1 - 1j])),
    ],
    ids=["beyond float64", "large", "uint64", "texts", "imaginary part"],
)
def test_values_that_are_not_rounded_are_equal_or_not(true: Array, wrong: Array) -> None:
    def gives(array: Array) -> Callable[[], Session]:
        return lambda: Made(lambda _: array)

    assert verify({"c": gives(true.copy())}, [CASE], truth=gives(true), twin=gives(true)).passed
    assert not verify({"c": gives(wrong)}, [CASE], truth=gives(true), twin=gives(true)).passed


def test_labels_may_flip_as_often_as_float32_flips_them() -> None:
    """A tie that falls the other way in float32 does not excuse a map of other labels."""

    def labels(*flipped: int) -> Callable[[], Session]:
        found = np.arange(1000) % 7 * 100
        found[list(flipped)] = 50
        return lambda: Made(lambda _: found)

    def run(*flipped: int) -> bool:
        return verify({"c": labels(*flipped)}, [CASE], truth=labels(), twin=labels(3)).passed

    assert run(5)
    assert run(*range(1, 17))
    assert not run(*range(1, 1000))
    assert not run(*range(1, 40))


def test_a_float32_reference_that_overflows_does_not_excuse_an_error() -> None:
    def run(function: Callable[[Array], Array]) -> Report:
        huge = X.astype(np.float64) * 1e39
        with np.errstate(over="ignore"):
            single = huge.astype(np.float32)
        return verify(
            {"c": lambda: Made(function)},
            [CASE],
            truth=lambda: Made(lambda _: huge),
            twin=lambda: Made(lambda _: single),
        )

    assert run(lambda x: x * np.float64(1e39)).passed
    report = run(lambda x: x * np.float64(1.1e39))
    assert not report.passed
    note, of_its_type = report.notes
    assert note == "plain: in float32 the truth holds NaN or infinity; these count as no error of its own"
    assert "of type float64, and of float32 in the model" in of_its_type


INDEX = X.argmax(axis=1)


@pytest.mark.parametrize(
    ("true", "other"),
    [
        (INDEX, INDEX.astype(np.float32)),
        (INDEX.astype(np.float32), INDEX),
        (X > 0, (X > 0).astype(np.uint8)),
        (X > 0, (X > 0).astype(np.float32)),
        ((X > 0).astype(np.int64), X > 0),
        (X, X.astype(np.complex64)),
    ],
    ids=["index as float", "float as index", "mask as pixels", "mask as float", "numbers as mask", "complex"],
)
def test_the_same_values_as_another_kind_of_number_fail(true: Array, other: Array) -> None:
    assert verify({"c": gives(true)}, [CASE], truth=gives(true), twin=gives(true)).passed
    report = verify({"c": gives(other)}, [CASE], truth=gives(true), twin=gives(true))
    assert not report.passed
    assert report.notes == [f"c: output 'y' is of type {other.dtype} on plain; the truth is of {true.dtype}"]


@pytest.mark.parametrize(
    ("true", "single"),
    [
        (np.sin(1e9 * X.astype(np.float64)), np.sin(1e9 * X + 1)),
        (np.sort(X.astype(np.float64), axis=0), np.sort(X, axis=0)[::-1]),
        (INDEX, np.flip(INDEX)),
    ],
    ids=["it swings", "in another order", "labels that float32 draws by lot"],
)
def test_what_float32_itself_changes_as_much_as_zeros_would_is_no_pass(true: Array, single: Array) -> None:
    vague = "plain: float32 itself changes output 'y' so much that zeros would pass: it shows nothing"
    told = true.astype(single.dtype)
    report = verify({"c": gives(told)}, [CASE], truth=gives(true), twin=gives(single))
    assert [row.passed for row in report.rows] == [True]
    assert (report.passed, report.notes) == (False, [vague])
    both = {"c": lambda: Made(lambda _: told, lambda x: x, names=("y", "z"))}
    report = verify(
        both,
        [CASE],
        truth=lambda: Made(lambda _: true, lambda x: x.astype(np.float64), names=("y", "z")),
        twin=lambda: Made(lambda _: single, lambda x: x, names=("y", "z")),
    )
    assert (report.passed, report.notes) == (True, [vague])


@pytest.mark.parametrize("zeros", [np.zeros_like(X), np.zeros_like(INDEX), np.zeros_like(X, bool)], ids=str)
def test_zeros_that_are_right_pass_beside_an_output_that_tells(zeros: Array) -> None:
    def both() -> Session:
        return Made(lambda _: zeros, lambda x: x, names=("y", "z"))

    report = verify({"c": both}, [CASE], truth=both, twin=both)
    assert all(row.passed for row in report.rows)
    assert (report.passed, report.notes) == (True, ["output 'y' is 0 on every input (plain): it shows nothing"])
