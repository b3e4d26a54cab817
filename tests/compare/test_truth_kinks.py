"""Outputs at a kink, where roundings decide: the deviation of a constant map, and the order of equal numbers."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import parser
from torch import Tensor, nn

from simam_deploy import SimAM
from simam_deploy.compare.inputs import Case
from simam_deploy.compare.truth import Truth
from simam_deploy.compare.verify import Report, verify
from simam_deploy.runtimes import open_session
from simam_deploy.runtimes.session import Array, Session
from simam_deploy.to_onnx import export

Head = Callable[[Tensor], object]
VAGUE = "faint: float32 itself changes output {!r} so much that zeros would pass: it shows nothing"
RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 24, 25)).astype(np.float32)
PLAIN, FAINT = Case("plain", ((X,),)), Case("faint", ((X / 1000,),))


class Net(nn.Module):
    """On faint inputs all of its ReLUs are dead, so that `head` gets maps of one value."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.simam, self.last = nn.Conv2d(3, 8, 3), SimAM(), nn.Conv2d(8, 4, 1)
        nn.init.constant_(self.first.bias, -0.3)
        self.head = head

    def forward(self, x: Tensor) -> object:
        return self.head(self.last(torch.relu(self.simam(self.first(x)))))


def spread(y: Tensor, correction: int = 0, more: float = 0.0) -> tuple[Tensor, Tensor]:
    return y.mean((2, 3)), (y.var((2, 3), correction=correction) + more).sqrt()


def best(y: Tensor) -> tuple[Tensor, Tensor]:
    found = y.flatten(1).topk(5, 1)
    return found.values, found.indices


def best_of_zeros(y: Tensor) -> tuple[Tensor, Tensor]:
    return best(torch.relu(y - y[:, :, :1, :1]))


def opened(head: Head, dtype: str = "float32") -> Callable[[], Session]:
    return lambda: open_session(Net(head).eval(), "eager", dtype=dtype)


def compared(true: Head, other: Callable[[], Session], *cases: Case) -> Report:
    return verify({"c": other}, cases, truth=opened(true, "float64"), twin=opened(true))


def answering(head: Head, change: Callable[[list[Array]], None]) -> Callable[[], Session]:
    """`head` in float32, with what `change` makes of its outputs on faint inputs."""

    def open_it() -> Session:
        session = opened(head)()
        run = session._run

        def changed(feeds: dict[str, Array]) -> dict[str, Array]:
            made = run(feeds)
            if np.abs(feeds["x"]).max() < 0.1:
                change(list(made.values()))
            return made

        session._run = changed  # type: ignore[method-assign, assignment]
        return session

    return open_it


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize("head", [spread, best, best_of_zeros])
def test_a_right_model_that_gets_to_a_kink_is_written(head: Head, exporter: str, tmp_path: Path) -> None:
    result = export(
        Net(head),
        torch.from_numpy(X),
        tmp_path / "m.onnx",
        exporter=exporter,
        runtimes=["ort", "onnx_reference"],
        inputs=["faint"],
    )
    assert result.parity is not None
    assert result.parity.passed
    assert (tmp_path / "m.onnx").exists()


def test_an_error_as_large_as_roundings_make_at_a_kink_passes_and_shows_nothing() -> None:
    def rounded(outputs: list[Array]) -> None:
        outputs[1] += np.float32(6e-8)

    report = compared(spread, answering(spread, rounded), PLAIN, FAINT)
    assert (report.passed, report.notes) == (True, [VAGUE.format("output_1")])
    assert [row.tells for row in report.rows] == [True, True, True, False]
    report = compared(
        lambda y: spread(y)[1], answering(lambda y: spread(y)[1], lambda o: rounded([o[0], o[0]])), FAINT
    )
    assert all(row.passed for row in report.rows)
    assert not report.passed, "no case tells"


def test_a_larger_error_at_a_kink_fails() -> None:
    def wrong(outputs: list[Array]) -> None:
        outputs[1] += np.float32(2e-5)

    report = compared(spread, answering(spread, wrong), PLAIN, FAINT)
    assert [row.passed for row in report.rows] == [True, True, True, False]


@pytest.mark.parametrize("wrong", [partial(spread, correction=1), partial(spread, more=1e-3)])
def test_a_wrong_deviation_fails_by_as_much_as_without_kinks(wrong: Head) -> None:
    report = compared(spread, opened(wrong), PLAIN, FAINT)
    assert [row.passed for row in report.rows][:3] == [True, False, True]
    truth = Truth(opened(spread, "float64"), opened(spread), [PLAIN, FAINT], (), None, lambda _: None)
    before = [bound.copy() for bound in truth.bounds]
    assert truth.loosen(0)
    assert truth.loosen(1)
    assert not truth.loosen(1), "done before"
    assert np.array_equal(truth.bounds[0], before[0])
    assert np.array_equal(truth.bounds[1][0], before[1][0])
    assert truth.bounds[1][1][0] > before[1][1][0] == 0


