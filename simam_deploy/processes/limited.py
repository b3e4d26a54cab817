"""Run one function of this package in a separate process with limits on time and memory.

    call("simam_deploy.cli.doctor:see_kernel", "model.onnx", limits=Limits(cpu_s=4, wall_s=8, memory=2**31))

Arguments and result pass as JSON. The process imports nothing from the current folder, and its temporary files are
removed at its end. On Linux it is killed when its parent ends for any reason.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from simam_deploy.errors import LimitError
from simam_deploy.processes.python_command import environment, python_command
from simam_deploy.processes.with_parent import end_with

_LAST_BYTES = 2000
"""Upper bound on the stderr of the process in the error."""


@dataclass(frozen=True)
class Limits:
    """cpu_s : of all threads together.  wall_s : from the start, with imports.  memory : bytes of address space.

    Without resource limits, as on Windows, wall_s alone applies.
    """

    cpu_s: int
    wall_s: float
    memory: int


def call(function: str, *arguments: object, limits: Limits, variables: Mapping[str, str] | None = None) -> Any:
    """Call `package.module:function` with arguments that JSON supports.

    variables : of the environment of the process, in addition.

    Raises LimitError if the process exceeds a limit or dies, and for an exception of the function, with its first
    line.
    """
    with tempfile.TemporaryDirectory(prefix="simam-deploy-") as folder:
        answer = Path(folder, "answer.json")
        job = json.dumps([function, arguments, str(answer), asdict(limits), os.getpid()])
        with (
            tempfile.TemporaryFile() as said,
            subprocess.Popen(
                [*python_command("simam_deploy.processes.limited"), job],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=folder,
                env={**environment(), **(variables or {}), "TMPDIR": folder, "TEMP": folder, "TMP": folder},
            ) as process,
        ):
            try:
                process.wait(limits.wall_s)
            except subprocess.TimeoutExpired:
                process.kill()
                raise LimitError(f"it took more than {limits.wall_s:g} s") from None
            except BaseException:
                process.kill()
                raise
            said.seek(0)
            last = said.read()[-_LAST_BYTES:].decode(errors="replace").split("\n")
        with suppress(OSError, ValueError):  # nothing written, or half of it: the process died
            kind, value = json.loads(answer.read_text(encoding="utf-8"))
            if kind == "done":
                return value
            raise LimitError(value)
    raise LimitError(_end(process.returncode, limits, last))


def _end(status: int, limits: Limits, last: list[str]) -> str:
    if status == -getattr(signal, "SIGXCPU", 0):
        return f"it took more than {limits.cpu_s} s of CPU time"
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    allowed = f"it had {limits.cpu_s} s of CPU time and {limits.memory / 2**30:.1f} GiB of memory"
    telling = next((f"; {line.strip()}" for line in reversed(last) if line.strip()), "")
    return f"the process that ran it {how}; {allowed}{telling}"


def main() -> None:
    """Entry point of the process: set limits, then call the function."""
    function, arguments, answer, given, parent = json.loads(sys.argv[1])
    limits = Limits(**given)
    _restrict(limits, parent)
    try:
        value = ["done", _named(function)(*arguments)]
    except MemoryError:
        value = ["failed", _too_much_memory(limits)]
    except Exception as error:  # whatever a framework says of what it cannot run
        line = (str(error).splitlines() or [type(error).__name__])[0]
        value = ["failed", _too_much_memory(limits) if "bad_alloc" in line else line]
    Path(answer).write_text(json.dumps(value), encoding="utf-8")
    os._exit(0)  # no thread of a framework is waited for


def _too_much_memory(limits: Limits) -> str:
    return f"it took more than {limits.memory / 2**30:.1f} GiB of memory"


def _named(function: str) -> Callable[..., Any]:
    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def _restrict(limits: Limits, parent: int) -> None:
    end_with(parent)
    if sys.platform != "win32":
        import resource

        for kind, limit in (
            (resource.RLIMIT_CPU, limits.cpu_s),
            (resource.RLIMIT_AS, limits.memory),
            (resource.RLIMIT_CORE, 0),
        ):
            _, hard = resource.getrlimit(kind)
            least = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.setrlimit(kind, (least, hard))


if __name__ == "__main__":
    main()
