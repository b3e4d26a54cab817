"""The runtime of engines on a played GPU: its calls have the names of each TensorRT; none of it ran on a real one."""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trt_api
from helpers.graphs import BODY
from helpers.played_engine import LARGE, SMALL, write_engine
from helpers.played_gpu import PlayedGpu
from helpers.played_trt import module
from helpers.small_onnx import CALL, save

from simam_deploy import open_session
from simam_deploy.errors import InputError, RuntimeUnavailable
from simam_deploy.formula import reference
from simam_deploy.runtimes.session import KernelUse, Session

VERSIONS = [*(("tensorrt", version) for version in trt_api.VERSIONS), ("tensorrt_rtx", "1.7.1.116")]
X = [np.random.default_rng(i).standard_normal((1 + i, 3, 8 + i, 9)).astype(np.float32) for i in range(4)]
Make = Callable[..., Path]


@pytest.fixture(params=VERSIONS, ids=[f"{flavor}-{version}" for flavor, version in VERSIONS])
def trt(request: pytest.FixtureRequest, gpu: PlayedGpu, monkeypatch: pytest.MonkeyPatch) -> Any:
    flavor, version = request.param
    made = module(gpu, flavor, version)
    monkeypatch.setitem(sys.modules, flavor, made)
    return made


@pytest.fixture
def engine(trt: Any, tmp_path: Path) -> Path:
    model = save(tmp_path, CALL + BODY)
    return write_engine(tmp_path / "e.engine", model, trt.__name__, trt.__version__, [SMALL, LARGE])


def check(session: Session, x: "np.ndarray[Any, Any]") -> None:
    (y,) = session.run({"x": x}).values()
    np.testing.assert_allclose(y, reference(x, 0.1), rtol=0, atol=1e-5)
    assert y.dtype == np.float32
    assert y.flags.writeable


def test_runs_have_the_results_of_their_own_inputs(engine: Path, trt: Any, gpu: PlayedGpu) -> None:
    """Shapes of two profiles, larger and smaller by turns; a larger one moves the buffers."""
    with open_session(engine, "trt") as session:
        assert session.label == f"trt[{trt.__name__} {trt.__version__}, sm86]"
        assert session.notes == []
        assert [str(spec) for spec in (*session.inputs, *session.outputs)] == [
            "x: float32[?, 3, ?, ?]",
            "y: float32[?, 3, ?, ?]",
        ]
        for x in (*X, *reversed(X), X[0], X[0] + 1, X[3]):
            frozen = x.copy()
            frozen.setflags(write=False)
            check(session, frozen)
        check(session, np.asfortranarray(X[2]))
        assert session.kernel_use({}) == KernelUse(0, 1, "plugin")
        assert len(gpu.memory) == 2, "outgrown buffers are released"
    assert gpu.memory == {}
    with pytest.raises(RuntimeUnavailable, match="session is closed"):
        session.run({"x": X[0]})


def test_a_graph_is_captured_once_for_a_shape(engine: Path, trt: Any, gpu: PlayedGpu) -> None:
    """By us for TensorRT; TensorRT-RTX is asked to."""
    itself = trt.__name__ == "tensorrt_rtx"
    with open_session(engine, "trt", cuda_graph=True) as session:
        for x in (X[0], X[0] + 1, X[0] + 2, X[3], X[3] + 1, X[0], X[0] + 3, X[0]):
            check(session, x)
    assert trt.seen.strategies == ["whole" if itself else None]
    assert gpu.replays == (0 if itself else 5)
    assert gpu.memory == {}


def test_a_graph_is_not_asked_for_without_the_option(engine: Path, trt: Any, gpu: PlayedGpu) -> None:
    with open_session(engine, "trt") as session:
        for _ in range(3):
            check(session, X[0])
    assert (trt.seen.strategies, gpu.replays) == ([None], 0)


@pytest.mark.parametrize("contexts", [1, 2])
def test_threads_run_at_once_in_contexts_of_their_own(make: Make, plain: Any, contexts: int) -> None:
    together = threading.Barrier(2)
    met = []

    def enter() -> None:
        try:
            together.wait(0.3)
            met.append(True)
        except threading.BrokenBarrierError:
            together.reset()

    with open_session(make(), "trt", contexts=contexts) as session, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: check(session, X[i % 4]), range(40)))
        plain.seen.enter = enter
        list(pool.map(lambda i: check(session, X[i % 4]), range(2)))
        plain.seen.enter = lambda: None
    assert bool(met) == (contexts == 2)
    assert plain.seen.contexts == contexts
    assert len({stream for stream, _ in plain.seen.executed}) == contexts


def test_runs_complete_when_another_thread_closes(make: Make, plain: Any) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def enter() -> None:
        inside.set()
        assert go_on.wait(5)

    session = open_session(make(), "trt")
    plain.seen.enter = enter
    with ThreadPoolExecutor(3) as pool:
        begun = pool.submit(check, session, X[0])
        assert inside.wait(5)
        waits = pool.submit(check, session, X[1])
        closed = pool.submit(session.close)
        go_on.set()
        begun.result(5)
        closed.result(5)
        try:
            waits.result(5)
        except RuntimeUnavailable as error:
            assert "session is closed" in str(error)  # noqa: PT017


NON_ZERO = "g (float[N] x, bool[N] kept) => (int64[R,M] where, float[N] y) { where = NonZero(kept) y = Neg(x) }"


