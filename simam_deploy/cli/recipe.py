"""simam-deploy recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simam_deploy.cli import choices, render
from simam_deploy.cli.options import FileArgument, QuietOption

EXAMPLE = "recipe trtexec net.onnx --tensorrt 10.3"


def recipe(
    host: Annotated[
        str,
        typer.Argument(
            help=f"{', '.join(choices.HOSTS)}.", show_default=False, autocompletion=choices.one_of(choices.HOSTS)
        ),
    ],
    file: FileArgument,
    plugin: Annotated[
        Path | None,
        typer.Option(help="Our compiled library, where the host finds it: the op library or the TensorRT plugin."),
    ] = None,
    engine: Annotated[
        Path | None, typer.Option(help="The engine's file, to be written; for triton, to be served.")
    ] = None,
    tensorrt: Annotated[str | None, typer.Option(help="Version of TensorRT on the host, as 10.3.")] = None,
    jetpack: Annotated[str | None, typer.Option(help="Version of JetPack on the Jetson, as 6.2.")] = None,
    shapes: Annotated[
        list[str] | None,
        typer.Option("--shapes", "--shape", help="NAME:MIN..OPT..MAX for a dynamic input, as build takes it."),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Print the lines or the configuration with which another program runs the file."""
    from simam_deploy import package

    done = package.recipe(
        host,
        file,
        plugin=plugin,
        engine=engine,
        tensorrt=tensorrt,
        jetpack=jetpack,
        shapes=shapes,
    )
    print(done)
    if not quiet:
        render.notes(done.notes)
