"""The hosts that there are recipes for, and the options that each takes.

print(recipe("trtexec", "yolo.onnx", shapes={"images": (1, 3, 640, 640)}, tensorrt="10.3"))
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from simam_deploy.engines.profiles import WantedShapes
from simam_deploy.errors import InputError
from simam_deploy.package import deepstream, engine_file, jetson, onnxruntime, triton, trtexec, versions
from simam_deploy.package.facts import Facts, read, refuse_without_library
from simam_deploy.text import on_one_line


@dataclass(frozen=True)
class Recipe:
    """Lines for one host; `print` prints them alone. notes : remarks for the reader, not for the host."""

    host: str
    text: str
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return self.text.removesuffix("\n")


@dataclass(frozen=True)
class Asked:
    """Options of a recipe, as users give them; None where they give none."""

    plugin: Path | None = None
    engine: Path | None = None
    tensorrt: str | None = None
    jetpack: str | None = None
    shapes: WantedShapes | None = None


def recipe(
    host: str,
    file: str | os.PathLike[str],
    *,
    plugin: str | os.PathLike[str] | None = None,
    engine: str | os.PathLike[str] | None = None,
    tensorrt: str | None = None,
    jetpack: str | None = None,
    shapes: WantedShapes | None = None,
) -> Recipe:
    """Write the lines, or the configuration, with which `host` runs the ONNX file `file`. Runs and writes nothing.

    host : "trtexec", "deepstream", "triton", "onnxruntime" or "jetson".
    plugin : our compiled library, where the host will find it. It is the op library for ONNX Runtime, and for Triton
    without an engine; elsewhere it is the TensorRT plugin. A Jetson builds the plugin where a file needs it.
    engine : the engine's file, to be written, or for Triton to be served; by default `<name of the file>.engine`.
    tensorrt : version of the host, as "10.3"; by default that of the JetPack, or the newest with a table of flags.
    jetpack : version on the Jetson, as "6.2".  shapes : as in `build_engine`.
    Returns a Recipe: `text`, `notes`; print it for its text.
    Raises InputError for an unknown host or version, an option that the host does not use, a missing shape, nodes
    that need a library which is not named, an engine that is here and is another one; ModelFileError for the file.
    """
    if host not in HOSTS:
        raise InputError(f"no recipe for {host!r}; there are recipes for {', '.join(HOSTS)}")
    versions.refuse_numbers(tensorrt=tensorrt, jetpack=jetpack)
    asked = Asked(_path(plugin), _path(engine), tensorrt, jetpack, shapes)
    for name in ("plugin", "engine", "tensorrt", "jetpack", "shapes"):
        if getattr(asked, name) and name not in TAKES[host]:
            takers = [each for each, takes in TAKES.items() if name in takes]
            raise InputError(f"the recipe for {host} has no --{name}; with it: {', '.join(takers)}")
    facts = read(Path(file), shapes, with_profiles="shapes" in TAKES[host])
    text, notes = HOSTS[host](facts, asked)
    return Recipe(host, text, (*facts.notes, *facts.warnings, *notes))


def _trtexec(facts: Facts, asked: Asked) -> tuple[str, list[str]]:
    trtexec.check(facts, asked.plugin, "trtexec")
    version, note = _version(asked)
    engine, here = _engine(facts, asked)
    text = trtexec.script(facts, version, engine, asked.plugin)
    return text, [*note, *here, *trtexec.notes(facts, version, asked.plugin)]


def _deepstream(facts: Facts, asked: Asked) -> tuple[str, list[str]]:
    trtexec.check(facts, asked.plugin, "DeepStream")
    version, note = _version(asked)
    engine, here = _engine(facts, asked)
    text = deepstream.config(facts, version, engine, asked.plugin)
    return text, [*note, *here, *deepstream.notes(facts, version, asked.plugin)]


def _triton(facts: Facts, asked: Asked) -> tuple[str, list[str]]:
    engine = None
    if asked.engine is None:
        refuse_without_library(facts, asked.plugin, triton.OP_LIBRARY)
    else:
        trtexec.check(facts, asked.plugin, "a TensorRT engine")
        engine_file.refuse_the_model(asked.engine, facts)
        engine = engine_file.read(asked.engine, facts, engine_file.SERVED)
    return triton.script(facts, engine, asked.plugin), triton.notes(engine, asked.plugin)


def _onnxruntime(facts: Facts, asked: Asked) -> tuple[str, list[str]]:
    refuse_without_library(facts, asked.plugin, triton.OP_LIBRARY)
    return onnxruntime.program(facts, asked.plugin), onnxruntime.notes(asked.plugin)


def _jetson(facts: Facts, asked: Asked) -> tuple[str, list[str]]:
    plugin = asked.plugin or (jetson.BUILT if facts.bare else None)
    trtexec.check(facts, plugin, "a Jetson")
    if asked.plugin:
        jetson.refuse_plugin(asked.plugin)
    jetpack = versions.jetpack(asked.jetpack or versions.USUAL_JETPACK)
    note = [] if asked.jetpack else [f"for JetPack {jetpack.number}; --jetpack names another"]
    version = versions.tensorrt(jetson.version_asked(jetpack, asked.tensorrt))
    engine, here = _engine(facts, asked)
    text = jetson.script(facts, jetpack, version, engine, plugin)
    return text, [*note, *here, *jetson.notes(facts, jetpack, version, plugin)]


HOSTS = {
    "trtexec": _trtexec,
    "deepstream": _deepstream,
    "triton": _triton,
    "onnxruntime": _onnxruntime,
    "jetson": _jetson,
}
_ENGINES = frozenset({"plugin", "engine", "tensorrt", "shapes"})
TAKES = {
    "trtexec": _ENGINES,
    "deepstream": _ENGINES,
    "triton": frozenset({"plugin", "engine"}),
    "onnxruntime": frozenset({"plugin", "shapes"}),
    "jetson": _ENGINES | {"jetpack"},
}
"""Host -> options that it uses."""


def _version(asked: Asked) -> tuple[versions.TensorRT, list[str]]:
    """The version, and a note where it was chosen here."""
    if asked.tensorrt:
        return versions.tensorrt(asked.tensorrt), []
    newest = versions.newest()
    return versions.tensorrt(newest), [f"for TensorRT {newest}; --tensorrt names another"]


def _engine(facts: Facts, asked: Asked) -> tuple[Path, list[str]]:
    """The engine to be written, and a note where another one has the name that was chosen here."""
    engine = asked.engine or Path(f"{facts.path.stem}.engine")
    engine_file.refuse_the_model(engine, facts)
    try:
        engine_file.read(engine, facts, engine_file.WRITTEN)
    except InputError as error:
        if asked.engine:
            raise
        return engine, [on_one_line(f"{error}")]
    return engine, []


def _path(given: str | os.PathLike[str] | None) -> Path | None:
    return None if given is None else Path(given)
