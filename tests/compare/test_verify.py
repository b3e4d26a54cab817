"""Sessions compared with the truth: what passes, what fails, and what is said of it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from benchmarks.parity import WRONG, one_wrong
from export_models import digits
from simam_deploy import formula
from simam_deploy.compare.gates import Tap, judge
from simam_deploy.compare.inputs import Case, cases
from simam_deploy.compare.matrix import NO_KERNEL, expose, gather
from simam_deploy.compare.outputs import EPS
from simam_deploy.compare.verify import LEAST_TOLERANCE_FACTOR, Report, tolerance_factor, verify
from simam_deploy.errors import InputError
from simam_deploy.graph import onnx_file
from simam_deploy.rewrite.forms import alone
from simam_deploy.runtimes import open_session
from simam_deploy.runtimes.session import Array, Session, TensorSpec
from simam_deploy.to_onnx import export

X = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)
CASE = Case("plain", ((X,),))


class Made(Session):
    """A session that computes whatever the test says."""

    def __init__(self, *functions: Callable[[Array], Array], names: tuple[str, ...] = ("y",)) -> None:
        super().__init__("made")
        self.inputs = (TensorSpec("x", np.dtype(np.float32), None),)
        self.outputs = tuple(TensorSpec(name, np.dtype(np.float32), None) for name in names)
        self._functions = functions

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return {spec.name: f(feeds["x"]) for spec, f in zip(self.outputs, self._functions, strict=True)}

    def _close(self) -> None:
        pass


def truth() -> Session:
    return Made(lambda x: x.astype(np.float64))


def twin() -> Session:
    return Made(lambda x: x * np.float32(1 + 2**-22))


def check(function: Callable[[Array], Array], case: Case = CASE) -> Report:
    return verify({"candidate": lambda: Made(function)}, [case], truth=truth, twin=twin)


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
def test_slack_is_the_root_of_the_largest_plane(shapes: list[tuple[int, ...]], root: float) -> None:
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


def gate_report(y: Callable[[Array], Array], e_lambda: float = 1e-4) -> Report:
    tap = Tap("block", "x", "y_inner", e_lambda)
    candidate = {"candidate": lambda: Made(lambda x: x, y, names=("y", "y_inner"))}
    return verify(candidate, [CASE], truth=truth, twin=twin, taps={"candidate": [tap]})


def simam(x: Array) -> Array:
    return formula.reference(x).astype(np.float32)


def test_a_gate_is_judged_on_the_x_that_its_session_computed() -> None:
    report = gate_report(simam)
    assert report.passed
    assert report.gates[0].max_gate_error < 1e-6
    assert report.gates[0].collapsed == 0


@pytest.mark.parametrize("shape", [(2, 3, 35), (2, 3, 2, 5, 7)], ids=str)
def test_gates_of_other_ranks_are_judged_over_the_whole_plane(shape: tuple[int, ...]) -> None:
    x = np.float32(1e-2) * np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    tap = Tap("block", "x", "y_inner", 1e-4)

    def judge(y: Callable[[Array], Array]) -> list[bool]:
        candidate = {"candidate": lambda: Made(lambda x: x, y, names=("y", "y_inner"))}
        report = verify(candidate, [Case("faint", ((x,),))], truth=truth, twin=twin, taps={"candidate": [tap]})
        return [gate.passed for gate in report.gates]

    def per_row(x: Array) -> Array:
        """Statistics of seven values at a time."""
        rows = x.reshape(2, 3, -1, 7)
        return np.stack([simam(rows[:, :, i : i + 1]) for i in range(rows.shape[2])], axis=2).reshape(x.shape)

    assert judge(lambda x: simam(formula.as_maps(x)).reshape(x.shape)) == [True]
    assert judge(per_row) == [False]


def test_a_collapsed_gate_fails_though_its_cosine_is_high() -> None:
    """What an overflowing half-precision sum leaves: sigmoid(½) everywhere."""
    collapsed = gate_report(lambda x: (x * 0.6224593).astype(np.float32))
    assert not collapsed.passed
    assert collapsed.rows[0].passed
    assert collapsed.gates[0].collapsed > 0.8
    assert collapsed.gates[0].max_gate_error > 0.1
    a, b = simam(X).ravel(), 0.6224593 * X.ravel()
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.97


def test_a_dead_channel_is_no_failure() -> None:
    """Behind a ReLU whole planes are 0, where the tolerance is 0 and so is the error; an error there is one."""
    dead = X.copy()
    dead[:, 1] = 0
    tap = Tap("block", "x", "y_inner", 1e-4)
    for wrong, passed in ((0, True), (1e-9, False)):

        def y(x: Array, wrong: float = wrong) -> Array:
            return np.where(x == 0, np.float32(wrong), simam(x))

        report = verify(
            {"candidate": lambda y=y: Made(lambda x: x, y, names=("y", "y_inner"))},
            [Case("dead", ((dead,),))],
            truth=truth,
            twin=twin,
            taps={"candidate": [tap]},
        )
        assert [gate.passed for gate in report.gates] == [passed]


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


def test_a_truth_without_numbers_is_named() -> None:
    nothing = Case("nothing", ((np.full_like(X, np.nan),),))
    report = check(lambda x: x, nothing)
    assert not report.passed
    assert report.notes == ["nothing: the truth itself holds NaN or infinity, so nothing can equal it"]


@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_a_wrong_lambda_fails_at_the_gate(factor: float) -> None:
    faint = Case("faint", ((np.float32(1e-2) * X,),))
    tap = Tap("block", "x", "y_inner", 1e-4)
    wrong = {
        "candidate": lambda: Made(
            lambda x: x, lambda x: formula.reference(x, factor * 1e-4).astype(np.float32), names=("y", "y_inner")
        )
    }
    report = verify(wrong, [faint], truth=truth, twin=twin, taps={"candidate": [tap]})
    assert [gate.passed for gate in report.gates] == [False]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    module, example = digits.build()
    path = tmp_path_factory.mktemp("digits") / "digits.onnx"
    export(module, example, path, dynamic=("batch",), check=False)
    return module, path


@pytest.mark.usefixtures("no_library")  # with it there is one candidate more: custom_op in ort
def test_a_network_in_all_forms_on_all_runtimes_with_gates(exported: tuple[nn.Module, Path], tmp_path: Path) -> None:
    module, path = exported
    chosen = gather([path], ["all"], ["onnx_reference", "ort", "openvino"], tmp_path, taps=True)
    with open_session(path) as session:
        given = list(cases(["adversarial"], session.inputs))
    report = verify(
        chosen.open,
        given,
        truth=lambda: open_session(module, "eager", dtype="float64"),
        twin=lambda: open_session(module, "eager"),
        taps=chosen.taps,
    )
    assert report.passed
    assert len(report.rows) == 10 * 6
    assert len(report.gates) == 10 * 6 * 3
    assert chosen.skipped == [f"custom_op · {name}: {NO_KERNEL}" for name in ("ort", "openvino")]


@pytest.mark.parametrize("name", ["population variance in the last block", "the last block left out"])
def test_a_slightly_wrong_network_fails(exported: tuple[nn.Module, Path], name: str) -> None:
    module, path = exported
    with open_session(path) as session:
        given = list(cases(["adversarial"], session.inputs))
    wrong = one_wrong(module, WRONG[name])
    report = verify(
        {"wrong": lambda: open_session(wrong, "eager")},
        given,
        truth=lambda: open_session(module, "eager", dtype="float64"),
        twin=lambda: open_session(module, "eager"),
    )
    assert not report.passed
    assert max(row.share for row in report.rows) > 10


def test_a_file_alone_is_its_own_truth(exported: tuple[nn.Module, Path], tmp_path: Path) -> None:
    _, path = exported
    chosen = gather([path], ["primitive"], ["ort"], tmp_path)
    with open_session(path) as session:
        given = list(cases(["plain"], session.inputs))
    report = verify(
        chosen.open,
        given,
        truth=lambda: open_session(path, "onnx_reference", dtype="float64"),
        twin=lambda: open_session(path, "onnx_reference"),
    )
    assert report.passed


def test_taps_at_the_edges_of_a_graph_and_without_new_outputs(tmp_path: Path) -> None:
    model, taps, _ = expose(alone("function", (2, 3, 5, 7)))
    assert taps == [Tap("simam", "x", "y", pytest.approx(1e-4))]
    assert [value.name for value in model.graph.outputs] == ["y"]
    onnx_file.save(alone("function", (2, 3, 5, 7)), tmp_path / "m.onnx")
    chosen = gather([tmp_path / "m.onnx"], [], ["ort"], tmp_path, taps=True)
    report = verify(
        chosen.open,
        [CASE],
        truth=lambda: open_session(tmp_path / "m.onnx", "onnx_reference", dtype="float64"),
        twin=lambda: open_session(tmp_path / "m.onnx", "onnx_reference"),
        taps=chosen.taps,
    )
    assert report.passed
    assert len(report.gates) == 1


def test_unknown_runtimes_are_listed(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="no such runtime for ONNX files: tflite; there are onnx_reference, ort, openvino"
    ):
        gather([tmp_path / "m.onnx"], [], ["tflite"], tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gate_without_numbers_fails(bad: float) -> None:
    """x of this runtime holds no number in one plane, so nothing can be right there, and y is anything."""
    x = X.copy()
    x[0, 0, 0, 0] = bad
    tap = Tap("block", "x", "y_inner", 1e-4)
    y = simam(X)
    y[0, 0] = 7
    assert not judge("plain", "candidate", tap, [{"x": x, "y_inner": y}]).passed
    y[0, 0] = np.nan
    assert not judge("plain", "candidate", tap, [{"x": x, "y_inner": y}]).passed


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


def gives(array: Array) -> Callable[[], Session]:
    """Sessions that return it, whatever x is."""
    return lambda: Made(lambda _: array)


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
