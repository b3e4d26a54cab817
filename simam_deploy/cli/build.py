"""simam-deploy build."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from simam_deploy.cli import render
from simam_deploy.cli.choices import one_of
from simam_deploy.cli.options import FileArgument, JsonOption, LimitsOption, OutputOption, QuietOption, parts
from simam_deploy.engines.flavors import FLAVORS
from simam_deploy.engines.options import COMPATIBILITIES, VERBOSITIES
from simam_deploy.text import counted

EXAMPLE = "build net.onnx -o net.engine --targets sm86,sm89"


def build(
    file: FileArgument,
    output: OutputOption,
    targets: Annotated[
        str, typer.Option(help="For TensorRT-RTX: comma-separated compute capabilities, as sm86,sm89.")
    ] = "",
    flavor: Annotated[
        str,
        typer.Option(help="auto, tensorrt or tensorrt_rtx.", autocompletion=one_of(("auto", *FLAVORS))),
    ] = "auto",
    shapes: Annotated[
        list[str] | None,
        typer.Option(
            "--shapes",
            "--shape",
            help="NAME:MIN..OPT..MAX for a dynamic input, as x:1x3x64x64..4x3x64x64..8x3x64x64; "
            "or MIN..MAX, or one size.",
        ),
    ] = None,
    plugin: Annotated[str, typer.Option(help="auto, none, or the file of our TensorRT plugin.")] = "auto",
    workspace: Annotated[int | None, typer.Option(help="Scratch memory of a layer, in MiB.")] = None,
    optimization_level: Annotated[int | None, typer.Option(help="0 to 5: building time against speed.")] = None,
    timing_cache: Annotated[Path | None, typer.Option(help="File of measured times, read and written.")] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="For later versions of TensorRT too.")
    ] = False,
    hardware_compatible: Annotated[
        str | None, typer.Option(help=f"For other GPUs too: {', '.join(COMPATIBILITIES)}.")
    ] = None,
    refit: Annotated[bool, typer.Option("--refit", help="Weights can be changed.")] = False,
    strip: Annotated[bool, typer.Option("--strip", help="Without the weights that can be refitted.")] = False,
    sparse_weights: Annotated[bool, typer.Option("--sparse-weights", help="Use 2:4 sparsity of weights.")] = False,
    tf32: Annotated[
        bool | None, typer.Option("--tf32/--no-tf32", help="Whether float32 layers may round to TF32.")
    ] = None,
    profiling_verbosity: Annotated[str | None, typer.Option(help=f"{', '.join(VERBOSITIES)}.")] = None,
    max_aux_streams: Annotated[int | None, typer.Option(help="Further CUDA streams at most.")] = None,
    max_tactics: Annotated[int | None, typer.Option(help="Timed kernels of a layer at most.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Time of the builder, in seconds.")] = None,
    memory: Annotated[int | None, typer.Option(help="Memory of the builder, in MiB.")] = None,
    limits: LimitsOption = True,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Build a TensorRT or TensorRT-RTX engine; for TensorRT-RTX no GPU is needed."""
    from simam_deploy.engines import builder

    with render.progress(quiet) as say:
        report = builder.build_engine(
            file,
            output,
            flavor=flavor,
            targets=parts(targets),
            shapes=shapes,
            plugin=plugin,
            workspace_mb=workspace,
            optimization_level=optimization_level,
            timing_cache=timing_cache,
            version_compatible=version_compatible,
            hardware_compatible=hardware_compatible,
            refit=refit,
            strip=strip,
            sparse_weights=sparse_weights,
            tf32=tf32,
            profiling_verbosity=profiling_verbosity,
            max_aux_streams=max_aux_streams,
            max_tactics=max_tactics,
            on_progress=say,
            timeout_s=timeout,
            memory_mb=memory,
            limits=limits,
        )
    if as_json:
        render.json(asdict(report))
        return
    facts = [
        ("precision", report.precision),
        ("targets", ", ".join(report.targets) or "the GPU of this machine"),
        ("size", f"{report.size_bytes:,} bytes"),
        ("layers", report.layers),
        *([("SimAM", _blocks(report.blocks))] if report.blocks else []),
        (FLAVORS[report.flavor].title, report.version),
        ("time", f"{report.build_s:.1f} s"),
    ]
    render.table(str(output), ("engine", ""), facts)
    render.lines((*report.notes, *report.log))
    whom = f"all {counted(len(report.targets), 'target')}" if report.targets else "the GPU of this machine"
    render.verdict(f"passed: built for {whom}")


def _blocks(blocks: Sequence[Mapping[str, Any]]) -> str:
    """How they were built, as 2 by the plugin, 1 by its fallback definition (9 layers)."""
    found = []
    for built, words in (("plugin", "by the plugin"), ("fallback", "by the fallback definition")):
        mine = [block for block in blocks if block["built"] == built]
        if mine:
            found.append(f"{len(mine)} {words} ({counted(sum(block['layers'] for block in mine), 'layer')})")
    if unknown := sum(not block["built"] for block in blocks):
        found.append(f"{unknown} in primitive operators")
    return ", ".join(found)
