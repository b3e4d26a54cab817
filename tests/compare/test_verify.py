"""Sessions compared with the truth: what passes, what fails, and what is said of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.made_sessions import CASE, Made, X, check, truth, twin

from simam_deploy.compare.inputs import Case
from simam_deploy.compare.matrix import gather
from simam_deploy.compare.outputs import EPS
from simam_deploy.compare.verify import LEAST_TOLERANCE_FACTOR, tolerance_factor, verify
from simam_deploy.errors import InputError
from simam_deploy.runtimes.session import Array, Session


def test_a_row_holds_the_error_its_share_the_signal_to_noise_and_the_worst_element() -> None:
    def one_off(x: Array) -> Array:
        y = x.copy()
        y[1, 2, 3, 4] += 1e-3
        return y

    (row,) = check(one_off).rows
    cost = np.abs(X * np.float32(1 + 2**-22) - X.astype(np.float64)).max()
    bound = LEAST_TOLERANCE_FACTOR * max(cost, EPS * np.abs(X).max())
    assert (row.case, row.session, row.output, row.worst_element) == ("plain", "candidate", "y", 1)
    assert row.max_abs_error == pytest.approx(1e-3, rel=1e-3)
    assert row.share == pytest.approx(1e-3 / bound, rel=1e-2)
    assert row.snr_db == pytest.approx(10 * np.log10((X.astype(float) ** 2).sum() / 1e-6), abs=0.01)
    assert not row.passed


@pytest.mark.parametrize(
    ("function", "passed"),
    [
        (lambda x: x, True),
        (lambda x: x * np.float32(1 + LEAST_TOLERANCE_FACTOR / 2 * 2**-22), True),
        (lambda x: x * np.float32(1 + 2 * LEAST_TOLERANCE_FACTOR * 2**-22), False),
        (lambda x: np.where(x == x[0, 0, 0, 0], np.float32(np.nan), x), False),
        (lambda x: np.where(x == x[0, 0, 0, 0], np.float32(np.inf), x), False),
        (lambda x: np.concatenate([x[:1], x[:1]]), False),
    ],
    ids=["equal", "half of the limit", "twice the limit", "one NaN", "one inf", "only batch element 0 right"],
)
def test_the_limit(function: Callable[[Array], Array], passed: bool) -> None:
    report = check(function)
    assert report.passed == passed
    assert report.as_dict()["passed"] == passed


def test_errors_are_the_worst_of_all_feeds() -> None:
    case = Case("two", ((X,), (X + 1,)))
    report = check(lambda x: x if x[0, 0, 0, 0] == X[0, 0, 0, 0] else x + 1, case)
    assert report.rows[0].max_abs_error == pytest.approx(1)
    assert report.rows[0].worst_element == 2


def test_nothing_compared_is_not_a_pass() -> None:
    assert not verify({}, [CASE], truth=truth, twin=twin).passed


def test_other_numbers_of_outputs_or_inputs_are_an_input_error() -> None:
    two = {"two": lambda: Made(lambda x: x, lambda x: x, names=("a", "b"))}
    with pytest.raises(InputError, match="two has the outputs a, b; the truth has y"):
        verify(two, [CASE], truth=truth, twin=twin)
    with pytest.raises(InputError, match=r"takes 1 inputs \(x\); 2 were given"):
        check(lambda x: x, Case("pair", ((X, X),)))


@pytest.mark.parametrize(
    ("shapes", "root"),
    [
        ([(2, 1000)], LEAST_TOLERANCE_FACTOR),
        ([(2, 3, 16, 16)], 16),
        ([(2, 3, 64, 16)], 32),
        ([(2, 1, 16384)], 128),
        ([(2, 3, 16, 32, 32)], 128),
        ([(2, 3, 16, 16), (2, 3, 4, 16, 16)], 32),
    ],
    ids=str,
)
def test_the_tolerance_factor_is_the_root_of_the_largest_plane(shapes: list[tuple[int, ...]], root: float) -> None:
    assert tolerance_factor(Case("plain", (tuple(np.zeros(shape, np.float32) for shape in shapes),))) == root


def test_progress_and_notes() -> None:
    def noted() -> Session:
        session = Made(lambda x: x)
        session.notes.append("converted")
        return session

    seen: list[str] = []
    report = verify({"candidate": noted}, [CASE], truth=truth, twin=twin, on_progress=seen.append)
    assert seen == [
        f"truth in float64 ({CASE.name})",
        f"float32 reference ({CASE.name})",
        "candidate",
        f"candidate ({CASE.name})",
    ]
    assert report.notes == ["candidate: converted"]


def test_a_truth_without_numbers_is_named() -> None:
    nothing = Case("nothing", ((np.full_like(X, np.nan),),))
    report = check(lambda x: x, nothing)
    assert not report.passed
    assert report.notes == ["nothing: the truth itself holds NaN or infinity, so nothing can equal it"]


def test_unknown_runtimes_are_listed(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="no such runtime for ONNX files: tflite; there are onnx_reference, ort, openvino"
    ):
        gather([tmp_path / "m.onnx"], [], ["tflite"], tmp_path)
