"""Each kernel against the float64 formula. A check gives a verdict for each case; `run_all` a row for each check.

Every case runs between guards, on a poisoned output and a poisoned workspace, and looks at what else was written.
"""

from __future__ import annotations

import itertools
import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu import engine, module, reference
from benchmarks.gpu.api import INVALID, TYPES, Machine
from benchmarks.gpu.clock import Clock
from benchmarks.gpu.problem import LAYOUTS, OPS, PLAIN, Run, Values, Way, values
from benchmarks.gpu.timing import capture
from benchmarks.gpu.verdict import Check, Sizes, Skipped, Verdict, compare, judge, judge_tactics, name_of, normal
from simam_deploy.native.cuda_library import TACTICS

STREAMS = (8, 64)
"""How many at once, and how many launches on each."""
SHOWN, KEPT = 5, 30
"""How many wrong cases of a check are shown as they come, and how many are kept with it."""


def run_all(machine: Machine, sizes: Sizes, clock: Clock, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield a row for each check. A check that runs out of time is not ok."""
    for name in names:
        check = all_checks()[name]
        clock.say(f"check: {name}")
        worst, cases, wrong, late, skipped = 0.0, 0, [], False, "needs a GPU"
        try:
            for verdict in check(machine, sizes):
                cases += 1
                worst = max(worst, verdict.share)
                if not verdict.ok:
                    wrong.append(f"{verdict.name}: {verdict.why or f'{verdict.share:.3g} of what is allowed'}")
                    if len(wrong) <= SHOWN:
                        clock.say(f"WRONG {wrong[-1]}")
                clock.still(f"check: {name}: {cases} cases, {verdict.name}")
                if late := clock.left() < 0:
                    break
        except Skipped as reason:
            skipped = str(reason)
        except Exception as error:  # the device's: nothing after it can be trusted; or ours: the others are run
            traceback.print_exc()
            wrong.append(f"after {cases} cases: {type(error).__name__}: {error}")
        if not cases and not wrong:
            row = {"table": "check", "check": name, "cases": 0, "worst": 0.0, "ok": True}
            yield {**row, "note": skipped}
            continue
        notes = [f"{len(wrong)} wrong, the first: {each}" for each in wrong[:1]] + ["cut: no time left"] * late
        row = {"table": "check", "check": name, "cases": cases, "worst": worst, "ok": not notes}
        yield {**row, "note": "; ".join(notes), "wrong": wrong[:KEPT]}


def all_checks() -> dict[str, Check]:
    """By name, in the order in which they are run."""
    layouts = {type: LAYOUTS if type == "s8" else LAYOUTS[:2] for type in TYPES}
    formula: dict[str, Check] = {
        f"{type} {layout}": partial(_formula, type, layout) for type in TYPES for layout in layouts[type]
    }
    return {
        "the reference itself": _reference,
        **formula,
        "every number of pixels": _every_size,
        "offsets of 2, 4, 8 bytes": _offsets,
        "mean / spread of 1 to 1e5": _means,
        "sums beyond float16": _sums,
        "constant, faint, outlier": _inputs,
        "NaN and infinity": _not_finite,
        "in place": _in_place,
        "the same bits again": _reruns,
        "captured in a graph": _graph,
        "eight streams": _streams,
        "the gate at every number": _gate,
        "refused, and empty": _refused,
        "SimAM in PyTorch": module.check,
        "engines of TensorRT": engine.check,
    }


def _formula(type: str, layout: str, machine: Machine, sizes: Sizes) -> Iterator[Verdict]:
    for seed, shape in enumerate(sizes.shapes):
        of = values(type, normal(machine, (*sizes.planes(shape), math.prod(shape)), seed), seed)
        for op in sizes.ops:
            yield from judge_tactics(machine, of, Way(layout, op=op), name_of(type, layout, of))


def _reference(machine: Machine, sizes: Sizes) -> Iterator[Verdict]:
    """Against simam_deploy.formula, in NumPy on the CPU: within 1e-12 of the terms."""
    from simam_deploy import formula

    for seed, shape in enumerate(sizes.few):
        for op, (mean, e_lambda) in itertools.product(OPS, ((0.0, 1e-4), (1e3, 0.1))):
            of = values("f32", normal(machine, (2, 3, math.prod(shape)), seed, mean), seed, e_lambda)
            mine = reference.expect(of, op, reference.simam(of.x, of.e_lambda)).y.cpu()
            maps = of.x.cpu().numpy().reshape(2, 3, *shape)
            scale, bias = (of.scale.cpu(), of.bias.cpu()) if op.affine else (torch.ones(3), torch.zeros(3))
            more = of.residual.cpu().numpy().reshape(maps.shape) if op.residual else 0.0
            simam = formula.reference(maps, of.e_lambda)
            theirs = formula.apply_epilogue(simam, scale.numpy(), bias.numpy(), more, activation=op.activation)
            off = (mine - torch.from_numpy(theirs).reshape(mine.shape)).abs().max()
            terms = 4 * of.x.abs().max().cpu()
            yield Verdict(f"{shape} {op} mean {mean:g}", float(off / (1e-12 * terms)))


def _every_size(machine: Machine, sizes: Sizes) -> Iterator[Verdict]:
    for type, pixels in itertools.product(TYPES, sizes.every):
        of = values(type, normal(machine, (1, 3, pixels), pixels), pixels)
        yield judge(Run(machine, of, Way()), name_of(type, "NCHW", of))


def _offsets(machine: Machine, sizes: Sizes) -> Iterator[Verdict]:
    op = OPS[5]
    for (type, layout), shape in itertools.product(sizes.pairs, sizes.few):
        size = TYPES[type].itemsize
        of = values(type, normal(machine, (2, 5, math.prod(shape)), 1), 1)
        steps = [step for step in (0, 2, 4, 8) if step % size == 0]
        ways = [(a, b, c) for a in steps for b in steps for c in (steps[1], a)]
        for offsets in ways[1::5] if sizes.small else ways:
            yield from judge_tactics(machine, of, Way(layout, op=op, offsets=offsets), f"{type} {shape} {offsets}")


def _means(machine: Machine, sizes: Sizes) -> Iterator[Verdict]:
    powers = (1, 5) if sizes.small else range(6)
    for (type, layout), shape, power in itertools.product(sizes.pairs, sizes.few, powers):
        if type == "f16" and power > 4:  # beyond its numbers
            continue
        of = values(type, normal(machine, (2, 5, math.prod(shape)), power, mean=10.0**power), power)
        yield from judge_tactics(machine, of, Way(layout), f"{name_of(type, layout, of)} mean 1e{power}")


def _sums(machine: Machine, sizes: Sizes) -> Iterator[Verdict]:
    """n * var > 65504: a float16 sum of squares overflows, and each gate becomes sigmoid(1/2)."""
    shapes = {(56, 56): 5.0, (112, 112): 3.0, (224, 224): 1.5, (7, 7): 100.0, (12, 24): 20.0, (24, 32): 20.0}
    for (shape, spread), type, layout in itertools.product(shapes.items(), ("f16", "bf16"), ("NCHW", "HWC8")):
        if sizes.small and shape not in sizes.few:
            continue
        of = values(type, normal(machine, (2, 5, math.prod(shape)), 2, spread=spread), 2)
        yield from judge_tactics(machine, of, Way(layout), f"{name_of(type, layout, of)} spread {spread:g}")


def _inputs(machine: Machine, sizes: Sizes) -> Iterator[Verdict]:
    for (type, layout), shape in itertools.product(sizes.pairs, sizes.few):
        x = normal(machine, (2, 5, math.prod(shape)), 3)
        outlier = x.clone()
        outlier[..., x.shape[-1] // 3] = 1e3
        inputs = {"constant": x[..., :1].expand_as(x).clone(), "faint": 1e-2 * x, "outlier": outlier}
        for name, each in inputs.items():
            for e_lambda in (1e-4, 0.1):
                way = Way(layout, op=OPS[0 if e_lambda < 0.01 else 5])
                of = values(type, each, 3, e_lambda)
                yield from judge_tactics(machine, of, way, f"{name_of(type, layout, of)} {name} {e_lambda:g}")


def _not_finite(machine: Machine, sizes: Sizes) -> Iterator[Verdict]:
    """Their own plane becomes NaN, and no other."""
    for (type, layout), shape, op in itertools.product(sizes.pairs, sizes.few, (PLAIN, OPS[5])):
        if type != "s8":
            of = values(type, normal(machine, (2, 9, math.prod(shape)), 4), 4)
            x = of.x.clone()
            x[0, 1, 0] = x[1, 8, -1] = math.nan
            x[0, 4, 3], x[1, 0, 5] = math.inf, -math.inf
            yield from judge_tactics(machine, replace(of, x=x), Way(layout, op=op), name_of(type, layout, of))


def _in_place(machine: Machine, sizes: Sizes) -> Iterator[Verdict]:
    for (type, layout), shape in itertools.product(sizes.pairs, sizes.few):
        of = values(type, normal(machine, (2, 5, math.prod(shape)), 5), 5)
        for output, op in (("on x", PLAIN), ("on x", OPS[6]), ("on residual", OPS[5])):
            way = Way(layout, op=op, output=output)
            yield from judge_tactics(machine, of, way, f"{name_of(type, layout, of)} {output}")


def _reruns(machine: Machine, sizes: Sizes) -> Iterator[Verdict]:
    for (type, layout), shape in itertools.product(sizes.pairs, sizes.few):
        of = values(type, normal(machine, (*sizes.planes(shape), math.prod(shape)), 6, mean=3.0), 6)
        for tactic in TACTICS:
            run = Run(machine, of, Way(layout, tactic, OPS[6]))
            if not run.accepted:
                continue
            title = f"{name_of(type, layout, of)} {tactic}"
            yield judge(run, title)
            first = run.y.bytes.clone()
            for _ in range(1 if sizes.small else 8):
                run.fill(of)
                run.launch()
            machine.synchronize()
            same = torch.equal(first, run.y.bytes)
            yield Verdict(title, 0.0, "" if same else "another time it gives other bits")


def _note(errors: list[int], launch: Callable[[], int]) -> None:
    errors.append(launch())


def _graph(machine: Machine, sizes: Sizes) -> Iterator[Verdict]:
    """Captured once, replayed on other values."""
    if machine.emulated:
        return
    for (type, layout), shape in itertools.product(sizes.pairs, sizes.few):
        size = (*sizes.planes(shape), math.prod(shape))
        for tactic in TACTICS:
            run = Run(machine, values(type, normal(machine, size, 7), 7), Way(layout, tactic, OPS[5]))
            if not run.accepted:
                continue
            errors: list[int] = []
            graph = capture(partial(_note, errors, run.launch))
            title = f"{name_of(type, layout, run.of)} {tactic}"
            if errors != [0]:
                yield Verdict(title, 0.0, f"captured, simam_launch gives error {errors}")
                continue
            untouched = bool((run.y.bytes == (0x5A if type == "s8" else 0xFF)).all())
            yield Verdict(title, 0.0, "" if untouched else "capturing it ran it")
            for seed in (8, 9):
                # Scale and bias are pointers of the first values, the scales of int8 numbers in the graph.
                run.fill(replace(run.of, x=run.of.x.flip(-1).roll(seed, 1)))
                graph.replay()
                torch.cuda.synchronize()
                exact = reference.simam(run.of.x, run.of.e_lambda)
                yield compare(run, title, exact, run.way.op)


def _streams(machine: Machine, sizes: Sizes) -> Iterator[Verdict]:
    """Eight at once, each with memory of its own."""
    if machine.emulated:
        return
    for (type, layout), shape in itertools.product(sizes.pairs, sizes.few):
        for tactic in TACTICS:
            size = (1, 9, math.prod(shape))
            way = Way(layout, tactic, OPS[5])
            count, rounds = STREAMS
            runs = [Run(machine, values(type, normal(machine, size, 10 + i), i), way) for i in range(count)]
            if not runs[0].accepted:
                continue
            streams = [torch.cuda.Stream() for _ in runs]
            torch.cuda.synchronize()
            errors = set()
            for _ in range(rounds):
                for run, stream in zip(runs, streams, strict=True):
                    with torch.cuda.stream(stream):
                        errors.add(run.launch())
            torch.cuda.synchronize()
            title = f"{name_of(type, layout, runs[0].of)} {tactic}"
            if errors != {0}:
                yield Verdict(title, 0.0, f"simam_launch gives errors {errors}")
            for run in runs:
                yield compare(run, title, reference.simam(run.of.x, run.of.e_lambda), way.op)


def _gate(machine: Machine, sizes: Sizes) -> Iterator[Verdict]:
    """The narrow types' gate at each float16 and, on a GPU, at each float32 from 2^-12 to 32: within 2e-5 of it."""
    halves = torch.arange(0x7C00, dtype=torch.int16, device=machine.device).view(torch.float16).float()
    yield _gates(machine, halves, "float16")
    if sizes.small:
        return
    for exponent in range(-12, 5):
        first = (127 + exponent) << 23
        bits = torch.arange(first, first + (1 << 23), dtype=torch.int32, device=machine.device)
        yield _gates(machine, bits.view(torch.float32), f"float32 from 2^{exponent}")


def _gates(machine: Machine, square: Tensor, name: str) -> Verdict:
    twice = torch.full_like(square, math.nan)
    if error := machine.probe.gate(square, twice, machine.stream()):
        return Verdict(name, 0.0, f"error {error}")
    machine.synchronize()
    exact = torch.sigmoid(square.double() + 0.5)
    share = ((twice.double() / 2 - exact) / exact).abs().max() / reference.GATE
    return Verdict(name, float(share.nan_to_num(nan=float("inf"))))


def _refused(machine: Machine, sizes: Sizes) -> Iterator[Verdict]:
    """Errors documented in simam_cuda.h are reported and leave y unchanged; an empty x is valid."""
    nan = math.nan
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("one pixel", {"pixels": 1}),
        ("a type of 4", {"type": 4}),
        ("a tactic of 4", {"tactic": 4}),
        ("a group of 0", {"group": 0}),
        ("a negative size", {"channels": -1}),
        ("lambda of NaN", {"e_lambda": nan}),
        ("a negative lambda", {"e_lambda": -1.0}),
        ("scale without bias", {"bias": None}),
        ("no x", {"x": None}),
        ("split without workspace", {"tactic": TACTICS.index("split"), "workspace": None, "workspace_size": 0}),
    ]
    of = values("f16", normal(machine, (2, 3, 49), 11), 11)
    for name, fields in wrong:
        yield _answer(machine, of, name, fields, INVALID)
    run = Run(machine, of, Way(op=OPS[5]))
    yield _answer(machine, of, "x at an odd address", {"x": run.x.address + 1}, INVALID)
    yield _answer(machine, of, "nothing", {"images": 0}, 0)


def _answer(machine: Machine, of: Values, name: str, fields: dict[str, Any], expected: int) -> Verdict:
    run = Run(machine, of, Way(op=OPS[5]))
    before = run.y.bytes.clone()
    for field, value in fields.items():
        setattr(run.params, field, value)
    error = run.launch()
    machine.synchronize()
    why = "" if error == expected else f"simam_launch gives {error}, not {expected}"
    return Verdict(name, 0.0, why or ("" if torch.equal(before, run.y.bytes) else "y was written"))
