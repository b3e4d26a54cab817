"""One session, used by several threads at once: each gets the answer to its own question."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.graphs import save, simam

from simam_deploy import native, open_session
from simam_deploy.errors import RuntimeUnavailable
from simam_deploy.runtimes import Session, TensorSpec, installed
from simam_deploy.runtimes.session import Array

torch = pytest.importorskip("torch")

from simam_deploy.pytorch.module import SimAM  # noqa: E402

THREADS = 4
ROUNDS = 40
INPUTS = [np.random.default_rng(i).standard_normal((1, 3, 17 + i, 19)).astype(np.float32) for i in range(THREADS)]


class Remembers(torch.nn.Module):
    """Keeps the size of its last input and a grid of it, as detection heads do."""

    def __init__(self) -> None:
        super().__init__()
        self.simam, self.height, self.grid = SimAM(0.25), 0, torch.zeros(0)

    def forward(self, x):
        if self.height != x.shape[2]:
            self.height = x.shape[2]
            self.grid = torch.arange(x.shape[2]).reshape(-1, 1) * torch.ones(x.shape[2:])
        return self.simam(x) + self.grid


OPEN: dict[str, Callable[[Path], Session]] = {
    "eager": lambda _: open_session(Remembers().eval(), "eager"),
    "eager, threads": lambda _: open_session(Remembers().eval(), "eager", threads=1),
    "onnx_reference": lambda path: open_session(path, "onnx_reference"),
    "onnx_reference, float64": lambda path: open_session(path, "onnx_reference", dtype="float64"),
    "ort, kernel": lambda path: open_session(path, "ort", kernel="require"),
    "ort, no kernel": lambda path: open_session(path, "ort", kernel="off"),
    "openvino": lambda path: open_session(path, "openvino"),
}
if "trt_network" in installed():
    OPEN["trt_network"] = lambda path: open_session(path, "trt_network")


def others(session: Session) -> int:
    """How many of the answers are not those to the thread's own input."""
    (name,) = (spec.name for spec in session.inputs)
    truths = [session.run({name: x}) for x in INPUTS]
    start = threading.Barrier(THREADS)

    def ask(i: int) -> int:
        start.wait()
        wrong = 0
        for _ in range(ROUNDS):
            for got, true in zip(session.run({name: INPUTS[i]}).values(), truths[i].values(), strict=True):
                wrong += got.shape != true.shape or not np.allclose(got, true, rtol=0, atol=1e-5)
        return wrong

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(ask, range(THREADS)))


@pytest.mark.parametrize("runtime", OPEN)
def test_each_thread_gets_its_own_answers(runtime: str, tmp_path: Path) -> None:
    if runtime == "ort, kernel" and native.library() is None:
        pytest.skip(native.why_not())
    with OPEN[runtime](save(simam(), tmp_path / "m.onnx")) as session:
        assert others(session) == 0


class Waits(torch.nn.Module):
    """Goes on when somebody else has done something, or after a while."""

    def __init__(self, begun: threading.Event, other: threading.Event) -> None:
        super().__init__()
        self.begun, self.other = begun, other

    def forward(self, x):
        self.begun.set()
        self.other.wait(0.3)
        return x


def test_threads_of_the_process_are_put_back_whatever_runs_at_once() -> None:
    """Two runs that overlap, if they may: the second begins in the first, and ends after it."""
    before = torch.get_num_threads()
    first, second, ended = threading.Event(), threading.Event(), threading.Event()
    sessions = [
        open_session(Waits(first, second).eval(), "eager", threads=before + 1),
        open_session(Waits(second, ended).eval(), "eager", threads=before + 2),
    ]
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(sessions[0].run, {"x": INPUTS[0]})
        running.add_done_callback(lambda _: ended.set())
        assert first.wait(10)
        pool.submit(sessions[1].run, {"x": INPUTS[0]}).result(10)
    try:
        with ThreadPoolExecutor(1) as pool:  # a thread learns the number of the process when it begins
            assert pool.submit(torch.get_num_threads).result() == before
    finally:
        torch.set_num_threads(before)


class Slow(Session):
    """Says that it has begun, and goes on when it may; then it needs what `close` drops."""

    def __init__(self) -> None:
        super().__init__("slow")
        self.inputs = (TensorSpec("x", np.dtype(np.float32), None),)
        self.outputs = (TensorSpec("y", np.dtype(np.float32), None),)
        self.begun, self.may, self.weight = threading.Event(), threading.Event(), 2

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self.begun.set()
        assert self.may.wait(10)
        return {"y": feeds["x"] * self.weight}

    def _close(self) -> None:
        del self.weight


def test_a_session_that_is_closed_before_a_run_takes_the_model_is_an_error_in_words() -> None:
    session = Slow()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(session.run, {"x": INPUTS[0]})
        assert session.begun.wait(10)
        session.close()
        session.may.set()
        with pytest.raises(RuntimeUnavailable, match="slow: this session is closed; open another"):
            running.result(10)
    with pytest.raises(RuntimeUnavailable, match="slow: this session is closed; open another"):
        session.run({"x": INPUTS[0]})


def test_a_defect_in_an_open_session_keeps_its_own_error() -> None:
    session = Slow()
    session.may.set()
    del session.weight
    with pytest.raises(AttributeError, match="weight"):
        session.run({"x": INPUTS[0]})


@pytest.mark.parametrize("runtime", ["eager", "onnx_reference", "ort, no kernel", "openvino"])
def test_closing_while_others_run_is_an_error_in_words_or_a_right_answer(runtime: str, tmp_path: Path) -> None:
    path = save(simam(), tmp_path / "m.onnx")
    for _ in range(3):
        session = OPEN[runtime](path)
        truths = [session.run({"x": x}) for x in INPUTS]

        def ask(i: int, session: Session = session, truths: list[dict[str, Array]] = truths) -> int:
            for done in range(1000):
                try:
                    answer = session.run({"x": INPUTS[i]})
                except RuntimeUnavailable:
                    return done
                for name, array in answer.items():
                    np.testing.assert_allclose(array, truths[i][name], rtol=0, atol=1e-5)
            return 1000

        with ThreadPoolExecutor(THREADS) as pool:
            asked = [pool.submit(ask, i) for i in range(THREADS)]
            threading.Event().wait(0.02)
            session.close()
            assert all(future.result(60) < 1000 for future in asked)