def test_indices_that_no_rounding_changes_must_be_the_same() -> None:
    report = compared(best, opened(lambda y: (best(y)[0], best(y)[1].flip(1))), PLAIN)
    assert [row.passed for row in report.rows] == [True, False]
    assert report.notes == []


def test_a_few_labels_that_roundings_change_may_differ_with_a_note() -> None:
    def positive(y: Tensor) -> Tensor:
        """But for the first, which is compared with itself."""
        values = y.flatten(1)[:, ::5]
        limit = torch.zeros_like(values)
        limit[:, 0] = values[:, 0]
        return (values > limit).long()

    def other(outputs: list[Array]) -> None:
        outputs[0][0, 0] ^= 1

    report = compared(positive, answering(positive, other), PLAIN, FAINT)
    assert report.passed
    assert report.notes == ["faint: roundings of float32 change values of output 'output', so some may differ"]

    def many(outputs: list[Array]) -> None:
        outputs[0][:, 100:150] ^= 1

    assert not compared(positive, answering(positive, many), PLAIN, FAINT).passed


FILE = """<ir_version: 8, opset_import: ["": 17]>
    net (float[2, 3, 24, 25] x) => (float[2, 3] level, float[2, 3] spread)
    <float low = {-2}, float high = {0.3}> {
        y = Clip (x, low, high)
        mean = ReduceMean <axes = [2, 3], keepdims = 1> (y)
        c = Sub (y, mean)
        d = Mul (c, c)
        v = ReduceMean <axes = [2, 3], keepdims = 0> (d)
        spread = Sqrt (v)
        level = ReduceMean <axes = [2, 3], keepdims = 0> (y)
    }"""


def test_a_file_is_as_right_as_a_module(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(parser.parse_model(FILE), path)

    def one_ulp() -> Session:
        session = open_session(path, "ort")
        run = session._run

        def changed(feeds: dict[str, Array]) -> dict[str, Array]:
            made = run(feeds)
            made["spread"] += np.float32(3e-8)
            return made

        session._run = changed  # type: ignore[method-assign, assignment]
        return session

    cases = [PLAIN, Case("faint", ((X * 0 + 9,),))]
    report = verify(
        {"c": one_ulp},
        cases,
        truth=lambda: open_session(path, "onnx_reference", dtype="float64"),
        twin=lambda: open_session(path, "onnx_reference"),
    )
    assert (report.passed, report.notes) == (True, [VAGUE.format("spread")])


# run_with_roundings


class Inner(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        grid = torch.arange(6.0) / 2
        written = torch.zeros(2, 3)
        written.view(-1).add_(x.flatten()[:6])
        zeros = torch.zeros(400)
        return x * 3, grid.floor(), zeros.topk(5).indices, written, zeros[:3] * x[0, 0, 0, :3]


def test_roundings_are_those_of_float32_and_whole_numbers_stay() -> None:
    with open_session(Inner(), "eager", dtype="float64") as session:
        exact, some, same, others = (
            list(made.values())
            for made in (
                session.run({"x": X}),
                *(session.run_with_roundings({"x": X}, seed) or {} for seed in (0, 0, 1)),
            )
        )
    eps = np.finfo(np.float32).eps
    apart = np.abs(some[0] / exact[0] - 1)
    assert 0.9 * eps < apart.max() <= eps
    assert np.array_equal(some[1], exact[1])
    assert not np.array_equal(some[2], exact[2])
    assert np.allclose(some[3], exact[3], rtol=8 * eps)
    assert np.abs(exact[3]).max() > 0, "views are written through"
    assert not some[4].any()
    assert all(np.array_equal(a, b) for a, b in zip(some, same, strict=True))
    assert not np.array_equal(some[0], others[0])


NODES = """<ir_version: 8, opset_import: ["": 17]>
    net (float[2, 3, 24, 25] x) => (float[2, 3, 24, 25] y, float[2, 3, 24, 25] whole, int64[2, 3, 24, 5] at,
                                         float[2, 3, 36, 37] big)
    <float three = {3}, float none = {0}, int64[1] k = {5}, float[4] by = {1, 1, 1.5, 1.5}> {
        y = Mul (x, three)
        zero = Mul (x, none)
        three_of = Add (zero, three)
        whole = Floor (three_of)
        v, at = TopK (zero, k)
        big = Resize <mode = "nearest"> (x, , by)
    }"""


def test_a_file_runs_with_the_same_roundings(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(parser.parse_model(NODES), path)
    with open_session(path, "onnx_reference", dtype="float64") as session:
        exact, some = session.run({"x": X}), session.run_with_roundings({"x": X}, 0)
        assert some is not None
        assert session.run({"x": X})["y"].tolist() == exact["y"].tolist(), "the next run is exact"
    eps = np.finfo(np.float32).eps
    assert 0.9 * eps < np.abs(some["y"] / exact["y"] - 1).max() <= eps
    assert np.array_equal(some["whole"], exact["whole"])
    assert not np.array_equal(some["at"], exact["at"])
    assert some["big"].shape == (2, 3, 36, 37)
    with open_session(path, "ort") as session:
        assert session.run_with_roundings({"x": X}, 0) is None
