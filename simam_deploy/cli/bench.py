"""simam-deploy bench."""

from __future__ import annotations

from typing import Annotated

import typer

from simam_deploy.cli import render
from simam_deploy.cli.options import (
    CudaGraphOption,
    FilesArgument,
    FormsOption,
    InputsOption,
    JsonOption,
    KernelOption,
    LimitsOption,
    ProviderOption,
    QuietOption,
    RuntimesOption,
    ShapesOption,
    ThreadsOption,
    named_runtimes,
    parts,
    sizes,
)

EXAMPLE = "bench yolo.onnx yolo.simam.onnx --threads 2"


def bench(
    files: FilesArgument,
    runtimes: RuntimesOption = None,
    forms: FormsOption = "",
    inputs: InputsOption = "plain",
    shape: ShapesOption = None,
    threads: ThreadsOption = 0,
    provider: ProviderOption = None,
    kernel: KernelOption = None,
    limits: LimitsOption = True,
    cuda_graph: CudaGraphOption = False,
    seconds: Annotated[float, typer.Option(help="Time for all sessions together.")] = 10.0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Time files, engines, forms and runtimes against each other, call by call in turn, and against a plain copy."""
    from simam_deploy import api

    with render.progress(quiet) as say:
        done = api.bench(
            files,
            runtimes=named_runtimes(runtimes),
            forms=parts(forms),
            inputs=parts(inputs),
            shape=sizes(shape),
            threads=threads,
            provider=provider,
            kernel=kernel,
            limits=limits,
            cuda_graph=cuda_graph,
            seconds=seconds,
            on_progress=say,
        )
    if as_json:
        render.json(done.as_dict())
        return
    used = str(threads) if threads else "as each runtime chooses"
    render.timing(f"time per call, interleaved; threads: {used}", done.rows)
    render.lines([row.note for row in done.rows if row.note])
    render.lines([f"left out: {reason}" for reason in done.left_out])
    render.verdict(done.verdict)
