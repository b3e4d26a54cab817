"""Time open sessions: one row each, after a row for a plain copy of the input.

    rows = bench([truth, session, engine], [x], seconds=2)

The sessions take turns, so that a slowdown of the machine affects all of them. A turn is one untimed and one timed
call. Without the untimed call, a row depends on the session before: ONNX Runtime took 322 us alone, and 555 us after
another runtime had evicted its buffers from the cache; with it, 237 and 249 us (SimAM, (1, 64, 56, 56), 2 cores).
Each call takes the next of several copies of the feeds. Together they have COLD_BYTES, so the input of a call is in
memory and not in the cache, as in production. Inputs below COLD_BYTES / MOST_COPIES stay partly in the cache.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from simam_deploy.compare.matching import Names
from simam_deploy.errors import InputError
from simam_deploy.formula import Array
from simam_deploy.runtimes.session import Session, is_float
from simam_deploy.text import as_table, counted

COLD_BYTES = 64 * 2**20
"""Least size of all copies of the feeds, per dtype: twice the last-level cache of a desktop CPU."""
MOST_COPIES = 1024
LEAST_ROUNDS = 5
MOST_SECONDS = 86_400


@dataclass(frozen=True)
class TimingRow:
    """Time of one call.

    median_us, p20_us, p80_us : microseconds.  calls : number of timed calls.
    ratio_to_first : median over that of the first session.  ratio_to_copy : median over that of the copy.
    simam : implementation of SimAM, observed in one more run: `kernel (avx512)`, `fallback`, or `-` without our
    operators.
    note : how the inputs were matched with those of the first session, if not by name.
    """

    label: str
    median_us: float
    p20_us: float
    p80_us: float
    calls: int
    ratio_to_first: float
    ratio_to_copy: float
    simam: str = "-"
    note: str = ""


@dataclass(frozen=True)
class Timing:
    """Rows of files, forms and runtimes, after that of the copy; sessions left out, with reasons; threads, 0 for the
    choice of each runtime."""

    rows: tuple[TimingRow, ...]
    left_out: tuple[str, ...]
    threads: int

    def __str__(self) -> str:
        columns = ("", "median us", "p20 us", "p80 us", "of the first", "of a copy", "SimAM by")
        cells = [
            (r.label, f"{r.median_us:.1f}", f"{r.p20_us:.1f}", f"{r.p80_us:.1f}",
             f"{r.ratio_to_first:.2f}", f"{r.ratio_to_copy:.2f}", r.simam)
            for r in self.rows
        ]  # fmt: skip
        return "\n".join(
            (as_table(columns, cells), *(f"left out: {reason}" for reason in self.left_out), self.verdict)
        )

    @property
    def verdict(self) -> str:
        """Numbers of timed sessions and of sessions left out, in one line."""
        left = f", {len(self.left_out)} left out" if self.left_out else ""
        return f"timed: {counted(len(self.rows) - 1, 'session')}{left}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        rows = [asdict(row) for row in self.rows]
        return {"threads": self.threads, "rows": rows, "left_out": list(self.left_out)}


def bench(
    sessions: Sequence[Session],
    feeds: Sequence[Array],
    *,
    seconds: float = 2.0,
    warmup: int = 3,
    on_progress: Callable[[float], None] | None = None,
) -> list[TimingRow]:
    """Time the sessions on the same feeds.

    feeds       : one array per input of the first session, in order. The others receive them by name, or by position
                  if no name is common: see `Names`. Float arrays are cast to the float dtype of each session before
                  timing.
    seconds     : duration of the timed rounds of all sessions together; at least LEAST_ROUNDS rounds.
    warmup      : untimed rounds before, in which runtimes allocate and choose kernels.
    on_progress : called after each round with the completed share, 0 to 1; not timed.
    Returns the row `copy`, then one row per session, in order. The copy is np.copyto of the first feed into an
    existing array: the time to read x once from memory and to write it.
    Does not time the release of results. The garbage collector is off during timed rounds.
    Raises InputError if there are no sessions, if the feeds do not fit one of them, or if the inputs of two differ.
    """
    if not sessions:
        raise InputError("bench needs at least one open session; got none")
    if not 0 <= seconds < MOST_SECONDS:
        raise InputError(f"bench runs for 0 to {MOST_SECONDS} seconds; asked for {seconds}")
    if not feeds:
        raise InputError("bench needs one array per input of the sessions; got none")
    feeds = [np.asarray(array, order="C") for array in feeds]  # np.ascontiguousarray gives scalars an axis
    target = np.empty_like(feeds[0])
    pools: dict[tuple[str, ...], _Pool] = {}
    turns: list[_Turn] = [_Turn("copy", _pool(pools, feeds), lambda arrays: np.copyto(target, arrays[0]))]
    given = Names("inputs", sessions[0].label, _inputs(sessions[0]))
    matched = [given.match(s.label, _inputs(s)) for s in sessions]
    for session, (names, note) in zip(sessions, matched, strict=True):
        turns.append(_Turn(session.label, _pool(pools, _cast(session, names, feeds)), _call(session, names), note))
    for _ in range(warmup):
        for turn in turns:
            turn.take()
    _rounds(turns, seconds, on_progress)
    copy, first = (float(np.median(turn.ns)) for turn in turns[:2])
    uses = ["-"]
    for session, (names, _), turn in zip(sessions, matched, turns[1:], strict=True):
        uses.append(str(session.kernel_use(dict(zip(names, turn.pool.next(), strict=True)))))
    return [turn.row(copy, first, use) for turn, use in zip(turns, uses, strict=True)]


def _rounds(turns: list[_Turn], seconds: float, on_progress: Callable[[float], None] | None) -> None:
    for turn in turns:
        turn.ns.clear()
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter_ns()
        done = 0.0
        while done < 1 or len(turns[0].ns) < LEAST_ROUNDS:
            for turn in turns:
                turn.take()
            done = (time.perf_counter_ns() - start) / (seconds * 1e9) if seconds > 0 else 1.0
            if on_progress:
                on_progress(min(done, len(turns[0].ns) / LEAST_ROUNDS, 1.0))
    finally:
        if collecting:
            gc.enable()


class _Pool:
    """Copies of the same feeds. `next` returns the least recently used one."""

    def __init__(self, feeds: Sequence[Array]) -> None:
        size = sum(array.nbytes for array in feeds)
        count = min(MOST_COPIES, max(2, -(-COLD_BYTES // max(size, 1))))
        self._copies = [[array.copy() for array in feeds] for _ in range(count)]
        self._at = -1

    def next(self) -> list[Array]:
        self._at = (self._at + 1) % len(self._copies)
        return self._copies[self._at]


class _Turn:
    """Measurements of one row."""

    def __init__(self, label: str, pool: _Pool, call: Callable[[list[Array]], object], note: str = "") -> None:
        self.label, self.note = label, note
        self.ns: list[int] = []
        self.pool = pool
        self._call = call

    def take(self) -> None:
        self._call(self.pool.next())
        arrays = self.pool.next()
        start = time.perf_counter_ns()
        result = self._call(arrays)
        stop = time.perf_counter_ns()
        del result
        self.ns.append(stop - start)

    def row(self, copy_ns: float, first_ns: float, simam: str) -> TimingRow:
        p20, median, p80 = (float(p) for p in np.percentile(self.ns, [20, 50, 80]))
        ratios = (median / first_ns, median / copy_ns)
        return TimingRow(self.label, median / 1e3, p20 / 1e3, p80 / 1e3, len(self.ns), *ratios, simam, self.note)


def _call(session: Session, names: Sequence[str]) -> Callable[[list[Array]], object]:
    return lambda arrays: session.run(dict(zip(names, arrays, strict=True)))


def _inputs(session: Session) -> list[str]:
    return [spec.name for spec in session.inputs]


def _pool(pools: dict[tuple[str, ...], _Pool], feeds: list[Array]) -> _Pool:
    """The pool for these dtypes. Sessions with equal dtypes share one."""
    key = tuple(array.dtype.name for array in feeds)
    if key not in pools:
        pools[key] = _Pool(feeds)
    return pools[key]


def _cast(session: Session, names: Sequence[str], feeds: Sequence[Array]) -> list[Array]:
    if len(session.inputs) != len(feeds):
        takes = ", ".join(map(str, session.inputs))
        raise InputError(f"{session.label} takes {len(session.inputs)} inputs ({takes}); got {len(feeds)} arrays")
    dtypes = {spec.name: spec.dtype for spec in session.inputs}
    pairs = zip((dtypes[name] for name in names), feeds, strict=True)
    return [a.astype(dtype, copy=False) if is_float(a.dtype) and is_float(dtype) else a for dtype, a in pairs]
