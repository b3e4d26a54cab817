"""simam-deploy build."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from simam_deploy.cli import render
from simam_deploy.cli.options import FileArgument, JsonOption, LimitsOption, OutputOption, QuietOption, parts
from simam_deploy.text import counted

EXAMPLE = "build net.onnx -o net.engine --targets sm86,sm89"


def build(
    file: FileArgument,
    output: OutputOption,
    targets: Annotated[str, typer.Option(help="Comma-separated compute capabilities, as sm86,sm89.")],
    shapes: Annotated[
        list[str] | None,
        typer.Option(
            "--shapes",
            "--shape",
            help="NAME:MIN[,OPT,MAX] for a dynamic input, as x:1x3x64x64,4x3x64x64,8x3x64x64.",
        ),
    ] = None,
    limits: LimitsOption = True,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Build a TensorRT-RTX engine; no GPU is needed."""
    from simam_deploy.engines import builder
    from simam_deploy.engines.shape_ranges import parse_shapes

    with render.progress(quiet) as say:
        report = builder.build_engine(
            file,
            output,
            targets=parts(targets),
            shapes=parse_shapes(shapes or []),
            on_progress=say,
            limits=limits,
        )
    if as_json:
        render.json(asdict(report))
        return
    facts = [
        ("precision", report.precision),
        ("targets", ", ".join(report.targets)),
        ("size", f"{report.size_bytes:,} bytes"),
        ("layers", report.layers),
        ("TensorRT-RTX", report.version),
        ("time", f"{report.build_s:.1f} s"),
    ]
    render.table(str(output), ("engine", ""), facts)
    render.verdict(f"passed: built for all {counted(len(report.targets), 'target')}")
