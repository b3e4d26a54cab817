"""simam-deploy analyze."""

from __future__ import annotations

from typing import Annotated

import typer

from simam_deploy.cli import render
from simam_deploy.cli.choices import TOOLS, one_of
from simam_deploy.cli.options import (
    CountOption,
    FileArgument,
    JsonOption,
    LimitsOption,
    MeanOption,
    QuietOption,
    ReportOption,
    SizeOption,
    StdOption,
    numbers,
    plane,
)

EXAMPLE = "analyze yolo.onnx --inputs photos/ --mean 0 --std 1"


def analyze(
    file: FileArgument,
    inputs: Annotated[
        str,
        typer.Option(
            help="Real samples: a folder of pictures, or an .npz with an array for each input.", show_default=False
        ),
    ],
    mean: MeanOption = None,
    std: StdOption = None,
    size: SizeOption = None,
    samples: CountOption = None,
    limits: LimitsOption = True,
    exclude_for: Annotated[
        str | None,
        typer.Option(
            help=f"Print only the nodes to keep in float32, for {', '.join(TOOLS)}.", autocompletion=one_of(TOOLS)
        ),
    ] = None,
    report: ReportOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run a network on real samples, and say which parts of it 16 bits would break."""
    from simam_deploy import api

    with render.progress(quiet) as say:
        found = api.analyze(
            file,
            inputs,
            mean=numbers(mean, "mean"),
            std=numbers(std, "std"),
            size=plane(size),
            samples=samples,
            limits=limits,
            report=report,
            on_progress=say,
        )
        excluded = None if exclude_for is None else found.excluded(exclude_for)
    if excluded is not None:
        render.lines(excluded)
        return
    if as_json:
        render.json({"file": str(file), **found.as_dict()})
        return
    render.analysed(found, f"{file}: sums, squares and divisions in 16 bits")
    render.verdict(found.verdict)
