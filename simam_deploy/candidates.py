"""Which sessions to compare or to time: files x forms x runtimes, as functions that open them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import onnx_ir as ir

from simam_deploy import native, onnx_file
from simam_deploy.blocks import find
from simam_deploy.errors import FormError, InputError
from simam_deploy.forms import FORMS
from simam_deploy.fuse import fuse
from simam_deploy.runtimes import OPTIONS, RUNTIMES, open_session
from simam_deploy.runtimes.session import Session
from simam_deploy.verify import Tap

NO_KERNEL = "form custom_op has no body; besides onnx_reference only ort runs it, with the kernel library"


@dataclass
class Candidates:
    """What can be opened, by label; the tapped SimAM blocks of each; what was left out, and why."""

    open: dict[str, Callable[[], Session]] = field(default_factory=dict)
    taps: dict[str, list[Tap]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def gather(
    files: Sequence[Path],
    forms: Sequence[str],
    runtimes: Sequence[str],
    folder: Path,
    *,
    threads: int = 0,
    provider: str | None = None,
    kernel: str | None = None,
    taps: bool = False,
    on_progress: Callable[[str], None] | None = None,
) -> Candidates:
    """One candidate for each file, form and runtime.

    forms : names of FORMS, to convert each file to; "all" for those that fit it; none for the files as they are.
    runtimes : names of RUNTIMES without "eager".  folder : where converted and tapped files are put.
    provider, kernel : for ort, as in open_session.  taps : expose x and y of every SimAM block as outputs.
    Raises FormError when a form that was asked for by name cannot carry a file.
    """
    unknown = [name for name in runtimes if name not in RUNTIMES or name == "eager"]
    if unknown:
        known = ", ".join(name for name in RUNTIMES if name != "eager")
        raise InputError(f"no such runtime for ONNX files: {', '.join(unknown)}; there are {known}")
    result = Candidates()
    for file in files:
        stem = f"{file.stem} · " if len(files) > 1 else ""
        with onnx_file.blaming(file):
            lowered = _in_forms(file, forms, folder, result, on_progress)
        for form, model, path in lowered:
            with onnx_file.blaming(path):
                opened, tapped, hidden = (
                    _tapped(model or onnx_file.load(path), path, folder) if taps else (path, [], [])
                )
            result.skipped += [
                f"{stem}{form}: the gate at {node}, inside an If, a Loop or a function" for node in hidden
            ]
            for runtime in runtimes:
                label = f"{stem}{form} · {runtime}" if form else f"{stem}{runtime}"
                if form == "custom_op" and not _has_kernel(runtime, kernel):
                    result.skipped.append(f"{label}: {NO_KERNEL}")
                    continue
                asked = {"threads": threads, "provider": provider, "kernel": kernel}
                options = {k: v for k, v in asked.items() if v and runtime in OPTIONS[k]}
                result.open[label] = partial(open_session, opened, runtime, **options)  # type: ignore[arg-type]
                result.taps[label] = tapped
    return result


def _has_kernel(runtime: str, kernel: str | None) -> bool:
    return runtime == "onnx_reference" or (runtime == "ort" and kernel != "off" and native.library() is not None)


def expose(model: ir.Model) -> tuple[ir.Model, list[Tap], list[str]]:
    """A copy of `model` with x and y of every SimAM block of its main graph among its outputs, and the residual where
    it has one inside; and their names.

    The third are the blocks inside If, Loop and functions, which cannot be seen from outside.
    """
    result = model.clone()
    taps: list[Tap] = []
    hidden: list[str] = []
    for block in find(result).blocks:
        if block.inside[-1].graph is not result.graph:
            hidden.append(block.node)
            continue
        residual = None if block.tail is None else block.tail.residual
        for value in (block.x, block.y, *([] if residual is None else [residual])):
            if not value.is_graph_output() and not value.is_graph_input():
                value.type = value.type or ir.TensorType(block.dtype)
                value.shape = value.shape or ir.Shape(block.shape)
                result.graph.outputs.append(value)
        taps.append(Tap(block.node, str(block.x.name), str(block.y.name), block.e_lambda, block.tail))
    return result, taps, hidden


def _tapped(model: ir.Model, path: Path, folder: Path) -> tuple[Path, list[Tap], list[str]]:
    exposed, taps, hidden = expose(model)
    target = folder / f"{path.stem}.taps.onnx"
    onnx_file.save(exposed, target)
    return target, taps, hidden


def _in_forms(
    file: Path, forms: Sequence[str], folder: Path, result: Candidates, on_progress: Callable[[str], None] | None
) -> list[tuple[str, ir.Model | None, Path]]:
    if not forms:
        return [("", None, file)]
    model = onnx_file.load(file)
    found: list[tuple[str, ir.Model | None, Path]] = []
    for form in FORMS if "all" in forms else forms:
        path = folder / f"{file.stem}.{form}.onnx"
        try:
            lowered = fuse(model, form, on_progress).model
        except FormError as error:
            if "all" not in forms:
                raise
            result.skipped.append(str(error).partition("\nexport with")[0])
            continue
        onnx_file.save(lowered, path)
        found.append((form, lowered, path))
    return found
