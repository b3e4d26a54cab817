"""simam-deploy verify."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from simam_deploy.cli import render
from simam_deploy.cli.choices import file_of
from simam_deploy.cli.options import (
    DEFAULT_INPUTS,
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
from simam_deploy.errors import InputError, RuntimeUnavailable

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
    report: ReportOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run the same inputs through runtimes and forms; exit status 1 when a row fails."""
    from simam_deploy.engines.inspection import is_engine

    if engines := [file for file in files if is_engine(file)]:
        _verify_engine(engines[0], files, against, as_json, quiet)
        return
    from simam_deploy import api

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
            report=report,
            on_progress=say,
        )
    render.json(found.as_dict()) if as_json else render.parity(found)
    if not found.passed:
        raise typer.Exit(1)


def _verify_engine(engine: Path, files: Sequence[Path], against: str | None, as_json: bool, quiet: bool) -> None:
    """Compare all of an engine that needs no GPU. Without a run of it, this never passes."""
    from simam_deploy.engines.inspection import inspect

    if against is None or len(files) > 1:
        raise InputError(
            f"{engine} is an engine, and is compared alone with the ONNX file that it was built from: "
            f"simam-deploy verify {engine} --against model.onnx"
        )
    with render.progress(quiet) as say:
        seen = inspect(engine, against=against, on_progress=say)
    render.json(seen.as_dict()) if as_json else render.engine(seen)
    if seen.disagreements:
        if not as_json:
            render.verdict(seen.verdict)
        raise typer.Exit(1)
    raise RuntimeUnavailable(
        f"{engine} and {seen.against} agree as files, and their outputs were not compared: an engine runs on a GPU "
        "that it was built for, with its version of TensorRT, and simam-deploy does not run engines yet\n"
        f"for the files alone: simam-deploy inspect {engine} --against {against}"
    )
