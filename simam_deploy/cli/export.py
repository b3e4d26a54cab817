"""simam-deploy export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simam_deploy.artifacts import atomic
from simam_deploy.cli import choices, render
from simam_deploy.cli.options import (
    DEFAULT_INPUTS,
    FoldEpilogueOption,
    FormOption,
    ForOption,
    InputsOption,
    JsonOption,
    OutputOption,
    QuietOption,
    RuntimesOption,
    ShapesOption,
    WeightsOption,
    named_runtimes,
    parts,
    sizes,
)
from simam_deploy.errors import InputError, without_torch

if TYPE_CHECKING:
    from simam_deploy.pytorch.adopt.report import Adopted

EXAMPLE = "export net.py:build -o net.onnx --dynamic batch"


def export(
    model: Annotated[
        str,
        typer.Argument(
            help="package.module:callable or file.py:callable",
            show_default=False,
            autocompletion=choices.file_of(".py"),
        ),
    ],
    output: OutputOption,
    form: FormOption = None,
    for_runtime: ForOption = None,
    epilogue: FoldEpilogueOption = False,
    opset: Annotated[int | None, typer.Option(help="Default: that of --for, or the exporter's own.")] = None,
    dynamic: Annotated[
        list[str] | None,
        typer.Option(
            help="Comma-separated: batch, time, depth, height, width; or axes of an input by number, as x:0,2.",
            autocompletion=choices.list_of(choices.AXES),
        ),
    ] = None,
    exporter: Annotated[
        str, typer.Option(help="dynamo or torchscript.", autocompletion=choices.one_of(choices.EXPORTERS))
    ] = "dynamo",
    weights: WeightsOption = None,
    shape: ShapesOption = None,
    check: Annotated[bool, typer.Option(help="Compare with the model on every installed runtime.")] = True,
    runtimes: RuntimesOption = None,
    inputs: InputsOption = DEFAULT_INPUTS,
    check_seconds: Annotated[
        float | None,
        typer.Option(help="Begin no further inputs of the comparison after that; what is left is listed."),
    ] = None,
    adopt: Annotated[bool, typer.Option(help="Put our SimAM in the place of modules that compute SimAM.")] = True,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Export a PyTorch model to one ONNX file, and check that it gives what the model gives."""
    from simam_deploy.pytorch import load_model

    if not check and (runtimes is not None or check_seconds is not None or inputs != DEFAULT_INPUTS):
        raise InputError("--runtimes, --inputs and --check-seconds are for the comparison; leave --no-check out")
    code = load_model.code_file(model)
    read = [path for path in (code, weights and load_model.weights_file(weights)[0]) if path is not None]
    atomic.refuse_overwriting_inputs(output, read)
    if missing := [path for path in read if not path.exists()]:
        raise InputError(f"there is no file {missing[0]}")
    try:
        from simam_deploy import to_onnx  # imports torch: names that lead nowhere have been refused before
    except ModuleNotFoundError as error:
        raise without_torch(error, "export") or error from error

    notes: list[str] = []
    with render.progress(quiet) as say:
        say(f"build {model}")
        module, args = _torch_model(model, weights, shape, notes)
        if output.exists():
            atomic.refuse_overwriting_inputs(output, load_model.imported())
        done = to_onnx.export(
            module,
            args,
            output,
            form=form,
            for_runtime=for_runtime,
            epilogue=epilogue,
            opset=opset,
            dynamic=dynamic or [],
            exporter=exporter,
            check=check,
            runtimes=named_runtimes(runtimes),
            inputs=parts(inputs),
            check_seconds=check_seconds,
            adopt=adopt,
            source=model,
            on_progress=say,
        )
    if as_json:
        render.json(
            {
                "file": str(output),
                "weights": notes,
                "adopted": done.adopted and _as_dict(done.adopted),
                **done.fused.as_dict(),
                "notes": [*done.notes, *done.fused.notes],
                "parity": done.parity and done.parity.as_dict(),
            }
        )
        return
    render.lines(notes)
    if done.adopted is not None:
        _adopted(done.adopted)
    render.fused(done.fused, f"{output}: SimAM blocks")
    render.lines(done.notes)
    if done.parity is None:
        render.verdict(f"{done.fused.verdict}; not compared with the model (--no-check)")
    else:
        render.parity(done.parity)


def _torch_model(spec: str, weights: Path | None, shape: Sequence[str] | None, notes: list[str]) -> Any:
    import torch

    from simam_deploy.pytorch import load_model

    module, example = load_model.load(spec, weights, notes)
    given = sizes(shape)
    if given is None and example is None:
        raise InputError(f"{spec} gives no example input; say its size with --shape, as --shape 1,3,224,224")
    if given is None:
        return module, example
    generator = torch.Generator().manual_seed(0)
    return module, tuple(torch.randn(size, generator=generator) for size in given)


def _as_dict(adopted: Adopted) -> dict[str, Any]:
    rows, left = map(asdict, adopted.rows), map(asdict, adopted.left_alone)
    return {"rows": list(rows), "left_alone": list(left)}


def _adopted(adopted: Adopted) -> None:
    from simam_deploy.pytorch.adopt.report import shown

    rows = [(shown(row.names), row.class_name, f"{row.e_lambda:g}") for row in adopted.rows]
    if rows:
        render.table("adopted modules", ("module", "class", "λ"), rows, right=("λ",))
    render.lines([str(left) for left in adopted.left_alone], "modules left as they are:")
