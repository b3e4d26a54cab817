"""The engine's file in a recipe: a path that may be written, and the engine that is there already."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simam_deploy.artifacts.file_kinds import is_file
from simam_deploy.engines.flavors import RTX
from simam_deploy.engines.inspection import inspect
from simam_deploy.engines.shape_ranges import ShapeRange
from simam_deploy.errors import InputError
from simam_deploy.package.facts import Facts
from simam_deploy.package.quoting import printable

SUFFIX = ".onnx"
SERVED = "build one on the GPU that runs it: simam-deploy recipe trtexec {file}"
WRITTEN = "the lines would write over it; name another file with --engine"
"""What to do with an engine that is to be served, or to be written."""


@dataclass(frozen=True)
class EngineFile:
    """What is known of the engine. profiles : from its manifest.  notes : what could not be checked."""

    path: Path
    profiles: dict[str, ShapeRange]
    notes: tuple[str, ...] = ()


def refuse_the_model(engine: Path, facts: Facts) -> None:
    """Raise InputError for a path that is, or by its name should be, an ONNX file or its weights."""
    what = ""
    if _same(engine, facts.path):
        what = "the model itself"
    elif any(_same(engine, file) for file in facts.weights):
        what = "a file of the model's weights"
    elif engine.suffix.lower() == SUFFIX:
        what = "the name of an ONNX file"
    if what:
        raise InputError(f"the engine is {printable('the engine', engine)}, {what}\nname a file of its own: --engine")


def read(engine: Path, facts: Facts, remedy: str) -> EngineFile:
    """Header and manifest of the engine, if it is here.

    remedy : SERVED or WRITTEN.
    Raises InputError for an engine of TensorRT-RTX, of another ONNX file, or damaged; ModelFileError for no engine.
    """
    if not is_file(engine):
        return EngineFile(engine, {}, (f"{engine} is not here, so it was not checked",))
    seen = inspect(engine, against=facts.path)
    if seen.header is not None and seen.header.flavor == RTX.name:
        raise InputError(
            f"{engine} is an engine of TensorRT-RTX, which TensorRT-RTX alone loads; trtexec, Triton and DeepStream "
            f"load those of TensorRT\n{remedy.format(file=facts.path)}"
        )
    found = seen.disagreements if seen.manifest else seen.disagreements[:-1]  # the last says that there is none
    if found:
        raise InputError("\n".join((f"{engine} cannot be the engine of {facts.path}:", *found)))
    if seen.manifest is None:
        return EngineFile(engine, {}, (f"nothing says which file {engine} was built from, so that was not checked",))
    return EngineFile(engine, _profiles(seen.manifest.get("profiles")))


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _profiles(told: Any) -> dict[str, ShapeRange]:
    """Those of a manifest; skips what is of another kind."""
    found = {}
    for name, shape in told.items() if isinstance(told, dict) else ():
        ends = [_sizes(shape.get(end)) for end in ShapeRange._fields] if isinstance(shape, dict) else [()]
        if all(ends):
            found[name] = ShapeRange(*ends)
    return found


def _sizes(told: Any) -> tuple[int, ...]:
    whole = isinstance(told, list) and all(type(size) is int for size in told)
    return tuple(told) if whole else ()
