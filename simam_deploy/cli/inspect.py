"""simam-deploy inspect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simam_deploy.cli import render
from simam_deploy.cli.choices import file_of, one_of
from simam_deploy.cli.options import InspectedArgument, JsonOption, QuietOption, parts
from simam_deploy.engines.flavors import AUTO, FLAVORS
from simam_deploy.errors import InputError

if TYPE_CHECKING:
    from simam_deploy.compare.inspection import Inspection

EXAMPLE = "inspect yolo.onnx"


def inspect(
    file: InspectedArgument,
    against: Annotated[
        Path | None,
        typer.Option(help="Of an engine: the ONNX file that it was built from.", autocompletion=file_of(".onnx")),
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="What TensorRT's parser makes of each block, in each form.")
    ] = False,
    flavor: Annotated[
        str,
        typer.Option(
            help="Of --layers, whose parser: auto, tensorrt or tensorrt_rtx.", autocompletion=one_of((AUTO, *FLAVORS))
        ),
    ] = AUTO,
    plugin: Annotated[str, typer.Option(help="Of --layers: auto, none, or the file of our TensorRT plugin.")] = AUTO,
    targets: Annotated[
        str, typer.Option(help="Of --layers: build an engine of each form for these GPU kinds, as sm86,sm89.")
    ] = "",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List the SimAM blocks of an ONNX file, and what comes close to one; or compare an engine with its manifest."""
    if layers:
        if against is not None:
            raise InputError("--against is for engines, and --layers for ONNX files; leave one of the two out")
        _inspect_layers(file, flavor, plugin, parts(targets), as_json, quiet)
        return
    if given := [name for name, value in (("flavor", flavor), ("plugin", plugin)) if value != AUTO] + [
        "targets"
    ] * bool(targets):
        raise InputError(f"--{given[0]} is for --layers; add that, or leave it out")
    from simam_deploy.engines.inspection import is_engine

    if is_engine(file):
        _inspect_engine(file, against, as_json, quiet)
        return
    if against is not None:
        raise InputError(f"{file} is no engine, and --against is for engines; compare models with verify")
    from simam_deploy.compare import inspection

    with render.progress(quiet) as say:
        seen = inspection.inspect(file, on_progress=say)
    render.json(seen.as_dict()) if as_json else _print(file, seen)
    if seen.disagreements:
        raise typer.Exit(1)


def _print(file: Path, seen: Inspection) -> None:
    weights = seen.weight_bytes / 2**20
    render.lines([f"{file}: opset {seen.opset}, IR {seen.ir_version}, {weights:.1f} MiB of weights"])
    if mark := seen.specialised:
        where = f"{mark.get('machine')} with ONNX Runtime {mark.get('onnxruntime')}"
        render.lines([f"specialised for {where}: {seen.blocked} SimAM operators in the blocked layout"])
    render.lines(seen.disagreements)
    if blocks := seen.found.blocks:
        render.table(f"{len(blocks)} SimAM blocks", *seen.found.table, right=("λ",))
    elif mark is None:
        render.lines(["no SimAM block"])
    if (use := seen.kernel).of:
        ran = f"{use.ran} of {use.of} nodes" if use.ran is not None else "not seen"
        target, why = f" ({use.target})" if use.target else "", use.why and f"; {use.why}"
        render.lines([f"compiled kernel, in ort: {ran}{target}{why}"])
    render.lines([*seen.rounded, *filter(None, (seen.half,))])
    render.lines(seen.shared, "inner values that others use too; fuse keeps these and says so:")
    render.lines(
        seen.defaults, "inputs whose defaults are its constants; after fuse, feeding others changes nothing in it:"
    )
    render.near_misses(seen.found.near_misses)
    render.verdict(seen.verdict)


def _inspect_engine(file: Path, against: Path | None, as_json: bool, quiet: bool) -> None:
    from simam_deploy.engines import inspection

    with render.progress(quiet) as say:
        seen = inspection.inspect(file, against=against, on_progress=say)
    if as_json:
        render.json(seen.as_dict())
    else:
        render.engine(seen)
        render.verdict(seen.verdict)
    if seen.disagreements:
        raise typer.Exit(1)


def _inspect_layers(file: Path, flavor: str, plugin: str, targets: list[str], as_json: bool, quiet: bool) -> None:
    from simam_deploy.api.layers import inspect_layers

    with render.progress(quiet) as say:
        seen = inspect_layers(file, flavor=flavor, plugin=plugin, targets=targets, on_progress=say)
    if as_json:
        render.json(seen.as_dict())
        return
    columns, rows = seen.table
    render.table(
        f"{file}: layers of {seen.parser}",
        columns,
        rows,
        right=("blocks", "layers", "network", "bytes", "count"),
        last=("kinds",),
    )
    render.lines(seen.faults, "warnings, and forms that were not parsed:")
    render.lines((*seen.notes, *seen.choice))
    render.verdict(seen.verdict)
