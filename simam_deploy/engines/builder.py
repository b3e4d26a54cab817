"""Build a TensorRT or TensorRT-RTX engine and its manifest from an ONNX model.

    build_engine("model.onnx", "model.engine", targets=["sm86", "sm89"], shapes={"x": (1, 3, 224, 224)})

TensorRT-RTX builds for named targets, without a GPU; TensorRT builds for the GPU of the machine. Types are those of
the graph (a strongly typed network). The engine file holds the engine alone; `model.engine.json` describes its
origin. The builder runs in a separate process, engines/worker.py, because it may abort.
"""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from simam_deploy import __version__
from simam_deploy.artifacts import manifest
from simam_deploy.artifacts.atomic import refuse_overwriting_inputs, staging
from simam_deploy.artifacts.opening import sha256
from simam_deploy.engines import flavors
from simam_deploy.engines.arguments import bounds_told, path_of, refuse_bounds, refuse_other_file, targets_of
from simam_deploy.engines.int8_parsing import INT8
from simam_deploy.engines.options import BuildOptions, refuse_without_effect
from simam_deploy.engines.plugin_host import AUTO as AUTO_PLUGIN
from simam_deploy.engines.plugin_host import chosen_plugin, environment_for
from simam_deploy.engines.profiles import WantedShapes, profiles_of
from simam_deploy.engines.refusals import refuse_much, refuse_odd_lambdas, refuse_other_names, refuse_unknown_nodes
from simam_deploy.engines.run_worker import run_worker
from simam_deploy.engines.shape_ranges import ShapeRange
from simam_deploy.engines.source import source_of, states
from simam_deploy.errors import BuildError, InputError
from simam_deploy.graph import onnx_file
from simam_deploy.graph.number_types import precision
from simam_deploy.text import counted

MOST_LOG = 200
"""Lines of the builder's log in the manifest."""


