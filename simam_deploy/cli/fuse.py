"""simam-deploy fuse."""

from __future__ import annotations

from typing import Annotated

import typer

from simam_deploy.cli import render
from simam_deploy.cli.choices import file_of, one_of
from simam_deploy.cli.options import (
    FileArgument,
    FoldEpilogueOption,
    FormOption,
    ForOption,
    JsonOption,
    OutputOption,
    QuietOption,
    ShapesOption,
    sizes,
)
from simam_deploy.errors import InputError

EXAMPLE = "fuse yolo.onnx -o yolo.simam.onnx"


def fuse(
    file: FileArgument,
    output: OutputOption,
    form: FormOption = None,
    for_runtime: ForOption = None,
    epilogue: FoldEpilogueOption = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Where M - 1 is a constant for another size, take it from the shape.")
    ] = False,
    e_lambda: Annotated[
        str | None,
        typer.Option(
            "--lambda",
            help="λ before a converter rounded it to 16 bits: a number, or the ONNX file that has it.",
            autocompletion=file_of(".onnx"),
        ),
    ] = None,
    specialise: Annotated[
        str | None,
        typer.Option(
            help="cpu: lay the whole file out for ONNX Runtime on this machine's CPU; it runs on such alone.",
            autocompletion=one_of(("cpu",)),
        ),
    ] = None,
    shape: ShapesOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find the SimAM blocks in an ONNX file and write them in another form."""
    if specialise is not None:
        _refuse_with_specialise(specialise, repair or e_lambda is not None or bool(form or for_runtime))
    elif shape is not None:
        raise InputError("--shape is for the comparison that --specialise makes; fuse by itself runs nothing")
    from simam_deploy import api

    with render.progress(quiet) as say:
        if specialise is None:
            done = api.fuse(
                file,
                output,
                form=form,
                for_runtime=for_runtime,
                repair=repair,
                epilogue=epilogue,
                e_lambda=_lambda(e_lambda),
                on_progress=lambda node: say(f"check the block at {node}"),
            )
        else:
            done = api.specialise(file, output, shape=sizes(shape), on_progress=say)
    if as_json:
        render.json({"file": str(output), **done.as_dict()})
        return
    render.fused(done, f"{output}: SimAM blocks")
    render.verdict(done.verdict)


def _lambda(text: str | None) -> float | str | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _refuse_with_specialise(target: str, others: bool) -> None:
    if target != "cpu":
        raise InputError(f"--specialise knows cpu; asked for {target!r}")
    if others:
        raise InputError(
            "--specialise chooses the form and repairs nothing; write the portable file with these options first"
        )
