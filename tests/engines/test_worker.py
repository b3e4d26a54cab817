"""The process of the builder: it aborts, takes too long, is interrupted, finds the disk full."""

import errno
import os
import sys
import time
from pathlib import Path

import pytest
from helpers.small_onnx import names

from simam_deploy.engines import builder
from simam_deploy.engines.builder import build_engine
from simam_deploy.errors import BuildError, OutputError


def speak(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let `script` be the builder process."""
    head = "import json, os, signal, sys, time\ndef say(**line): print(json.dumps(line), flush=True)\n"
    monkeypatch.setattr(builder, "WORKER", (sys.executable, "-c", head + script))


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_an_abort_of_the_builder_ends_in_words(static: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = static.with_name("e")
    out.write_bytes(b"old")
    speak(
        monkeypatch,
        "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "open(json.load(sys.stdin)['engine'], 'wb').write(b'half')\n"
        "say(log='ERROR: this is wrong'); sys.stdout.write('{\"do'); sys.stdout.flush()\n"
        "sys.stderr.write('terminate called\\n'); sys.stderr.flush(); os.abort()",
    )
    with pytest.raises(BuildError, match=r"(?s)ended by SIGABRT; .*ERROR: this is wrong\n  terminate called"):
        build_engine(static, out, targets=["sm86"])
    assert out.read_bytes() == b"old"
    assert names(static.parent) == ["e", "model.onnx"]


def test_a_builder_that_ends_without_a_result(static: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speak(monkeypatch, "say(stage='parse'); sys.exit(3)")
    with pytest.raises(BuildError, match=r"ended with status 3, no result; its last lines:\n  none"):
        build_engine(static, static.with_name("e"), targets=["sm86"])


def test_a_builder_that_takes_too_long(static: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speak(monkeypatch, "time.sleep(60)")
    start = time.monotonic()
    with pytest.raises(BuildError, match=r"was stopped after 0\.3 s"):
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


def test_a_disk_that_is_full_for_the_builder(static: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speak(monkeypatch, f"say(os_error=[{errno.ENOSPC}, 'No space left on device'])")
    with pytest.raises(OutputError, match="the disk is full"):
        build_engine(static, static.with_name("e"), targets=["sm86"])
    assert names(static.parent) == ["model.onnx"]
