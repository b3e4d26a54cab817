"""Load an engine: its file and manifest are checked, then the package, its version, the GPU and our plugins."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from simam_deploy.artifacts import manifest
from simam_deploy.artifacts.file_kinds import looks_like_onnx
from simam_deploy.artifacts.opening import opened, sha256
from simam_deploy.engines.flavors import FLAVORS, Flavor
from simam_deploy.engines.header import Header
from simam_deploy.engines.inspection import inspect, is_engine
from simam_deploy.engines.plugin_host import PLUGIN, is_registered, register
from simam_deploy.errors import InputError, ModelFileError, NativeError, RuntimeUnavailable
from simam_deploy.runtimes.trt_cuda import Gpu, open_gpu

BUILD_FIRST = (
    "trt runs an engine, and not an ONNX file; build one and compare it with:\n"
    "simam-deploy build {name} -o {stem}.engine\nsimam-deploy verify {stem}.engine --against {name}"
)
KEPT_LINES = 50


@dataclass
class LoadedEngine:
    """An engine on the GPU. record : its manifest, or None for a foreign one. The rest must live as long."""

    trt: Any
    engine: Any
    gpu: Gpu
    flavor: Flavor
    version: str
    record: manifest.Record | None
    notes: list[str]
    log: list[str]
    runtime: Any
    logger: Any


def load(artifact: object) -> LoadedEngine:
    """Load an engine file.

    Raises InputError if it is no engine, ModelFileError if its bytes and its manifest do not agree,
    RuntimeUnavailable without its flavor and version of TensorRT, or a GPU that it was built for, NativeError
    without the plugins in it.
    """
    if not isinstance(artifact, str | os.PathLike):
        raise InputError(f"runtime 'trt' opens the path of an engine file; got {type(artifact).__name__}")
    path = Path(artifact)
    if not is_engine(path) and looks_like_onnx(path):
        raise InputError(BUILD_FIRST.format(name=path.name, stem=path.stem))
    data, header, record, notes = _checked(path)
    flavor = FLAVORS[header.flavor]
    trt = _module(flavor, header.version, path)
    _refuse_version(trt, flavor, header.version, record, path)
    gpu = open_gpu()
    if header.targets is not None and gpu.name not in header.targets:
        raise RuntimeUnavailable(
            f"{path} was built for {', '.join(header.targets)}, and this GPU is {gpu.name}\n"
            f"build it again with --targets {gpu.name}"
        )
    log: list[str] = []
    logger = _logger(trt, log)
    runtime = trt.Runtime(logger)
    if plugin := (record or {}).get("plugin"):
        notes += _with_plugin(trt, plugin, log, path)
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        said = "".join(f"\n  {line}" for line in log[-5:])
        raise RuntimeUnavailable(
            f"{flavor.title} {trt.__version__} cannot load {path} on this GPU ({gpu.name}):{said}\n"
            "an engine runs on the kind of GPU that it was built for, with the version that built it, and with its "
            "plugins; build it again here"
        )
    return LoadedEngine(trt, engine, gpu, flavor, str(trt.__version__), record, notes, log, runtime, logger)


def _checked(path: Path) -> tuple[bytes, Header, manifest.Record | None, list[str]]:
    """Bytes, header, manifest and notes of a file whose hash, length and manifest agree."""
    seen = inspect(path)
    home = path.resolve()
    foreign = not home.with_name(home.name + manifest.SUFFIX).exists()
    wrong = seen.disagreements
    if foreign and seen.header is not None:
        wrong = seen.header.faults
    if wrong or seen.header is None:
        raise ModelFileError("\n  ".join((f"{path} is not run:", *seen.disagreements)))
    with opened(path, ModelFileError, "engine") as stream:
        data = stream.read()
        stream.seek(0)
        if len(data) != seen.size_bytes or sha256(stream) != seen.sha256:
            raise ModelFileError(f"{path} changed while it was read; try again")
    note = f"{path.name} has no manifest: nothing says what it was built from, or whether our plugin is in it"
    return data, seen.header, None if foreign else seen.manifest, [note] if foreign else []


def _module(flavor: Flavor, version: str, path: Path) -> Any:
    try:
        return import_module(flavor.module)
    except ImportError as error:
        others = [other.title for other in FLAVORS.values() if other is not flavor and other.installed]
        beside = f"; {others[0]} is installed, and does not run it" if others else ""
        raise RuntimeUnavailable(
            f"{path} was built by {flavor.title} {version}, which cannot be imported: {error}{beside}\n"
            f"{flavor.install}; take version {version}"
        ) from error


def _refuse_version(trt: Any, flavor: Flavor, version: str, record: manifest.Record | None, path: Path) -> None:
    """Raise RuntimeUnavailable if another version built the engine. An engine holds for one version."""
    here = str(trt.__version__).split(".")
    if here[:3] != version.split(".")[:3]:
        raise RuntimeUnavailable(
            f"{path} was built by {flavor.title} {version}, and {trt.__version__} is installed; an engine runs with "
            f"the version that built it\nbuild it again with {trt.__version__}, or take version {version}: "
            f"{flavor.install}"
        )
    options = (record or {}).get("options")
    if isinstance(options, dict) and options.get("version_compatible"):
        raise RuntimeUnavailable(
            f"{path} was built with --version-compatible: such an engine brings code for the processor, which "
            "trt does not run\nbuild it again without, or run it with trtexec"
        )


def _with_plugin(trt: Any, plugin: Any, log: Sequence[str], path: Path) -> list[str]:
    """Register the library that the manifest names. Returns a note if it is another build."""
    library = PLUGIN.find()
    if library is None:
        raise NativeError(f"{path} has SimAM as our plugin, and its library is not here: {PLUGIN.why_not()}")
    if not is_registered(trt):
        register(trt, library, log, parses=False)
    with library.open("rb") as stream:
        same = isinstance(plugin, dict) and plugin.get("sha256") == sha256(stream)
    return [] if same else [f"{library} is another build of the plugin than the one {path.name} was built with"]


def _logger(trt: Any, lines: list[str]) -> Any:
    """Keeps warnings and errors."""

    class KeptLog(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            if severity.name in ("INTERNAL_ERROR", "ERROR", "WARNING"):
                lines.append(f"{severity.name}: {text}")
                del lines[:-KEPT_LINES]

    return KeptLog()
