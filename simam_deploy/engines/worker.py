"""Build one engine in a separate process: a builder may abort, and then only this process ends.

    <python_command("simam_deploy.engines.worker")>   reads a job in JSON from stdin, see `trt_build.build`

Reports to `simam_deploy.engines.run_worker` in JSON lines on stdout: {"stage": text} and {"log": text}, any number of
each, then one {"done": result}, or {"error": [kind, text]} with a kind from `run_worker.KINDS`, or
{"os_error": [errno, text]} if a file cannot be written. Output of the libraries goes to stderr.
The process ends with its parent. SIGINT and SIGTERM cancel the build.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time

from simam_deploy.processes.with_parent import end_with

STOPS = (signal.SIGINT, signal.SIGTERM)
CANCEL_S = 1.5
"""Time to cancel. A parser and some parts of a builder ask no monitor."""


def main(argument: str) -> None:
    """Run the job in `argument`; see the docstring of the module."""
    job = json.loads(argument)
    end_with(job["parent"])
    cancelled = threading.Event()
    _cancel_by_signal(cancelled)
    _bound_memory(job["memory"])
    from simam_deploy.engines.trt_build import Refused, build  # with onnx, which takes a while

    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(2, 1)
        lock = threading.Lock()  # a builder may report from threads of its own

        def tell(kind: str, what: object) -> None:
            with lock:
                channel.write(json.dumps({kind: what}) + "\n")
                channel.flush()

        try:
            tell("done", build(job, tell, cancelled))
        except Refused as refused:
            tell("error", refused.args)
        except MemoryError:
            tell("error", ["BuildError", "the builder takes more memory than there is, or than --memory allows"])
        except OSError as error:
            tell("os_error", [error.errno, error.strerror, error.filename])


def _cancel_by_signal(cancelled: threading.Event) -> None:
    """A thread waits for the signals, as a handler would wait for the end of the builder's C++."""
    if sys.platform == "win32":
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # before any other thread: those inherit it

    def wait() -> None:
        signal.sigwait(STOPS)
        cancelled.set()
        time.sleep(CANCEL_S)
        os._exit(130)

    threading.Thread(target=wait, daemon=True).start()


def _bound_memory(limit: int | None) -> None:
    """Of private memory that is written. Address space would count what a driver only reserves."""
    if limit is not None and sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        least = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (least, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


if __name__ == "__main__":
    main(sys.stdin.read())
