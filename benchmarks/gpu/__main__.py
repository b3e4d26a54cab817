"""The command `make gpu`: checks, sanitizers, speed; prints a table, and adds a line to results/gpu.jsonl.

    python -m benchmarks.gpu                       all three, in 8 minutes
    python -m benchmarks.gpu checks --only HWC8    the checks whose name has HWC8 in it
    python -m benchmarks.gpu speed --only "f16 NCHW"
    python -m benchmarks.gpu tune --only "56x56"   every tactic of these rows, for thresholds of plan.cpp
    python -m benchmarks.gpu checks --emulate      small ones on the emulator, where there is no GPU
    python -m benchmarks.gpu table [--write]       the table in docs/howto/gpu.md, from what was kept

Exit status 1: a check failed, a sanitizer found something, a timed result was wrong, there was no time for a
check, or a row could not be kept. 2: it could not begin. A missed target is said, and is no failure.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

try:
    import numpy  # noqa: F401
    import torch
except (ImportError, OSError) as error:  # not there, or a library of theirs is not
    print(
        f"error: the checks of the CUDA kernels need NumPy and PyTorch, and {sys.executable} cannot import them: "
        f"{error}; take a Python that has both: `make gpu PYTHON=...`",
        file=sys.stderr,
    )
    sys.exit(2)

from benchmarks import record
from benchmarks.gpu import build, checks, precompile, report, sanitize, speed, table, verdict
from benchmarks.gpu.api import Machine, Planner, Probe, chip_emulated, chip_here, kernels_in
from benchmarks.gpu.clock import Clock, Watchdog
from benchmarks.gpu.rows import all_rows
from benchmarks.gpu.timing import CudaTimer
from simam_deploy.errors import BuildError

PARTS = ("checks", "sanitize", "speed")
SHARES = {"checks": 0.35, "sanitize": 0.5}
"""Of the whole time, what must be over when this part is."""
GRACE_SECONDS = 60.0
"""Behind the whole time: then something does not end."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS, "tune", "table"], metavar="part")
    parser.add_argument("--emulate", action="store_true", help="on this processor; checks only")
    parser.add_argument("--minutes", type=_minutes, default=7.5, help="for all of it")
    parser.add_argument("--only", default="", help="what a check's or a row's name has in it")
    parser.add_argument("--keep", type=Path, default=record.RESULTS / "gpu.jsonl", help="where the results are added")
    parser.add_argument("--write", action="store_true", help="table: into docs/howto/gpu.md")
    asked = parser.parse_args(arguments)
    if asked.parts == ["table"]:
        table.main(asked.write)
        return 0
    if "table" in asked.parts:
        parser.error("table is made of what was kept; ask for it alone")
    parts = asked.parts or (["checks"] if asked.emulate else PARTS)
    if asked.emulate and list(parts) != ["checks"]:
        print("error: the emulator has no speed and no sanitizer; --emulate goes with checks", file=sys.stderr)
        return 2
    names = _names(parts)
    if asked.only and not any(asked.only in name for name in names):
        what = (
            "is in no name of these:" + "".join(f"\n  {name}" for name in names) if names else "is not for sanitize"
        )
        print(f"error: --only {asked.only!r} {what}", file=sys.stderr)
        return 2
    if not asked.emulate:
        try:
            record.earlier(asked.keep)
        except (OSError, ValueError) as error:
            print(f"error: nothing can be kept in {asked.keep}: {error}; name a file with --keep", file=sys.stderr)
            return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the table is printed all the same
    clock = Clock(60 * asked.minutes)
    rivals = "speed" in parts and torch.cuda.is_available()
    with precompile.Ahead(min(6, (os.cpu_count() or 1) // 2 - 1) if rivals else 0, asked.only) as ahead:
        try:
            machine, libraries = _machine(asked.emulate, clock)
        except (BuildError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        return _run(machine, libraries, parts, asked, clock, ahead)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; it must be a number above 0, as 7.5")
    return minutes


def _names(parts: Sequence[str]) -> list[str]:
    """Names for --only. It does not apply to the sanitizers."""
    names = list(checks.all_checks()) if "checks" in parts else []
    return names + [row.name for row in all_rows()] if {"speed", "tune"} & set(parts) else names


def _run(
    machine: Machine,
    libraries: build.Libraries,
    parts: Sequence[str],
    asked: argparse.Namespace,
    clock: Clock,
    ahead: precompile.Ahead,
) -> int:
    rows: list[dict[str, Any]] = []
    kept = None if asked.emulate else record.Growing(asked.keep, **_conditions(machine, asked))
    lost = 0

    def say_all() -> None:
        print(report.text(rows))
        if kept and len(rows) > lost:
            print(f"kept in {asked.keep}" + (f", without the last {lost} rows" if lost else ""))

    def last_words() -> None:
        say_all()
        ahead.stop()

    try:
        with Watchdog(clock.left() + GRACE_SECONDS, last_words):
            for row in _rows(parts, machine, libraries, asked, clock, ahead):
                rows.append(row)
                if kept:
                    try:
                        kept.add(row)
                        lost = 0
                    except OSError as error:  # the disk is full: the table is printed all the same
                        lost += 1
                        clock.say(f"a row cannot be kept in {asked.keep}: {error}")
    except (KeyboardInterrupt, SystemExit):
        clock.say("stopped")
        return 130
    finally:
        say_all()
    return 1 if lost or report.failed(rows) else 0


def _rows(
    parts: Sequence[str],
    machine: Machine,
    libraries: build.Libraries,
    asked: argparse.Namespace,
    clock: Clock,
    ahead: precompile.Ahead,
) -> Iterator[dict[str, Any]]:
    whole = 60 * asked.minutes
    wanted = [row for row in all_rows() if asked.only in row.name]
    sizes = verdict.SMALL if machine.emulated else verdict.FULL
    for part in parts:
        until = clock if len(parts) == 1 else clock.until(whole * SHARES.get(part, 1.0))
        try:
            # Not the default stream, on which others would wait.
            with nullcontext() if machine.emulated else torch.cuda.stream(torch.cuda.Stream()):
                if part == "checks":
                    yield from checks.run_all(
                        machine, sizes, until, [name for name in checks.all_checks() if asked.only in name]
                    )
                elif part == "sanitize":
                    yield from sanitize.run_all(libraries.sanitized, until)
                elif part == "speed":
                    ahead.wait(clock.until(whole * SHARES["sanitize"]))
                    yield from speed.run_all(machine, CudaTimer(), wanted, until)
                else:
                    yield from speed.tune(machine, CudaTimer(), wanted, until)
        except Exception as error:  # the other parts are run all the same
            traceback.print_exc()
            note = f"{type(error).__name__}: {error}"
            yield {"table": "check", "check": part, "cases": 0, "worst": 0.0, "ok": False, "note": note}


def _machine(emulate: bool, clock: Clock) -> tuple[Machine, build.Libraries]:
    """Raises BuildError: no compiler, no GPU, code that does not compile, or SIMAM_EMULATED_DEVICE is no device."""
    if emulate:
        clock.say("build the emulator's library")
        chip, libraries, device = chip_emulated(), build.emulated(), "cpu"
    else:
        if not torch.cuda.is_available():
            raise BuildError("PyTorch sees no GPU here; --emulate runs the checks without one")
        chip, device = chip_here(), "cuda"
        clock.say(f"build the kernels for {chip.name}, sm_{chip.capability}: about half a minute")
        libraries = build.for_device(chip.capability)
    machine = Machine(
        torch.device(device),
        kernels_in(libraries.kernels),
        Probe(libraries.probe),
        Planner(libraries.plan, chip),
        chip,
    )
    if error := machine.kernels.prepare():
        raise BuildError(f"simam_prepare gives error {error}")
    return machine, libraries


def _conditions(machine: Machine, asked: argparse.Namespace) -> dict[str, Any]:
    chip = machine.chip
    return {
        "device": chip.name,
        "capability": chip.capability,
        "multiprocessors": chip.multiprocessors,
        "l2": chip.l2,
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "parts": list(asked.parts) or list(PARTS),
        "only": asked.only,
    }


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
