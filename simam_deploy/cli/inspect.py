"""simam-deploy inspect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simam_deploy.cli import render
from simam_deploy.cli.choices import file_of
from simam_deploy.cli.options import InspectedArgument, JsonOption, QuietOption
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
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List the SimAM blocks of an ONNX file, and what comes close to one; or compare an engine with its manifest."""
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
    render.lines(seen.rounded)
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