@dataclass(frozen=True)
class EngineReport:
    """Result of a build.

    precision : of the ONNX file, as fp16 or int8+fp16: the engine has its types.  build_s : without parsing and
    writing.  log : warnings and errors of the builder.  flavor : a name in flavors.FLAVORS.
    types : number of parsed layers by kind and type of their result.  blocks : for each SimAM block, whether the
    plugin or its fallback definition was built, with the number of layers and their types.
    notes : what was chosen, sizes that the file told, and those that would fail.  plugin : the library.
    """

    path: Path
    precision: str
    targets: tuple[str, ...]
    profiles: dict[str, ShapeRange]
    size_bytes: int
    layers: int
    version: str
    build_s: float
    log: tuple[str, ...]
    flavor: str = flavors.RTX.name
    types: Mapping[str, int] = field(default_factory=dict)
    blocks: tuple[Mapping[str, Any], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    plugin: str | None = None


def build_engine(
    model_path: str | Path,
    engine_path: str | Path,
    *,
    flavor: str = flavors.AUTO,
    targets: Sequence[str] = (),
    shapes: WantedShapes | None = None,
    plugin: str | os.PathLike[str] = AUTO_PLUGIN,
    on_progress: Callable[[str], None] | None = None,
    timeout_s: float | None = None,
    memory_mb: int | None = None,
    limits: bool = True,
    **options: Any,
) -> EngineReport:
    """Build `engine_path` and `<engine_path>.json` from the ONNX file `model_path`.

    flavor : "tensorrt", "tensorrt_rtx", or "auto": the second if targets are named or the first is not installed.
    targets : of TensorRT-RTX, GPU kinds such as "sm86" (compute capability 8.6).
    shapes : for each input with a dynamic size its sizes, as (1, 3, 224, 224), or two of them: the smallest and the
    largest; or three, with the best between these. Or texts, as of the command: see shape_ranges.py. Without a shape,
    an input has the size of the example that the file tells; a note says so.
    plugin : our plugin library, "none" for the fallback definitions, or "auto": the library that is found where a
    node has no fallback definition, else none, as nothing is timed. `notes` say which.
    options : settings of the builder, see BuildOptions. One that it lacks, or takes without effect, is refused.
    on_progress : called with "parse", "build sm86, sm89", the steps of that, and "write".
    timeout_s : of the builder process.  memory_mb : that it may write, by default as much as the machine has.
    limits : refuse more than MOST_NODES nodes, and more than MOST_FOLDED folded numbers.
    Raises InputError (ModelFileError for the file), for instance for too many nodes, an unknown target or an option
    that the builder lacks; RuntimeUnavailable without the builder; OutputError; BuildError if the builder refuses,
    dies or exceeds the time or the memory. Nothing is written then.
    """
    from simam_deploy.match.find import find  # the search is loaded when it is used
    from simam_deploy.match.half_sums import half_note

    model_path, engine_path = path_of(model_path, "the model"), path_of(engine_path, "the engine")
    targets = targets_of(targets)
    refuse_bounds(timeout_s, memory_mb)
    chosen, note = flavors.chosen(flavor, targets)
    settings = BuildOptions.of(options)
    asked = settings.asked()
    if chosen is flavors.RTX:
        refuse_without_effect(asked)
    model, graph = onnx_file.both(model_path)
    if limits:
        refuse_much(model, model_path)
    library, why = chosen_plugin(plugin, model)
    refuse_unknown_nodes(model, model_path, chosen.title, plugin=library is not None)
    with onnx_file.blaming(model_path):
        profiles, sizes = profiles_of(model, graph, shapes)
    outside = onnx_file.weight_files(model, model_path)
    refuse_odd_lambdas(model, model_path)
    refuse_other_names(model_path, library)
    inputs = [model_path, *outside, *([] if library is None else [library])]
    refuse_overwriting_inputs(engine_path, inputs)
    refuse_other_file(engine_path)
    if settings.timing_cache is not None:
        refuse_overwriting_inputs(settings.timing_cache, inputs)
        _refuse_same(settings.timing_cache, engine_path)
    blocks = find(graph).blocks
    job: dict[str, object] = {
        "flavor": chosen.name,
        "model": str(model_path),
        "targets": targets,
        "profiles": profiles,
        "functions": sorted({function.name for function in model.functions}),
        "blocks": [block.node for block in blocks],
        "options": asked,
        "hint": INT8 if "int8" in precision(graph) else "",
        "memory": _memory(memory_mb),
        "plugin": None if library is None else str(library),
    }
    source, before = source_of(model_path, outside), states([model_path, *outside])
    with ExitStack() as stack:
        staged = stack.enter_context(staging(engine_path))
        job |= {"engine": str(staged)}
        if settings.timing_cache is not None:
            job |= {"cache": str(stack.enter_context(staging(settings.timing_cache)))}
        variables: dict[str, str] = {}
        if library is not None:
            links = stack.enter_context(tempfile.TemporaryDirectory(prefix="simam-deploy-"))
            variables = environment_for(Path(links))
        try:
            done, log = run_worker(job, on_progress, timeout_s, variables)
        except BuildError as error:
            raise BuildError(f"{error}{bounds_told(settings.workspace_mb, memory_mb)}") from error
        _refuse_fallback(done["blocks"], library)
        if states([model_path, *outside]) != before:
            raise BuildError(f"{model_path} or its weights changed while the engine was built; build it again")
        report = EngineReport(
            path=engine_path,
            precision=precision(graph),
            targets=tuple(done["targets"]),
            profiles=profiles,
            size_bytes=staged.stat().st_size,
            layers=done["layers"],
            version=done["version"],
            build_s=done["build_s"],
            log=tuple(log),
            flavor=chosen.name,
            types=done["types"],
            blocks=tuple(done["blocks"]),
            options=asked,
            notes=tuple(filter(None, (note, why, _in_float64(graph), half_note(blocks, model_path), *sizes))),
            plugin=None if library is None else str(library),
        )
        manifest.write(_manifest(report, source), staged)
    return report


def _refuse_same(cache: Path, engine: Path) -> None:
    """Raise InputError if the timing cache would replace the engine or its manifest."""
    if cache.resolve() in (engine.resolve(), engine.resolve().with_name(engine.resolve().name + manifest.SUFFIX)):
        raise InputError(f"--timing-cache {cache} is the engine or its manifest; give the cache a name of its own")


def _refuse_fallback(blocks: Sequence[Mapping[str, Any]], library: Path | None) -> None:
    """Raise BuildError if a plugin was asked for, and a node of ours was built without it."""
    left = [block["node"] for block in blocks if block["built"] == "fallback"]
    if library is not None and left:
        raise BuildError(
            f"{counted(len(left), 'SimAM block')} would run as the fallback definition, not by {library}: "
            f"{', '.join(left[:3])}\nthis builder prefers the definition; write the file with --form custom_op"
        )


def _in_float64(graph: ir.Model) -> str:
    """A note on inputs and outputs in float64, which the engine has in float32; "" without any."""
    wide = [f"{v.name}" for v in (*graph.graph.inputs, *graph.graph.outputs) if v.dtype == ir.DataType.DOUBLE]
    return f"float32 in the engine, as TensorRT has no float64: {', '.join(wide)}" if wide else ""


def _memory(asked_mb: int | None) -> int | None:
    """In bytes: what was asked for, or all that the machine has; None where that is unknown."""
    if asked_mb is not None:
        return asked_mb << 20
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _about_plugin(library: str | None) -> manifest.Record | None:
    if library is None:
        return None
    with Path(library).open("rb") as stream:
        return {"file": Path(library).name, "sha256": sha256(stream)}


def _manifest(report: EngineReport, source: manifest.Record) -> manifest.Record:
    return {
        "source": source,
        "engine": {"file": report.path.name, "bytes": report.size_bytes, "layers": report.layers},
        "flavor": report.flavor,
        "precision": report.precision,
        "targets": list(report.targets),
        "profiles": {name: shape._asdict() for name, shape in report.profiles.items()},
        "options": dict(report.options),
        "plugin": _about_plugin(report.plugin),
        "types": dict(report.types),
        "blocks": [dict(block) for block in report.blocks],
        "log": list(report.log[:MOST_LOG]),
        "strongly_typed": True,
        "versions": {
            "simam_deploy": __version__,
            report.flavor: report.version,
            "onnx": onnx.__version__,
            "python": platform.python_version(),
            "platform": f"{platform.system()}-{platform.release()}-{platform.machine()}",  # platform() starts `uname`
        },
    }
