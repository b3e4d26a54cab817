"""Whether a low-precision file pays on this machine: timed against its float32 file, call by call in turn."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from simam_deploy.compare.bench import bench
from simam_deploy.formula import Array
from simam_deploy.runtimes import open_session
from simam_deploy.text import Say

NOISE = 0.1
"""Ratios nearer to 1 say nothing: repeated runs on a machine with other work differ by as much."""


@dataclass(frozen=True)
class Speed:
    """Times of one call in microseconds. ratio : float32 over low precision, of medians; quiet : of 20 % quantiles.

    On a machine with other work, `quiet` is nearer to the ratio of a machine without.
    """

    float32_us: float
    low_us: float
    ratio: float
    quiet: float

    def __str__(self) -> str:
        pays = (
            "it pays" if self.ratio > 1 + NOISE else "it does not pay" if self.ratio < 1 - NOISE else "no difference"
        )
        return f"{self.ratio:.2f} times as fast as float32 ({self.low_us:.0f} for {self.float32_us:.0f} us): {pays}"


def speed(
    float32: Path,
    low: Path,
    feed: Mapping[str, Array],
    *,
    runtime: str = "ort",
    threads: int = 0,
    seconds: float = 5.0,
    on_progress: Say | None = None,
) -> Speed:
    """Time both files on one feed, by names of their inputs. float32 runs with our kernel, where it is built.

    Raises as `open_session` and `bench`.
    """
    say = on_progress or (lambda _: None)
    with ExitStack() as stack:
        sessions = [stack.enter_context(open_session(path, runtime, threads=threads)) for path in (float32, low)]
        feeds = [feed[spec.name] for spec in sessions[0].inputs]
        rows = bench(sessions, feeds, seconds=seconds, on_progress=lambda done: say(f"measure the speed: {done:.0%}"))
    _, first, second = rows
    return Speed(first.median_us, second.median_us, first.median_us / second.median_us, first.p20_us / second.p20_us)
