"""Speed as a share of a copy: a row for each shape, measured together with its copy and the baselines.

Throughput: x alone is four times the L2 or more, and what is replayed goes through several sets of memory. The copy
is the faster of cudaMemcpy and a kernel with vectors of 16 bytes; a row's figure is

    (bytes that must be moved / time) / (bytes that the copy moves / its time)

Batch 1: many launches in one graph, over sets that stay in L2, and the figure is the time over that of a copy of x.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.gpu import baselines, reference
from benchmarks.gpu.api import Machine
from benchmarks.gpu.clock import Clock
from benchmarks.gpu.problem import Values, decode
from benchmarks.gpu.rows import INT8_SCALES, Filled, SpeedRow
from benchmarks.gpu.timing import Timer, medians
from simam_deploy.native.cuda_library import TACTICS

COMPILE_SECONDS = 25
"""Least remaining time to try torch.compile."""
SECONDS = 4
"""Least remaining time for a row."""
OWN_SECONDS = 1
"""Time of a row without torch.compile, reserved for each remaining row."""


@dataclass(frozen=True)
class Effort:
    """size : bytes of x.  calls : in a graph.  sets : of memory.  rounds : replays."""

    size: int
    calls: int
    sets: int
    rounds: int

    @staticmethod
    def of(row: SpeedRow, machine: Machine) -> Effort:
        """Effort for a row, see the docstring of this file."""
        if row.regime == "batch 1":
            return Effort(0, 64, 4, 30)
        return Effort(max(4 * machine.chip.l2, 64 << 20), 6, 2, 15)


def run_all(
    machine: Machine, timer: Timer, rows: Sequence[SpeedRow], clock: Clock, rivals: bool = True
) -> Iterator[dict[str, Any]]:
    """A row of figures for each; a note in place of those for which no time is left."""
    for i, row in enumerate(rows):
        if clock.left() < SECONDS:
            yield {"table": "note", "note": f"no time for the last {len(rows) - i} of {len(rows)} rows"}
            return
        clock.say(f"time {i + 1} of {len(rows)}: {row.name} {row.op}")
        free = clock.until(clock.spent() + clock.left() - OWN_SECONDS * (len(rows) - i - 1))
        try:
            yield measure(machine, timer, row, Effort.of(row, machine), free, rivals)
        except Exception as error:  # whatever it was, the other rows are timed
            yield _failure(row, error)
        _free()


def _failure(row: SpeedRow, error: Exception) -> dict[str, Any]:
    traceback.print_exc()
    note = baselines.first_line(error)
    return {"table": "check", "check": row.name, "cases": 1, "worst": 0.0, "ok": False, "note": note}


def _free() -> None:
    """Free the memory of the graphs."""
    with suppress(RuntimeError):  # the next row reports a lost device
        torch.cuda.empty_cache()


def measure(
    machine: Machine, timer: Timer, row: SpeedRow, effort: Effort, clock: Clock, rivals: bool = True
) -> dict[str, Any]:
    """One row. clock : of torch.compile."""
    row = row.filled(effort.size)
    sets = [Filled(machine, row, seed) for seed in range(effort.sets)]
    counts: dict[str, int] = {}
    replays: dict[str, Callable[[], None]] = {}
    notes = []
    for name, call in {"ours": ours(machine, sets), **copies(machine, sets)}.items():
        counts[name] = effort.calls
        replays[name] = timer.prepare(call, effort.calls)
    # What PyTorch has to do takes long and needs few replays; ONNX Runtime's calls are no graph.
    count = effort.calls if row.regime == "batch 1" else 2
    for name, make in (_rivals(machine, sets) if rivals else {}).items():
        if name == "compile" and clock.left() < COMPILE_SECONDS:
            notes.append("no time for torch.compile")
            continue
        try:
            replays[name] = _loop(make(), count) if name == "ort" else timer.prepare(make(), count)
            counts[name] = count
        except Exception as error:  # out of memory, no capture, an error of a runtime's own kind: a rival less
            notes.append(f"{name}: {baselines.first_line(error)}")
    us = medians(timer, replays, counts, effort.rounds)
    copy = min(("memcpy", "kernel"), key=lambda name: us[name])
    share = us["ours"] / us[copy]
    if row.regime != "batch 1":
        share = (sets[0].mandatory / us["ours"]) / (2 * sets[0].size / us[copy])
    worst = error_at_ends(sets[-1])
    return {
        "table": "speed", "row": row.name, "regime": row.regime, "op": str(row.op), "shape": list(row.shape),
        "plan": machine.planner.describe(sets[0].params), "us": us["ours"], "copy": copy, "copy_us": us[copy],
        "tb_s": sets[0].mandatory / us["ours"] / 1e6, "figure": share, "target": row.target,
        "ok": row.meets(share), "eager_us": us.get("eager"), "compile_us": us.get("compile"), "ort_us": us.get("ort"),
        "over_compile": us["compile"] / us["ours"] if "compile" in us else None,
        "worst": worst, "note": "; ".join(notes),
    }  # fmt: skip


def _rivals(machine: Machine, sets: Sequence[Filled]) -> dict[str, Callable[[], Callable[[int], object]]]:
    return {
        "eager": lambda: baselines.eager(sets),
        "compile": lambda: baselines.compiled(sets),
        "ort": lambda: baselines.onnxruntime(sets, machine.stream()),
    }


def _loop(call: Callable[[int], object], count: int) -> Callable[[], None]:
    def replay() -> None:
        for i in range(count):
            call(i)

    return replay


def ours(machine: Machine, sets: Sequence[Filled]) -> Callable[[int], object]:
    """A launch on the i-th set; raises RuntimeError for an error."""

    def call(i: int) -> None:
        if error := machine.kernels.launch(sets[i % len(sets)].params, machine.stream()):
            raise RuntimeError(f"{sets[0].row.name}: simam_launch gives error {error}")

    return call


def copies(machine: Machine, sets: Sequence[Filled]) -> dict[str, Callable[[int], object]]:
    """x to a y, which is not that of `ours`: cudaMemcpy, and a kernel."""
    beside = [torch.empty_like(each.y) for each in sets]

    def memcpy(i: int) -> None:
        beside[i % len(sets)].copy_(sets[i % len(sets)].x)

    def kernel(i: int) -> None:
        of = sets[i % len(sets)]
        if error := machine.probe.copy(of.x.data_ptr(), beside[i % len(sets)].data_ptr(), of.size, machine.stream()):
            raise RuntimeError(f"the copy gives error {error}")

    return {"memcpy": memcpy, "kernel": kernel}


def error_at_ends(of: Filled) -> float:
    """The first and the last image of what was timed, against the formula: the error over what is allowed."""
    row = of.row
    scales = dict(zip(("x_scale", "residual_scale", "y_scale"), INT8_SCALES, strict=True)) if row.type == "s8" else {}
    scale = {name: torch.tensor(each, dtype=torch.float32).item() for name, each in scales.items()}
    e_lambda = torch.tensor(1e-4, dtype=torch.float32).item()
    worst = 0.0
    for image in {0, row.shape[0] - 1}:

        def real(flat: torch.Tensor, by: str, image: int = image) -> torch.Tensor:
            return decode(row.type, of.as_torch(flat)[image : image + 1].flatten(2), scale.get(by, 1.0))

        x = real(of.x, "x_scale")
        residual = x if of.residual is None else real(of.residual, "residual_scale")
        values = Values(row.type, x, residual, of.scale, of.bias, e_lambda, **scale)
        expected = reference.expect(values, row.op, reference.simam(x, e_lambda))
        worst = max(worst, reference.worst(values, expected, real(of.y, "y_scale")))
    return worst


def tune(machine: Machine, timer: Timer, rows: Sequence[SpeedRow], clock: Clock) -> Iterator[dict[str, Any]]:
    """Each tactic of each row, for the full memory and for few planes; thresholds of plan.cpp are set from this."""
    for row in rows:
        sizes = [row] if row.shape[0] else [row, *(_of_planes(row, planes) for planes in (32, 128, 512, 2048))]
        for sized in sizes:
            if clock.left() < SECONDS:
                clock.say("no time for the rest")
                return
            effort = Effort.of(row, machine)
            clock.say(f"tune {sized.name} {sized.op} {sized.shape}")
            try:
                yield from _tactics(machine, timer, sized.filled(effort.size), effort)
            except Exception as error:  # as above
                yield _failure(sized, error)
            _free()


def _of_planes(row: SpeedRow, planes: int) -> SpeedRow:
    """With so many planes altogether."""
    _, channels, height, width = row.shape
    fewer = min(channels, planes)
    return SpeedRow(row.regime, row.type, row.layout, (planes // fewer, fewer, height, width), row.op)


def _tactics(machine: Machine, timer: Timer, row: SpeedRow, effort: Effort) -> Iterator[dict[str, Any]]:
    sets = [Filled(machine, row, seed) for seed in range(effort.sets)]
    replays, plans = {}, {}
    calls = copies(machine, sets)
    replays = {name: timer.prepare(call, effort.calls) for name, call in calls.items()}
    for tactic in TACTICS:
        own = [Filled(machine, row, seed, tactic) for seed in range(effort.sets)]
        if machine.kernels.accepts(own[0].params):
            replays[tactic] = timer.prepare(ours(machine, own), effort.calls)
            plans[tactic] = (own, machine.planner.describe(own[0].params))
    us = medians(timer, replays, dict.fromkeys(replays, effort.calls), effort.rounds)
    copy = min(us["memcpy"], us["kernel"])
    for tactic, (own, plan) in plans.items():
        share = (own[0].mandatory / us[tactic]) / (2 * own[0].size / copy)
        yield {
            "table": "tune", "row": row.name, "op": str(row.op), "shape": list(row.shape), "tactic": tactic,
            "plan": plan, "us": us[tactic], "copy_us": copy, "figure": share,
        }  # fmt: skip
