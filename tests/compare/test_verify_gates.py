"""A gate is compared with SimAM of the x that its session computed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.made_sessions import CASE, Made, X, truth, twin

from simam_deploy import formula
from simam_deploy.compare.gates import Tap, judge
from simam_deploy.compare.inputs import Case
from simam_deploy.compare.matrix import expose, gather
from simam_deploy.compare.verify import Report, verify
from simam_deploy.graph import onnx_file
from simam_deploy.rewrite.forms import alone
from simam_deploy.runtimes import open_session
from simam_deploy.runtimes.session import Array


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
