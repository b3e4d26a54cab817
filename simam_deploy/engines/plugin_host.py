"""Our plugin library in the process of a builder: its file, the environment of the process, its registration.

    with tempfile.TemporaryDirectory() as folder:        # lives as long as the worker
        process = Popen(WORKER, env=environment_for(Path(folder)))
    ...
    register(tensorrt_rtx, PLUGIN.find(), lines)         # in the worker: after its Builder is made, before it parses

The parser of TensorRT-RTX opens `libtensorrt_rtx.so` when it meets a plugin node. The wheel holds
`libtensorrt_rtx.so.1` alone, and without the other name the process aborts. So the process starts with a link of that
name in LD_LIBRARY_PATH, which is read at its start only.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx

from simam_deploy.errors import InputError, NativeError
from simam_deploy.formula import OP_DOMAIN
from simam_deploy.graph.traverse import nodes
from simam_deploy.native import Compiled
from simam_deploy.processes.python_command import environment

PLUGIN = Compiled(
    "libsimam_tensorrt.so", "TensorRT plugin", "SIMAM_TENSORRT_PLUGIN", "TENSORRT_INCLUDE_DIR=... make native-cuda"
)
AUTO, NONE = "auto", "none"
LOAD = "load "
"""Beginning of the stage of a build in which the library is loaded."""
NEEDED = "libtensorrt_rtx.so"
"""The parser of TensorRT-RTX opens it by this name."""
PATHS = "LD_LIBRARY_PATH"
_LAMBDA = re.compile(rb"e_lambda\0\x01\0{3}\x01\0{3}(.{4})", re.DOTALL)
"""A field of a plugin in an engine of TensorRT-RTX 1.7: name, type float32, length 1, value."""


def chosen_plugin(asked: str | os.PathLike[str], model: onnx.ModelProto) -> tuple[Path | None, str]:
    """The library to build with, or None; and for "auto" a note that says which was chosen and why.

    asked : a file, "auto" or "none".
    Raises InputError for a file in whose nodes no plugin has anything to do, NativeError for one that is not there.
    """
    ours = [node for node in nodes(model) if node.domain == OP_DOMAIN]
    defined = {function.name for function in model.functions if function.domain == OP_DOMAIN}
    if asked == NONE or (asked == AUTO and not ours):
        return None, ""
    if asked == AUTO:
        if all(node.op_type in defined for node in ours):
            why = "nothing was timed here; --plugin FILE builds with the library"
            return None, f"plugin: none, the fallback definitions of the file, as {why}"
        library = PLUGIN.find()
        if library is None:
            return None, ""  # the nodes are refused by their name
        return library, f"plugin: {library}, as nodes have no fallback definition"
    path = Path(asked)
    if not ours:
        raise InputError(
            f"--plugin {path} has nothing to do: no node of the file is ours\n"
            "write such nodes with simam-deploy fuse, or leave --plugin out"
        )
    if not path.is_file():
        raise NativeError(f"--plugin {path} is no file; {PLUGIN.why_not()}")
    return path.resolve(), ""


def environment_for(folder: Path) -> dict[str, str]:
    """The environment of a process that parses plugin nodes.

    folder : an empty one that lives as long as the process. It gets a link to TensorRT-RTX, if that is installed.
    """
    made = environment()
    wheel = find_spec("tensorrt_rtx_libs")
    for place in (wheel.submodule_search_locations or ()) if wheel else ():
        for library in sorted(Path(place).glob(f"{NEEDED}.*")):
            (folder / NEEDED).symlink_to(library.resolve())
            made[PATHS] = os.pathsep.join([str(folder), *filter(None, [made.get(PATHS)])])
            return made
    return made


def register(trt: ModuleType, plugin: Path, log: Sequence[str], *, parses: bool = True) -> list[str]:
    """Register the plugins of the library with TensorRT in this process. Returns their names, as simam::SimAM.

    trt : tensorrt or tensorrt_rtx, with a Builder made.  log : lines of its logger, the last one last.
    parses : whether this process meets plugin nodes. One that only runs engines does not, and has a Runtime made.
    Raises NativeError: the file is none, is cut off, or holds no plugins for this TensorRT; or this process was not
    started in `environment_for`, and a plugin node would end it.
    """
    if not plugin.is_file():
        raise NativeError(f"there is no plugin library {plugin}; {PLUGIN.mend(plugin)}")
    PLUGIN.refuse_cut_off(plugin)
    what = f"{trt.__name__} {trt.__version__}"
    if parses and trt.__name__ == "tensorrt_rtx":
        try:
            ctypes.CDLL(NEEDED)
        except OSError as error:
            raise NativeError(
                f"{what} would end this process at the first plugin node: its parser opens {NEEDED}, which {PATHS} "
                "does not lead to; start the process with simam_deploy.engines.plugin_host.environment_for"
            ) from error
    registry = trt.get_plugin_registry()
    before = _creators(registry)
    if registry.load_library(str(plugin)) is None:
        said = "".join(f"\n  {line}" for line in log[-2:])
        raise NativeError(f"{what} takes no plugins from {plugin}; {PLUGIN.mend(plugin)}{said}")
    return sorted(_creators(registry) - before)


def is_registered(trt: ModuleType) -> bool:
    """Whether this process has our plugins."""
    return any(name.startswith(f"{OP_DOMAIN}::") for name in _creators(trt.get_plugin_registry()))


def lambdas_in(engine: bytes) -> list[float]:
    """The λ that plugins keep in an engine of TensorRT-RTX, sorted: one of each block, as float32."""
    return sorted(struct.unpack("<f", value)[0] for value in _LAMBDA.findall(engine))


def _creators(registry: Any) -> set[str]:
    return {f"{creator.plugin_namespace}::{creator.name}" for creator in registry.all_creators}
