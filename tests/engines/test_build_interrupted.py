"""A build that is ended by a signal, in each stage: no worker is left, and the old engine and manifest are whole."""

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.small_onnx import names

from simam_deploy.artifacts import manifest
from simam_deploy.artifacts.atomic import staging

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the worker ends with its parent on Linux"),
    pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed"),
]
PARENT = """
import sys
from simam_deploy.engines import builder, run_worker
from simam_deploy import cli
run_worker.WORKER = (sys.executable, "-c", sys.argv[1], sys.argv[2])
run_worker.PATIENCE_S = 0.2
sys.argv = ["simam-deploy", "build", *sys.argv[3:], "--targets", "sm86"]
cli.main()
"""
WORKER = """
import ctypes, os, sys
from pathlib import Path
at = sys.argv[1]

def stop():  # as native code that hangs: the interpreter waits for it
    Path(os.environ["STOPPED"]).write_text(str(os.getpid()))
    ctypes.PyDLL(None).pause()

class Imports:
    def find_spec(self, name, path=None, target=None):
        if name == "onnx" and at == "start":
            stop()

sys.meta_path.insert(0, Imports())
from simam_deploy.engines import worker
if at != "start":
    from simam_deploy.engines import trt_build
    build, write_bytes = trt_build.build, Path.write_bytes

    def stopping(job, tell, cancelled):
        def telling(kind, what):
            tell(kind, what)
            if kind == "stage" and what.startswith(at) and at != "write":
                stop()
        return build(job, telling, cancelled)

    def half(path, content):
        write_bytes(path, bytes(content)[:1000])
        stop()

    trt_build.build = stopping
    if at == "write":
        Path.write_bytes = half
worker.main(sys.stdin.read())
"""
ENDS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143, signal.SIGKILL: -signal.SIGKILL}
"""Signals, and the exit status of the command after each."""
CASES = [(by, stage) for by in (signal.SIGINT, signal.SIGKILL) for stage in ("start", "parse", "build", "write")]
CASES += [(signal.SIGTERM, "start"), (signal.SIGTERM, "write"), (signal.SIGHUP, "build")]


@pytest.mark.parametrize(("by", "stage"), CASES, ids=lambda part: getattr(part, "name", part))
def test_nothing_is_left_of_a_build(by: signal.Signals, stage: str, static: Path, tmp_path: Path) -> None:
    """The worker hangs in native code. SIGKILL of its parent may leave a folder for what was staged, no more."""
    folder, temporary, stopped = tmp_path / "out", tmp_path / "temporary", tmp_path / "stopped"
    for made in (folder, temporary):
        made.mkdir()
    out = folder / "net.engine"
    with staging(out) as path:
        path.write_bytes(b"vtrt, an old engine")
        manifest.write({}, path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    known = {**os.environ, "STOPPED": str(stopped), "TMPDIR": str(temporary)}
    command = [sys.executable, "-c", PARENT, WORKER, stage, str(static), "-o", str(out)]
    with subprocess.Popen(command, env=known, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as parent:
        worker = _content(stopped)
        parent.send_signal(by)
        said = parent.communicate(timeout=20)[1]
    assert parent.returncode == ENDS[by], said
    deadline = time.monotonic() + 1
    while _runs(worker):
        assert time.monotonic() < deadline, "the worker is left"
        time.sleep(0.02)
    if by is signal.SIGKILL:
        assert {name: (folder / name).read_bytes() for name in before} == before
        assert all(name in before or name.startswith(".simam-deploy-") for name in names(folder))
    else:
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        assert names(temporary) == []


def _content(file: Path) -> int:
    """The number in a file that another process is about to write."""
    deadline = time.monotonic() + 30
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline, f"no {file.name}"
        time.sleep(0.01)
    return int(file.read_text())


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