def test_sizes_that_depend_on_the_data(make: Make, gpu: PlayedGpu) -> None:
    sizes = [[1], [4], [50]]
    path = make(text=NON_ZERO, profiles=[{"x": sizes, "kept": sizes}], later=("where",))
    with open_session(path, "trt") as session:
        for size in (4, 30, 7, 30, 1):
            kept = np.arange(size) % 3 == 0
            given = {"x": np.ones(size, np.float32), "kept": kept}
            got = session.run(given)
            np.testing.assert_array_equal(got["where"], [np.flatnonzero(kept)])
            np.testing.assert_array_equal(got["y"], -given["x"])
        assert session.run({"x": given["x"], "kept": ~given["kept"]})["where"].shape == (1, 0)
        assert len(gpu.memory) == 4
    assert gpu.memory == {}
    with (
        open_session(path, "trt", cuda_graph=True) as session,
        pytest.raises(RuntimeUnavailable, match="where depends on the data: the engine cannot be captured"),
    ):
        session.run(given)


def test_a_fixed_size_needs_no_profile(make: Make) -> None:
    path = make(
        text="g (float16[2,3] x, int8[] n) => (float16[2,3] y, int8[] m) { y = Neg(x) m = Identity(n) }",
        profiles=[{}],
    )
    x = np.ones((2, 3), np.float16)
    with open_session(path, "trt") as session:
        got = session.run({"x": x, "n": np.array(3, np.int8)})
        np.testing.assert_array_equal(got["y"], -x)
        assert (got["m"].shape, got["m"]) == ((), 3)
        with pytest.raises(InputError, match=r"x: expected shape 2, 3, got \(2, 4\)"):
            session.run({"x": np.ones((2, 4), np.float16), "n": np.array(3, np.int8)})


def test_feeds_that_do_not_fit(make: Make) -> None:
    with open_session(make(), "trt") as session:
        with pytest.raises(InputError, match="x: expected float32, got float64"):
            session.run({"x": X[0].astype(np.float64)})
        words = r"""cannot run x \(9, 3, 8, 9\): it is outside of every profile of the engine:
  profile 1: x 1x3x2x2 to 1x3x16x16
  profile 2: x 1x3x2x2 to 8x3x32x32
run a size in one of them, or build the engine with --shapes"""
        with pytest.raises(InputError, match=words):
            session.run({"x": np.zeros((9, 3, 8, 9), np.float32)})
        check(session, X[0])


def test_a_run_that_fails_leaves_nothing_behind(make: Make, plain: Any) -> None:
    def fail() -> None:
        raise RuntimeError("it broke")

    with open_session(make(), "trt") as session:
        check(session, X[0])
        plain.seen.enter = fail
        with pytest.raises(RuntimeError, match="it broke"):
            session.run({"x": X[1]})
        plain.seen.enter = lambda: None
        check(session, X[1])
        plain.IExecutionContext.execute_async_v3 = lambda self, stream_handle: False
        with pytest.raises(RuntimeUnavailable, match="TensorRT refuses this run"):
            session.run({"x": X[1]})


def test_a_capture_that_fails(make: Make, plain: Any) -> None:
    with open_session(make(), "trt", cuda_graph=True) as session:
        check(session, X[0])
        plain.IExecutionContext.execute_async_v3 = lambda self, stream_handle: False
        with pytest.raises(RuntimeUnavailable, match=r"(?s)refuses this run.*open it without cuda_graph"):
            session.run({"x": X[0]})


@pytest.mark.parametrize(("flavor", "version"), [VERSIONS[1], VERSIONS[-1]])
def test_blocks_by_the_plugin(
    flavor: Any, version: str, make: Make, gpu: PlayedGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parser of TensorRT-RTX needs a link to its library; to run an engine takes none."""
    trt = module(gpu, flavor, version)
    monkeypatch.setitem(sys.modules, flavor, trt)
    library = tmp_path / "libsimam_tensorrt.so"
    own = Path(sys.executable).read_bytes()[:20]  # of this processor
    library.write_bytes(own + bytes(100))
    told = {"plugin": {"file": library.name, "sha256": "0"}, "blocks": [{"node": "a", "built": "plugin"}]}
    path = make(flavor=flavor, version=version, **told)
    monkeypatch.setenv("SIMAM_TENSORRT_PLUGIN", str(library))
    for _ in range(2):
        with open_session(path, "trt") as session:
            check(session, X[0])
            assert str(session.kernel_use({})) == "kernel (plugin)"
            assert session.notes == [f"{library} is another build of the plugin than the one e.engine was built with"]
    assert trt.seen.registered == [str(library)]
    monkeypatch.delenv("SIMAM_TENSORRT_PLUGIN")
    monkeypatch.setattr("simam_deploy.native.Compiled.find", lambda self: None)
    with pytest.raises(RuntimeUnavailable, match=r"e.engine has SimAM as our plugin, and its library is not here"):
        open_session(path, "trt")


def test_a_foreign_engine_is_run_with_a_note(make: Make) -> None:
    path = make()
    path.with_name("e.engine.json").unlink()
    with open_session(path, "trt") as session:
        check(session, X[0])
        (note,) = session.notes
        assert note.startswith("e.engine has no manifest: nothing says what it was built from")
        assert str(session.kernel_use({})) == "not seen"
