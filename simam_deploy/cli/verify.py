"""simam-deploy verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simam_deploy.cli import render
from simam_deploy.cli.choices import file_of
from simam_deploy.cli.options import (
    DEFAULT_INPUTS,
    CudaGraphOption,
    FilesArgument,
    FormsOption,
    InputsOption,
    JsonOption,
    KernelOption,
    LimitsOption,
    MaxDropOption,
    MeanOption,
    MinSnrOption,
    ProviderOption,
    QuietOption,
    ReportOption,
    RuntimesOption,
    ShapesOption,
    StdOption,
    ThreadsOption,
    WeightsOption,
    named_runtimes,
    numbers,
    parts,
    sizes,
)
from simam_deploy.errors import RuntimeUnavailable

if TYPE_CHECKING:
    from simam_deploy.engines.inspection import EngineInspection

EXAMPLE = "verify yolo.onnx yolo.simam.onnx"


def verify(
    files: FilesArgument,
    against: Annotated[
        str | None,
        typer.Option(
            help="The PyTorch model, or for an engine the ONNX file; default: the first file in float64.",
            autocompletion=file_of(".py", ".onnx"),
        ),
    ] = None,
    weights: WeightsOption = None,
    runtimes: RuntimesOption = None,
    forms: FormsOption = "",
    inputs: InputsOption = DEFAULT_INPUTS,
    shape: ShapesOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    gates: Annotated[bool, typer.Option("--gates", help="Also judge the gate of every SimAM block.")] = False,
    threads: ThreadsOption = 0,
    provider: ProviderOption = None,
    kernel: KernelOption = None,
    limits: LimitsOption = True,
    min_snr: MinSnrOption = None,
    atol: Annotated[float | None, typer.Option(help="Largest absolute error of an output.")] = None,
    max_drop: MaxDropOption = None,
    cuda_graph: CudaGraphOption = False,
    report: ReportOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run the same inputs through runtimes and forms; exit status 1 when a row fails."""
    from simam_deploy import api
    from simam_deploy.engines.inspection import is_engine

    seen = _seen(files[0], against, as_json, quiet) if len(files) == 1 and against and is_engine(files[0]) else None
    try:
        with render.progress(quiet) as say:
            found = api.verify(
                files,
                against=against,
                weights=weights,
                runtimes=named_runtimes(runtimes),
                forms=parts(forms),
                inputs=parts(inputs),
                shape=sizes(shape),
                mean=numbers(mean, "mean"),
                std=numbers(std, "std"),
                gates=gates,
                threads=threads,
                provider=provider,
                kernel=kernel,
                limits=limits,
                min_snr=min_snr,
                atol=atol,
                max_drop=max_drop,
                cuda_graph=cuda_graph,
                report=report,
                on_progress=say,
            )
    except RuntimeUnavailable as error:
        if seen is None:
            raise
        if as_json:
            render.json(seen.as_dict())
        raise RuntimeUnavailable(
            f"{seen.file} and {against} agree as files, and their outputs were not compared: {error}\n"
            f"for the files alone: simam-deploy inspect {seen.file} --against {against}"
        ) from error
    if as_json:
        render.json(found.as_dict() if seen is None else {"engine": seen.as_dict(), **found.as_dict()})
    else:
        render.parity(found)
    if not found.passed:
        raise typer.Exit(1)


def _seen(engine: Path, against: str, as_json: bool, quiet: bool) -> EngineInspection:
    """Compare all of an engine that needs no GPU, and print it; exit status 1 where it disagrees with its file."""
    from simam_deploy.engines.inspection import inspect

    with render.progress(quiet) as say:
        seen = inspect(engine, against=against, on_progress=say)
    if not as_json:
        render.engine(seen)
    if seen.disagreements:
        render.json(seen.as_dict()) if as_json else render.verdict(seen.verdict)
        raise typer.Exit(1)
    return seen
