"""Times of several things, interleaved: each in a CUDA graph that is replayed, by events on the device.

Without a GPU, the clock of the host replaces them for tests; its times mean nothing.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from contextlib import suppress

import torch

Enqueue = Callable[[int], object]
"""Enqueue the work on the i-th set of memory."""
WARM_UP = 3


def capture(work: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """Capture the work that `work` enqueues, on a new stream, without the garbage collection of torch.cuda.graph."""
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    was_enabled = gc.isenabled()
    gc.disable()  # nothing of the device may be freed meanwhile
    try:
        with torch.cuda.stream(torch.cuda.Stream()):
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                work()
            except BaseException:
                with suppress(RuntimeError):  # of a capture that is no good; the cause is what went wrong in it
                    graph.capture_end()
                raise
            graph.capture_end()
    finally:
        if was_enabled:
            gc.enable()
    return graph


class CudaTimer:
    """PyTorch's current device."""

    def prepare(self, call: Enqueue, count: int) -> Callable[[], None]:
        """A graph of `count` calls, and what replays it."""
        call(0)
        call(1)

        def all_of_them() -> None:
            for i in range(count):
                call(i)

        return capture(all_of_them).replay

    def times(self, replays: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
        """Milliseconds of each in each round: one after another, round after round."""
        marks = []
        for _ in range(WARM_UP + rounds):
            row = {}
            for name, replay in replays.items():
                begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                begin.record()
                replay()
                end.record()
                row[name] = (begin, end)
            marks.append(row)
        torch.cuda.synchronize()  # not in between: the first of a round would be waited for
        return {name: [row[name][0].elapsed_time(row[name][1]) for row in marks[WARM_UP:]] for name in replays}


class HostTimer:
    """For tests."""

    def prepare(self, call: Enqueue, count: int) -> Callable[[], None]:
        """`count` calls."""

        def replay() -> None:
            for i in range(count):
                call(i)

        return replay

    def times(self, replays: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
        """Milliseconds."""
        taken: dict[str, list[float]] = {name: [] for name in replays}
        for _ in range(rounds):
            for name, replay in replays.items():
                begin = time.perf_counter()
                replay()
                taken[name].append(1e3 * (time.perf_counter() - begin))
        return taken


Timer = CudaTimer | HostTimer


def medians(
    timer: Timer, replays: dict[str, Callable[[], None]], counts: dict[str, int], rounds: int
) -> dict[str, float]:
    """Microseconds of one call."""
    return {name: 1e3 * statistics.median(each) / counts[name] for name, each in timer.times(replays, rounds).items()}
