"""Commands that run files: against each other, against the clock, and to see whether anything runs at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

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
    from simam_deploy import api

    with render.progress() as say:
        report = api.verify(
            files,
            against=against,
            weights=weights,
            runtimes=None if runtimes is None else parts(runtimes),
            forms=parts(forms),
            inputs=parts(inputs),
            shape=sizes(shape),
            gates=gates,
            threads=threads,
            provider=provider,
            kernel=kernel,
            limits=limits,
            on_progress=say,
        )
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
    from simam_deploy import api

    with render.progress() as say:
        done = api.bench(
            files,
            runtimes=None if runtimes is None else parts(runtimes),
            forms=parts(forms),
            shape=sizes(shape),
            threads=threads,
            provider=provider,
            kernel=kernel,
            limits=limits,
            seconds=seconds,
            on_progress=say,
        )
    if as_json:
        rows = [asdict(row) for row in done.rows]
        render.json({"threads": threads, "rows": rows, "left_out": list(done.left_out)})
        return
    used = str(threads) if threads else "as each runtime chooses"
    render.timing(f"time per call, interleaved; threads: {used}", done.rows)
    render.lines([row.note for row in done.rows if row.note])
    render.lines([f"left out: {reason}" for reason in done.left_out])


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


COMMANDS: dict[Callable[..., None], str] = {
    verify: "verify digits.onnx --against export_models.digits:build --forms all --gates",
    bench: "bench digits.onnx --forms all --runtimes ort --threads 2",
    doctor: "doctor",
}
"""Each command and an example of it."""
