"""simam-deploy convert."""

from __future__ import annotations

from typing import Annotated

import typer

from simam_deploy.cli import render
from simam_deploy.cli.choices import CALIBRATIONS, PRECISIONS, TARGETS, one_of
from simam_deploy.cli.options import (
    CountOption,
    FileArgument,
    JsonOption,
    LimitsOption,
    MaxDropOption,
    MeanOption,
    MinSnrOption,
    OutputOption,
    QuietOption,
    ReportOption,
    SamplesOption,
    SizeOption,
    StdOption,
    numbers,
    plane,
)

EXAMPLE = "convert yolo.onnx -o half.onnx --to fp16 --inputs pics/"


def convert(
    file: FileArgument,
    output: OutputOption,
    to: Annotated[
        str, typer.Option(help=f"{', '.join(PRECISIONS)}.", show_default=False, autocompletion=one_of(PRECISIONS))
    ],
    target: Annotated[
        str, typer.Option(help=f"Runtime for int8: {', '.join(TARGETS)}.", autocompletion=one_of(TARGETS))
    ] = "cpu",
    inputs: SamplesOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    size: SizeOption = None,
    samples: CountOption = None,
    keep_float: Annotated[
        list[str] | None, typer.Option(help="Name of a node that stays float32; may be repeated.")
    ] = None,
    keep_io: Annotated[bool, typer.Option("--keep-io", help="Keep inputs and outputs float32.")] = False,
    method: Annotated[
        str,
        typer.Option(help=f"Calibration of int8: {', '.join(CALIBRATIONS)}.", autocompletion=one_of(CALIBRATIONS)),
    ] = "minmax",
    min_snr: MinSnrOption = None,
    max_drop: MaxDropOption = None,
    limits: LimitsOption = True,
    report: ReportOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Convert a float32 file to float16, bfloat16 or int8, with SimAM whole."""
    from simam_deploy import api

    with render.progress(quiet) as say:
        done = api.convert(
            file,
            output,
            to=to,
            target=target,
            inputs=inputs,
            mean=numbers(mean, "mean"),
            std=numbers(std, "std"),
            size=plane(size),
            samples=samples,
            keep_float=keep_float or (),
            keep_io=keep_io,
            method=method,
            min_snr=min_snr,
            max_drop=max_drop,
            limits=limits,
            report=report,
            on_progress=say,
        )
    if as_json:
        render.json(done.as_dict())
        return
    render.converted(done, f"{output}: what stays float32")
    render.verdict(done.verdict)
