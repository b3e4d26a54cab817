"""The op library under ONNX Runtime as a server uses it: many sessions, made and run by many threads at once."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from onnx import TensorProto, helper

from simam_deploy import formula, native

ort = pytest.importorskip("onnxruntime")

THREADS = 8
SHAPES = [(1, 3, 1, 2), (2, 3, 5, 7), (1, 64, 28, 28), (1, 17, 7, 7), (1, 2, 300, 300)]


@pytest.fixture(scope="module")
def library() -> str:
    found = native.library()
    if found is None:
        pytest.skip(native.why_not())
    return str(found.path)


def _session(library: str, e_lambda: float, threads: int):
    node = helper.make_node("SimAM", ["x"], ["y"], domain="simam", e_lambda=e_lambda)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "c", "h", "w"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "h", "w"])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("simam", formula.OP_VERSION)]
    model = helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=opsets, ir_version=8)
    options = ort.SessionOptions()
    options.register_custom_ops_library(library)
    options.intra_op_num_threads = threads
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _case(seed: int):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(SHAPES[seed % len(SHAPES)]) + seed % 3).astype(np.float32)
    return x, [1e-4, 0.1, 1.0][seed % 3]


def _assert_right(y, x, e_lambda):
    # 2 eps max|x| is what the kernel promises, of each plane
    bound = 2 * 2.0**-23 * np.abs(x).max(axis=(2, 3), keepdims=True)
    assert np.all(np.abs(y - formula.reference(x, e_lambda)) <= bound)


def _in_threads(work) -> None:
    """Run work(i) on THREADS threads that start together; the first exception is raised here."""
    failures: list[BaseException] = []
    together = threading.Barrier(THREADS)

    def run(i: int) -> None:
        try:
            together.wait()
            work(i)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_sessions_of_many_threads(library):
    """Each thread makes sessions of its own, with threads of their own, and runs them turn by turn."""

    def work(i: int) -> None:
        cases = [_case(i * 5 + k) for k in range(5)]
        sessions = [_session(library, e_lambda, threads=1 + k % 3) for k, (_, e_lambda) in enumerate(cases)]
        for _ in range(4):
            for session, (x, e_lambda) in zip(sessions, cases, strict=True):
                _assert_right(session.run(None, {"x": x})[0], x, e_lambda)

    _in_threads(work)


def test_one_session_of_many_threads(library):
    """All threads run one session at once, with different shapes; each gets the bits it would get alone."""
    session = _session(library, 1e-4, threads=2)
    inputs = [_case(seed)[0] for seed in range(2 * len(SHAPES))]
    alone = [session.run(None, {"x": x})[0] for x in inputs]

    def work(i: int) -> None:
        for k in range(10):
            which = (i + k) % len(inputs)
            np.testing.assert_array_equal(session.run(None, {"x": inputs[which]})[0], alone[which])

    _in_threads(work)


def test_the_number_of_threads_changes_no_bit(library):
    x = np.random.default_rng(0).standard_normal((1, 2, 300, 300)).astype(np.float32)
    one, *others = (_session(library, 1e-4, threads).run(None, {"x": x})[0] for threads in (1, 2, 3, 8))
    for other in others:
        np.testing.assert_array_equal(one, other)
    _assert_right(one, x, 1e-4)


def test_a_failing_run_leaves_the_session_whole(library):
    """A 1x1 map is refused, while other threads run the same session."""
    session = _session(library, 1e-4, threads=2)

    def work(i: int) -> None:
        for k in range(10):
            if (i + k) % 2:
                with pytest.raises(Exception, match="SimAM of a 1x1 map is 0/0"):
                    session.run(None, {"x": np.ones((1, 2, 1, 1), np.float32)})
            else:
                x, _ = _case(3 * i)
                _assert_right(session.run(None, {"x": x})[0], x, 1e-4)

    _in_threads(work)
