"""Who is called when, on what, and what comes back. No wall time is asserted."""

import gc
from collections.abc import Mapping

import numpy as np
import pytest
from helpers.graphs import save, simam

from simam_deploy import open_session
from simam_deploy.compare import bench as module
from simam_deploy.compare.bench import LEAST_ROUNDS, bench
from simam_deploy.errors import InputError
from simam_deploy.runtimes import Session, TensorSpec

X = np.zeros((1, 3, 4, 4), np.float32)


class Fake(Session):
    """Writes down every call: its label, the feed it got, whether the garbage collector was on."""

    def __init__(self, label: str, calls: list, dtype: str = "float32", inputs: tuple[str, ...] = ("x",)) -> None:
        super().__init__(label)
        self.inputs = tuple(TensorSpec(name, np.dtype(dtype), None) for name in inputs)
        self.outputs = ()
        self._calls = calls

    def _run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self._calls.append((self.label, dict(feeds), gc.isenabled()))
        return {}

    def _close(self) -> None:
        pass


def test_sessions_take_turns() -> None:
    calls: list = []
    rows = bench([Fake("a", calls), Fake("b", calls)], [X], seconds=0, warmup=2)
    assert [label for label, *_ in calls] == ["a", "a", "b", "b"] * (2 + LEAST_ROUNDS)
    assert [(row.label, row.calls) for row in rows] == [(n, LEAST_ROUNDS) for n in ("copy", "a", "b")]
    assert [collecting for *_, collecting in calls] == [True] * 8 + [False] * 4 * LEAST_ROUNDS
    assert gc.isenabled()


def test_rows_are_consistent() -> None:
    copy, first, second = bench([Fake("a", []), Fake("b", [])], [X], seconds=0.01)
    for row in (copy, first, second):
        assert 0 < row.p20_us <= row.median_us <= row.p80_us
        assert row.calls == copy.calls >= LEAST_ROUNDS
        assert row.ratio_to_copy == pytest.approx(row.median_us / copy.median_us)
        assert row.ratio_to_first == pytest.approx(row.median_us / first.median_us)
    assert copy.ratio_to_copy == first.ratio_to_first == 1


def test_every_call_gets_the_copy_used_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COLD_BYTES", 5 * X.nbytes - 1)
    calls: list = []
    bench([Fake("a", calls), Fake("b", calls)], [X], seconds=0, warmup=0)
    used = [id(feeds["x"]) for _, feeds, _ in calls]
    assert len(set(used)) == 5
    assert not any(np.shares_memory(feeds["x"], X) for _, feeds, _ in calls)
    assert all(used[i] != used[i + 1] for i in range(len(used) - 1))


@pytest.mark.parametrize(("cold", "most", "copies"), [(0, 9, 2), (2**20, 9, 9)])
def test_number_of_copies_is_bounded(cold: int, most: int, copies: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COLD_BYTES", cold)
    monkeypatch.setattr(module, "MOST_COPIES", most)
    assert len(module._Pool([X])._copies) == copies


def test_feeds_go_by_position_and_are_cast_before() -> None:
    calls: list = []
    one, two = X + 1, np.arange(3)
    sessions = [Fake("a", calls, inputs=("x", "n")), Fake("b", calls, "float64", ("image", "ids"))]
    bench(sessions, [one, two], seconds=0, warmup=0)
    for label, feeds, _ in calls:
        image, ids = feeds.values()
        assert list(feeds) == (["x", "n"] if label == "a" else ["image", "ids"])
        assert image.dtype == (np.float32 if label == "a" else np.float64)
        assert ids.dtype == two.dtype
        np.testing.assert_array_equal(image, one)
        np.testing.assert_array_equal(ids, two)


Fake._takes = lambda self, spec, dtype: dtype.kind == "i" or dtype == spec.dtype


def test_progress_ends_at_one() -> None:
    seen: list[float] = []
    bench([Fake("a", [])], [X], seconds=0.01, on_progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1
    assert all(0 <= share < 1 for share in seen[:-1])


def test_the_collector_comes_back_after_an_error() -> None:
    class Fails(Fake):
        def _run(self, feeds):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bench([Fails("a", [])], [X], warmup=0)
    assert gc.isenabled()


def test_refusals() -> None:
    with pytest.raises(InputError, match="at least one open session"):
        bench([], [X])
    with pytest.raises(InputError, match="one array per input"):
        bench([Fake("a", [])], [])
    with pytest.raises(InputError, match=r"a takes 1 inputs \(x: float32\[\.\.\.\]\); got 2 arrays"):
        bench([Fake("a", [])], [X, X])


def test_real_sessions(tmp_path) -> None:
    path = save(simam(), tmp_path / "m.onnx")
    names = [("ort", None), ("openvino", None), ("onnx_reference", "float64")]
    sessions = [open_session(path, name, dtype=dtype) for name, dtype in names]
    rows = bench(sessions, [np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)], seconds=0)
    assert [row.label for row in rows] == ["copy", *(session.label for session in sessions)]
    for session in sessions:
        session.close()
