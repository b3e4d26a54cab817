"""The process of the builder: it aborts, takes too long, is interrupted, finds the disk full."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.small_onnx import names, save
from onnx import numpy_helper

from simam_deploy.engines import run_worker
from simam_deploy.engines.builder import build_engine
from simam_deploy.engines.inspection import inspect
from simam_deploy.errors import BuildError, OutputError

needs_builder = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
SHAPES = {"x": [(1, 3, 16, 16), (1, 3, 32, 32), (8, 3, 64, 64)]}


def speak(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let `script` be the builder process."""
    head = "import json, os, signal, sys, time\ndef say(**line): print(json.dumps(line), flush=True)\n"
    monkeypatch.setattr(run_worker, "WORKER", (sys.executable, "-c", head + script))


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_an_abort_of_the_builder_ends_in_words(static: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = static.with_name("e")
    out.write_bytes(b"vtrt, an old one")
    speak(
        monkeypatch,
        "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "open(json.load(sys.stdin)['engine'], 'wb').write(b'half')\n"
        "say(log='ERROR: this is wrong'); sys.stdout.write('{\"do'); sys.stdout.flush()\n"
        "sys.stderr.write('terminate called\\n'); sys.stderr.flush(); os.abort()",
    )
    with pytest.raises(BuildError, match=r"(?s)by SIGABRT, at 'start'; .*ERROR: this is wrong\n  terminate called"):
        build_engine(static, out, targets=["sm86"])
    assert out.read_bytes() == b"vtrt, an old one"
    assert names(static.parent) == ["e", "model.onnx"]


def test_a_builder_that_ends_without_a_result(static: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speak(monkeypatch, "say(stage='parse'); sys.exit(3)")
    with pytest.raises(
        BuildError, match=r"ended with status 3, no result, at 'parse'; its last lines:\n  none\n.*--form primitive"
    ):
        build_engine(static, static.with_name("e"), targets=["sm86"])


def test_a_builder_that_takes_too_long(static: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speak(monkeypatch, "time.sleep(60)")
    start = time.monotonic()
    with pytest.raises(BuildError, match=r"(?s)was stopped after 0\.3 s, at 'start'.*--timeout"):
        build_engine(static, static.with_name("e"), targets=["sm86"], timeout_s=0.3)
    assert time.monotonic() - start < 30
    assert names(static.parent) == ["model.onnx"]


@pytest.mark.skipif(sys.platform == "win32", reason="looks for the process as POSIX does")
def test_ctrl_c_ends_the_builder(static: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids: list[int] = []

    def interrupt(stage: str) -> None:
        pids.append(int(stage))
        raise KeyboardInterrupt

    speak(monkeypatch, "say(stage=str(os.getpid())); time.sleep(60)")
    with pytest.raises(KeyboardInterrupt):
        build_engine(static, static.with_name("e"), targets=["sm86"], on_progress=interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
    assert names(static.parent) == ["model.onnx"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_ctrl_c_ends_a_builder_that_does_not_listen(static: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process goes on, so the worker does not end with it."""
    pids: list[int] = []

    def interrupt(stage: str) -> None:
        pids.append(int(stage))
        raise KeyboardInterrupt

    monkeypatch.setattr(run_worker, "PATIENCE_S", 0.1)
    speak(
        monkeypatch,
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); say(stage=str(os.getpid()))\nwhile True: time.sleep(60)",
    )
    with pytest.raises(KeyboardInterrupt):
        build_engine(static, static.with_name("e"), targets=["sm86"], on_progress=interrupt)
    assert _state(pids[0]) == "Z"
    assert names(static.parent) == ["model.onnx"]


def test_a_file_that_is_gone_for_the_builder(static: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speak(monkeypatch, "say(os_error=[2, 'No such file', '/gone/model.onnx'])")
    with pytest.raises(BuildError, match=r"the engine builder has no /gone/model\.onnx: No such file"):
        build_engine(static, static.with_name("e"), targets=["sm86"])


def test_a_builder_that_prints_much(static: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speak(monkeypatch, "sys.stderr.write('x' * 10**7 + '\\nlast'); sys.exit(3)")
    with pytest.raises(BuildError, match=r"last") as raised:
        build_engine(static, static.with_name("e"), targets=["sm86"])
    assert len(str(raised.value)) < 5000


def test_a_disk_that_is_full_for_the_builder(static: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speak(monkeypatch, f"say(os_error=[{errno.ENOSPC}, 'No space left on device', json.load(sys.stdin)['engine']])")
    with pytest.raises(OutputError, match="the disk is full"):
        build_engine(static, static.with_name("e"), targets=["sm86"])
    assert names(static.parent) == ["model.onnx"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_the_worker_ends_with_its_parent(stop: signal.Signals, static: Path) -> None:
    """Killed too: then nothing in the parent can end it."""
    script = (
        "import sys, threading\n"
        "from simam_deploy.engines import builder, run_worker\n"
        "run_worker.WORKER = (sys.executable, '-c', sys.argv[3])\n"
        "builder.build_engine(sys.argv[1], sys.argv[2], targets=['sm86'], on_progress=lambda s: print(s, flush=True))"
    )
    worker = (
        "import json, os, sys, time\n"
        "from simam_deploy.processes.with_parent import end_with\n"
        "end_with(json.load(sys.stdin)['parent'])\n"
        "print(json.dumps({'stage': str(os.getpid())}), flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(static), str(static.with_name("e")), worker]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout is not None
        worker_id = int(parent.stdout.readline())
        parent.send_signal(stop)
        parent.wait(10)
    deadline = time.monotonic() + 1
    while Path(f"/proc/{worker_id}").exists() and "Z" not in _state(worker_id) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{worker_id}").exists() or "Z" in _state(worker_id)
    if stop == signal.SIGINT:
        assert names(static.parent) == ["model.onnx"]


def _state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@needs_builder
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("at", ["parse", "build sm86", "write"])
def test_the_real_builder_is_cancelled(at: str, dynamic: Path) -> None:
    """In each stage; nothing is left, and it takes less than the time after which it is killed."""
    log: list[str] = []
    start = 0.0

    def interrupt(stage: str) -> None:
        nonlocal start
        if stage.startswith(at):
            start = time.monotonic()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(dynamic, dynamic.with_name("e"), targets=["sm86"], shapes=SHAPES, on_progress=interrupt)
    assert time.monotonic() - start < run_worker.PATIENCE_S + 5
    assert names(dynamic.parent) == ["model.onnx"]
    assert not log


@needs_builder
def test_two_builds_of_one_engine_leave_one_of_them_whole(static: Path, tmp_path: Path) -> None:
    """Of the first or of the second, and the manifest of that one."""
    folder = tmp_path / "other"
    folder.mkdir()
    other = save(folder, "g (float[1,3,8,8] x) => (float[1,3,8,8] y) { a = Exp(x) y = Tanh(a) }")
    out = tmp_path / "net.engine"
    ready = threading.Barrier(2)

    def build(model: Path) -> None:
        ready.wait(10)
        build_engine(model, out, targets=["sm86"])

    for _ in range(2):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(build, (static, other)))
        found = inspect(out)
        assert found.disagreements == ()
        assert sorted(inspect(out, against=model).disagreements != () for model in (static, other)) == [False, True]
        assert names(tmp_path) == ["model.onnx", "net.engine", "net.engine.json", "other"]


@needs_builder
@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
@pytest.mark.parametrize("limit", [4096, 100_000], ids=["the first bytes", "in the middle"])
def test_no_room_for_the_engine(limit: int, dynamic: Path) -> None:
    """The worker and this process are told EFBIG by the system, as of a full disk, and the old pair stays."""
    out = dynamic.with_name("net.engine")
    build_engine(dynamic, out, targets=["sm86"], shapes=SHAPES)
    assert out.stat().st_size > limit
    before = {path: path.read_bytes() for path in dynamic.parent.iterdir()}
    script = (
        "import resource, sys; from simam_deploy.engines.builder import build_engine\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        f"build_engine(sys.argv[1], sys.argv[2], targets=['sm89'], shapes={SHAPES})"
    )
    command = [sys.executable, "-c", script, str(dynamic), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert f"OutputError: cannot write {out}: it is too large; make room, or choose another place" in done.stderr
    assert {path: path.read_bytes() for path in dynamic.parent.iterdir()} == before


@needs_builder
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mappings on Linux alone")
def test_a_builder_that_takes_too_much_memory(tmp_path: Path) -> None:
    model = onnx.load(save(tmp_path, "g (float[1,4096] x) => (float[1,4096] y) { y = MatMul(x, w) }"))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((4096, 4096), np.float32), "w"))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(BuildError, match=r"\nit had --memory 256 MiB; raise that, or leave it out$"):
        build_engine(tmp_path / "model.onnx", tmp_path / "e", targets=["sm86"], memory_mb=256)
    assert names(tmp_path) == ["model.onnx"]
