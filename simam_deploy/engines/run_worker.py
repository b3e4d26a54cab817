"""Start the process that builds an engine, follow it, and end it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, Any

from simam_deploy.engines.flavors import RTX
from simam_deploy.engines.plugin_host import LOAD
from simam_deploy.errors import BuildError, InputError, RuntimeUnavailable
from simam_deploy.processes.python_command import environment, python_command
from simam_deploy.text import on_lines, on_one_line

WORKER = python_command("simam_deploy.engines.worker")
KINDS = {kind.__name__: kind for kind in (InputError, RuntimeUnavailable, BuildError)}
LAST_BYTES = 20_000
"""Upper bound on what is read of its stderr."""
PATIENCE_S = 2.0
"""Time that an interrupted builder has to cancel, before it is killed."""
TUNABLES = "GLIBC_TUNABLES"
STEADY_HEAP = ":".join(f"glibc.malloc.{setting}" for setting in ("arena_max=1", "tcache_count=0", "mxfast=0"))
"""One heap without caches of freed memory, on glibc. TensorRT-RTX 1.7 keeps some outputs in the order of their
addresses. Without this, the length of a path or a variable and the number of cores change the bytes of an engine."""


def run_worker(
    job: Mapping[str, object],
    on_progress: Callable[[str], None] | None,
    timeout_s: float | None,
    variables: Mapping[str, str] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Run the worker to its end. Returns its result and the log of the builder.

    variables : of its environment, in addition.
    Raises the worker's error, BuildError if it dies or exceeds `timeout_s`, OSError if it cannot write.
    """
    log: list[str] = []
    last: dict[str, Any] = {}
    stage = "start"
    end = time.monotonic() + (threading.TIMEOUT_MAX if timeout_s is None else timeout_s)
    with (
        tempfile.TemporaryFile() as given,  # an argument may not be that long
        tempfile.TemporaryFile() as stderr,
        _started({**job, "parent": os.getpid()}, given, stderr, variables or {}) as process,
    ):
        timer = threading.Timer(max(0, end - time.monotonic()), process.kill)
        timer.start()
        try:
            for line in process.stdout or ():
                with suppress(ValueError):  # half a line: the worker died while it wrote
                    last = json.loads(line)
                if "log" in last:
                    log.append(last["log"])
                elif "stage" in last:
                    stage = last["stage"]
                    if on_progress:
                        on_progress(stage)
            process.wait()
        except BaseException:
            _cancel(process)
            raise
        finally:
            timer.cancel()
        stderr.seek(-min(stderr.seek(0, os.SEEK_END), LAST_BYTES), os.SEEK_END)
        ending = [*log, *stderr.read().decode(errors="replace").splitlines()][-10:]
    if "done" in last:
        return last["done"], log
    if "os_error" in last:
        number, text, file = last["os_error"]
        if file not in (job["engine"], job.get("cache")):
            raise BuildError(f"the engine builder has no {file}: {text}")
        raise OSError(number, text, file)
    if "error" in last:
        kind, text = last["error"]
        raise KINDS[kind](on_lines(text))
    status = process.returncode
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}, no result"
    remedy = (
        "the plugin library ended it: build that again, or leave --plugin out"
        if stage.startswith(LOAD)
        else "a builder ends so by a fault of its own, or for want of memory; the model in another form may build: "
        f"simam-deploy fuse {on_one_line(str(job['model']))} -o OUT.onnx --form primitive"
    )
    if time.monotonic() >= end:
        how, remedy = f"was stopped after {timeout_s:g} s", "give it more with --timeout, or fewer --targets"
    raise BuildError(
        f"the engine builder {how}, at {on_one_line(stage)!r}; its last lines:"
        + "".join(f"\n  {on_one_line(line)}" for line in ending or ["none"])
        + f"\n{remedy}"
    )


def _started(
    job: Mapping[str, object], given: IO[bytes], stderr: IO[bytes], variables: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    given.write(json.dumps(job).encode())
    given.seek(0)
    known = {**environment(), **variables}
    if job["flavor"] == RTX.name:
        known[TUNABLES] = ":".join(filter(None, (known.get(TUNABLES), STEADY_HEAP)))  # the last one counts
    return subprocess.Popen([*WORKER], stdin=given, stdout=subprocess.PIPE, stderr=stderr, env=known)


def _cancel(process: subprocess.Popen[bytes]) -> None:
    """Let the builder cancel through its progress monitor; kill it if that takes long."""
    process.terminate()
    try:
        process.wait(PATIENCE_S)
    except BaseException:  # another Ctrl-C too
        process.kill()
        process.wait()
