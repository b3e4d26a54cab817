"""trtexec: a script that builds an engine of the file and times it. Types are those in the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from simam_deploy.engines.int8_parsing import INT8
from simam_deploy.errors import InputError
from simam_deploy.package import facts as reading
from simam_deploy.package.facts import Facts
from simam_deploy.package.quoting import command, library, printable, without
from simam_deploy.package.versions import TensorRT
from simam_deploy.text import on_one_line

PLUGIN = "our TensorRT plugin, libsimam_tensorrt.so"
OVERRIDE = "--enablePluginOverride"
PREFERS_PLUGINS = (10, 7)
"""By its changelog, from here on the parser takes a registered plugin before a function of the same name."""
TIMING_BEFORE_11 = ("--noDataTransfers", "--useCudaGraph", "--useSpinWait")
"""TensorRT 11 times so by default."""
AS_TEXT = "# Checked as text alone: no GPU has run these lines."


def script(facts: Facts, version: TensorRT, engine: Path, plugin: Path | None, program: str = "trtexec") -> str:
    """Both commands for a shell."""
    return "\n".join(
        (
            "#!/bin/sh",
            f"# trtexec of TensorRT {version.number} builds an engine of {facts.title}, and times it.",
            AS_TEXT,
            "# The network has the types of the file; float32 layers may round to TF32, unless you add --noTF32.",
            *facts.remarks,
            "set -e",
            "",
            command(program, building(facts, version, engine, plugin)),
            "",
            command(program, timing(facts, version, engine, plugin)),
            "",
        )
    )


def building(facts: Facts, version: TensorRT, engine: Path, plugin: Path | None) -> list[str]:
    """Options that build the engine. Raises InputError for a name that trtexec cannot read."""
    options = [f"--onnx={facts.path}", f"--saveEngine={printable('the engine', engine)}", "--skipInference"]
    if facts.profiles:
        for end in ("min", "opt", "max"):
            shapes = {name: getattr(profile, end) for name, profile in facts.profiles.items()}
            options.append(f"--{end}Shapes={shape_list(shapes)}")
    if version.release < (11,):
        options.append("--stronglyTyped")
    if plugin is not None:
        options += _plugin(plugin)
        if facts.bare < facts.simam and not facts.named and OVERRIDE in version.flags:
            options.append(OVERRIDE)
    version.refuse_unknown(options)
    return options


def timing(facts: Facts, version: TensorRT, engine: Path, plugin: Path | None) -> list[str]:
    """Options that load the engine and time it, at the shapes to be fastest at."""
    options = [f"--loadEngine={engine}"]
    if facts.profiles:
        options.append(f"--shapes={shape_list({name: profile.opt for name, profile in facts.profiles.items()})}")
    if plugin is not None:
        options += _plugin(plugin)
    if version.release < (11,):
        options += TIMING_BEFORE_11
    version.refuse_unknown(options)
    return options


def shape_list(shapes: dict[str, Sequence[int]]) -> str:
    """As `x:1x3x8x8,y:1x4`. Raises InputError for a name with a comma or a quote, at which readers split."""
    parts = []
    for name, shape in shapes.items():
        without("the name of an input", name, ",'", "trtexec")
        parts.append(f"{name}:{'x'.join(map(str, shape))}")
    return ",".join(parts)


def check(facts: Facts, plugin: Path | None, host: str) -> None:
    """Refuse files that TensorRT cannot take. Raises InputError."""
    if facts.unparsed:
        raise InputError(f"TensorRT's parser refuses {facts.path}: {on_one_line(facts.unparsed)}{INT8}")
    reading.refuse_for_one_cpu(facts, host)
    reading.refuse_without_library(facts, plugin, PLUGIN)


def notes(facts: Facts, version: TensorRT, plugin: Path | None) -> list[str]:
    """Remarks on the plugin, and on operators of others."""
    found = [f"{op} is of another domain, so TensorRT needs a plugin for it too" for op in facts.foreign]
    return [*_of_simam(facts, version, plugin), *found]


def _of_simam(facts: Facts, version: TensorRT, plugin: Path | None) -> list[str]:
    if not facts.simam:
        return ["no SimAM node is in the file; TensorRT runs the primitive operators"]
    sure = f"for the plugin, write the file with: simam-deploy fuse {facts.path} -o OUT.onnx --form custom_op"
    if plugin is None:
        if version.release < PREFERS_PLUGINS:
            return [f"SimAM runs as its fallback definition; {sure}, and name the library with --plugin"]
        return ["SimAM runs as its fallback definition; --plugin LIB takes our kernel"]
    with_fallback = facts.bare < facts.simam
    if with_fallback and version.release < PREFERS_PLUGINS:
        return [f"TensorRT {version.number} takes the fallback definition, not the plugin; {sure}"]
    if with_fallback and not facts.named and OVERRIDE not in version.flags:
        return [
            f"by its changelog TensorRT {version.number} takes the plugin before the fallback definition; this was "
            f"not tried; {sure}"
        ]
    return []


def _plugin(plugin: Path) -> list[str]:
    return [f"--dynamicPlugins={library(plugin)}"]
