"""compute-sanitizer on every kernel. Each tool is shown a planted defect first: one that misses it covers nothing.

A race in the shared memory of a cluster is a case by itself, as racecheck may see those of a block alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.clock import Clock

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
FOUND = 9
"""Exit status of compute-sanitizer for a finding."""
PLANTED_SECONDS = 60.0
SHOWN = 6000
"""Upper bound on the shown output of a tool with a finding."""


@dataclass
class _Running:
    process: subprocess.Popen[str]
    said: Path

    def end(self, seconds: float) -> tuple[int | None, str]:
        """Its exit status, None if it did not end in time, and what it wrote."""
        try:
            status: int | None = self.process.wait(max(seconds, 1.0))
        except subprocess.TimeoutExpired:
            self.stop()
            status = None
        return status, self.said.read_text(errors="replace")

    def stop(self) -> None:
        """End it, and the program that it started, which would go on by itself and have the GPU."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def find() -> str | None:
    """SANITIZER, the PATH, then /usr/local/cuda*."""
    installed = sorted(Path("/usr/local").glob("cuda*/bin/compute-sanitizer"), reverse=True)
    named = os.environ.get("SANITIZER") or shutil.which("compute-sanitizer")
    return named or next(map(str, installed), None)


def run_all(program: Path | None, clock: Clock) -> Iterator[dict[str, Any]]:
    """A row for each tool, all of which run at once."""
    tool = find()
    if tool is None or program is None:
        yield row("none", "", "compute-sanitizer is not on the PATH nor in /usr/local/cuda*/bin: not covered", True)
        return
    clock.say("compute-sanitizer: memcheck, racecheck, initcheck and synccheck on every kernel")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as at_end:

        def start(kind: str, what: str) -> _Running:
            said = Path(folder, f"{kind}-{what}.txt")
            command = [tool, "--tool", kind, "--error-exitcode", str(FOUND), "--print-limit", "3", str(program), what]
            with said.open("w") as stream:
                process = subprocess.Popen(
                    command, stdout=stream, stderr=subprocess.STDOUT, text=True, start_new_session=True
                )
            running = _Running(process, said)
            at_end.callback(running.stop)  # also where this one is stopped
            return running

        planted = {kind: start(kind, kind) for kind in TOOLS}
        cluster = start("racecheck", "cluster")
        kernels = {kind: start(kind, "kernels") for kind in TOOLS}
        caught = {kind: each.end(min(PLANTED_SECONDS, clock.left()))[0] == FOUND for kind, each in planted.items()}
        in_cluster = cluster.end(min(PLANTED_SECONDS, clock.left()))[0] == FOUND
        for kind, each in kernels.items():
            status, said = each.end(clock.left())
            done = judge(kind, caught[kind], status, said, clock)
            if not done["ok"]:
                print(f"{kind} on the kernels:\n{said[:SHOWN]}", file=sys.stderr, flush=True)
            yield done
        words = "caught" if in_cluster else "not caught"
        yield row("racecheck of clusters", words, "as racecheck" if in_cluster else "not covered", True)


def judge(kind: str, caught: bool, status: int | None, said: str, clock: Clock) -> dict[str, Any]:
    """The row of a tool that ran on the kernels."""
    lines = [line.strip("= ") for line in said.splitlines()]
    first = next((line for line in lines if line and not line.startswith("COMPUTE-SANITIZER")), "nothing said")
    if status == FOUND:
        return row(kind, "caught" if caught else "not caught", first, False)
    if not caught:  # it does not run here, or does not see such things
        return row(kind, "not caught", f"not covered: {first}", True)
    if status is None:
        return row(kind, "caught", f"did not end in the time there was, after {clock.spent():.0f} s", False)
    if status == 0:
        return row(kind, "caught", next((line for line in lines if "launches" in line), "clean"), True)
    return row(kind, "caught", f"exit status {status}: {first}", False)


def row(tool: str, planted: str, kernels: str, ok: bool) -> dict[str, Any]:
    """planted : whether the defect was caught.  kernels : what was found in ours."""
    return {"table": "sanitizer", "tool": tool, "planted": planted, "kernels": kernels, "ok": ok}
