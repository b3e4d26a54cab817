"""Commands that run files: against each other, against the clock, and to see whether anything runs at all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from simam_deploy.cli import render
from simam_deploy.cli.options import (
    DEFAULT_INPUTS,
    Files,
    Forms,
    Inputs,
    Json,
    Kernel,
    Limits,
    Provider,
    Runtimes,
    Shapes,
    Threads,
    Weights,
    parts,
    sizes,
)
from simam_deploy.cli.options import runtimes as runtimes_of
from simam_deploy.errors import InputError


def verify(
    files: Files,
    against: Annotated[
        str | None, typer.Option(help="The PyTorch model; default: the first file in float64.")
    ] = None,
    weights: Weights = None,
    runtimes: Runtimes = None,
    forms: Forms = "",
    inputs: Inputs = DEFAULT_INPUTS,
    shape: Shapes = None,
    gates: Annotated[bool, typer.Option("--gates", help="Also judge the gate of every SimAM block.")] = False,
    threads: Threads = 0,
    provider: Provider = None,
    kernel: Kernel = None,
    limits: Limits = True,
    as_json: Json = False,
) -> None:
    """Run the same inputs through runtimes and forms; exit status 1 when a row fails."""
    from simam_deploy.compare import sizes as compared_at
    from simam_deploy.compare import verify as library
    from simam_deploy.compare.inputs import cases
    from simam_deploy.compare.inputs import specs as inputs_of
    from simam_deploy.compare.matrix import gather
    from simam_deploy.compare.workload import refuse_many_parts, refuse_without_end
    from simam_deploy.graph import onnx_file
    from simam_deploy.runtimes.session import TensorSpec

    if weights is not None and against is None:
        raise InputError("--weights are for a PyTorch model; name it with --against package.module:callable")
    names = runtimes_of(runtimes, provider)
    for file in files:
        proto, model = onnx_file.both(file)
        if half := onnx_file.half_types(model):
            raise InputError(f"verify compares float32 files; {file} holds {', '.join(half)}")
        if limits:
            refuse_many_parts(file, proto)
    with render.progress() as say, tempfile.TemporaryDirectory() as folder:
        chosen = gather(
            files,
            parts(forms),
            names,
            Path(folder),
            threads=threads,
            provider=provider,
            kernel=kernel,
            taps=gates,
            on_progress=lambda node: say(f"prove the block at {node}"),
        )
        _refuse_nothing(chosen)
        if gates and not any(chosen.taps.values()):
            reasons = "\n  ".join(chosen.skipped)
            raise InputError(
                f"--gates finds no gate to judge:\n  {reasons}\nleave --gates out to compare outputs alone"
            )
        specs: Sequence[TensorSpec] = inputs_of(files[0])
        notes: list[str] = []
        if shape is None:
            specs, notes = compared_at.agreed({str(file): inputs_of(file) for file in files})
        given = list(cases(parts(inputs), specs, sizes=sizes(shape)))
        made = shape is None and any(Path(name).suffix != ".npz" for name in parts(inputs))
        others = compared_at.others(specs) if made else []
        if any(not isinstance(size, int) for spec in specs for size in spec.shape or [None]):
            told = dict.fromkeys(compared_at.told(specs, case) for case in given)
            notes.append(f"sizes: {'; '.join(told)}{'' if made or shape else '; no other size was tried'}")
        for file in files if limits else []:
            tried = [*names, "onnx_reference"] if file == files[0] and against is None else names
            say(f"look at the work of {file}")
            for case in [*given[:1], *others]:
                refuse_without_end(file, case.feeds[0], tried)
        module = None if against is None else _module(against, weights, notes)
        report = library.verify(
            chosen.open,
            given,
            truth=lambda: _baseline(files[0], module, "float64"),
            twin=lambda: _baseline(files[0], module, None),
            inputs=[spec.name for spec in specs],
            taps=chosen.taps,
            others=others,
            on_progress=say,
        )
    report.notes += [*notes, *(f"left out: {reason}" for reason in chosen.skipped)]
    render.json(report.as_dict()) if as_json else render.parity(report)
    if not report.passed:
        raise typer.Exit(1)


def bench(
    files: Files,
    runtimes: Runtimes = None,
    forms: Forms = "",
    shape: Shapes = None,
    threads: Threads = 0,
    provider: Provider = None,
    kernel: Kernel = None,
    limits: Limits = True,
    seconds: Annotated[float, typer.Option(help="Time for all sessions together.")] = 10.0,
    as_json: Json = False,
) -> None:
    """Time files, forms and runtimes against each other, call by call in turn, and against a plain copy."""
    from contextlib import ExitStack

    from simam_deploy.compare import bench as library
    from simam_deploy.compare.inputs import cases
    from simam_deploy.compare.inputs import specs as inputs_of
    from simam_deploy.compare.matching import Names
    from simam_deploy.compare.matrix import gather
    from simam_deploy.compare.verify import run_once
    from simam_deploy.compare.workload import refuse_many_parts, refuse_without_end
    from simam_deploy.graph import onnx_file

    names = [name for name in runtimes_of(runtimes, provider) if runtimes or name != "onnx_reference"]
    for file in files if limits else []:
        refuse_many_parts(file, onnx_file.read(file))
    with render.progress() as say, tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        chosen = gather(files, parts(forms), names, Path(folder), threads=threads, provider=provider, kernel=kernel)
        _refuse_nothing(chosen)
        specs = inputs_of(files[0])
        (case,) = cases(["plain"], specs, sizes=sizes(shape))
        for file in files if limits else []:
            say(f"look at the work of {file}")
            refuse_without_end(file, case.feeds[0], names)
        sessions = []
        for label, open_candidate in chosen.open.items():
            say(f"open {label}")
            session = stack.enter_context(open_candidate())
            session.label = label
            sessions.append(session)
        given = Names("inputs", sessions[0].label, (spec.name for spec in specs))
        for session in sessions:
            order, _ = given.match(session.label, [spec.name for spec in session.inputs])
            run_once(session, case.feeds[0], order)
        rows = library.bench(
            sessions, case.feeds[0], seconds=seconds, on_progress=lambda done: say(f"measure: {done:.0%}")
        )
    if as_json:
        render.json({"threads": threads, "rows": [asdict(row) for row in rows], "left_out": chosen.skipped})
        return
    used = str(threads) if threads else "as each runtime chooses"
    render.timing(f"time per call, interleaved; threads: {used}", rows)
    render.lines([row.note for row in rows if row.note])
    render.lines([f"left out: {reason}" for reason in chosen.skipped])


def doctor(as_json: Json = False) -> None:
    """Say what is installed, what each runtime can do here, and how to mend what is missing."""
    from simam_deploy.cli import doctor as library

    with render.progress() as say:
        rows = library.examine(say)
    if as_json:
        render.json([asdict(row) for row in rows])
        return
    render.table(
        "what is here",
        ("", "version", "works", "what it does here, or how to mend it"),
        [(r.name, r.version, "yes" if r.works else "no", r.detail) for r in rows],
    )


def _module(spec: str, weights: Path | None, notes: list[str]) -> Any:
    from simam_deploy.pytorch import load_model

    return load_model.load(spec, weights, notes)[0]


def _baseline(file: Path, module: Any, dtype: str | None) -> Any:
    from simam_deploy.runtimes import open_session

    if module is None:
        return open_session(file, "onnx_reference", dtype=dtype)
    return open_session(module, "eager", dtype=dtype)


def _refuse_nothing(chosen: Any) -> None:
    if not chosen.open:
        raise InputError("\n  ".join(("nothing is left to run:", *chosen.skipped)))


COMMANDS: dict[Callable[..., None], str] = {
    verify: "verify digits.onnx --against export_models.digits:build --forms all --gates",
    bench: "bench digits.onnx --forms all --runtimes ort --threads 2",
    doctor: "doctor",
}
"""Each command and an example of it."""
