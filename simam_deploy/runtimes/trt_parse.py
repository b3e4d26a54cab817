"""Parse an ONNX file with TensorRT-RTX in a separate process, which may abort, and return the network as plain data.

The bindings name layers and settings; those of the kinds in trt_layers.py are read, and their weights copied.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from simam_deploy.engines.our_functions import settle
from simam_deploy.engines.plugin_host import environment_for, register
from simam_deploy.errors import LimitError, NativeError, RuntimeUnavailable
from simam_deploy.formula import Array
from simam_deploy.processes.limited import Limits, call
from simam_deploy.runtimes.trt_layers import KINDS
from simam_deploy.text import on_lines

LIMITS = Limits(cpu_s=300, wall_s=600, memory=2**36)
"""Of the parser."""


@dataclass(frozen=True)
class ParsedLayer:
    """A layer of a parsed network.

    kind : name in TensorRT's LayerType.  name : of the layer.  node : what the parser says it is from.
    inputs, output : names of tensors; None for an input that is left out.
    type : of the output, a name in TensorRT's DataType.
    settings : see KINDS; enums by name. Weights of bfloat16 are widened to float32.
    """

    kind: str
    name: str
    node: str
    inputs: tuple[str | None, ...]
    output: str
    type: str
    settings: dict[str, Any]

    def __str__(self) -> str:
        return f"layer {self.name!r} ({self.kind}) {self.node}".rstrip()


@dataclass(frozen=True)
class ParsedNetwork:
    """A parsed network.

    version : of TensorRT-RTX.  inputs : their tensors, in the order of the file.  layers : each behind those that
    make its inputs.
    """

    version: str
    inputs: list[str]
    layers: list[ParsedLayer]


def parse(path: Path, plugin: Path | None = None) -> ParsedNetwork:
    """The network that TensorRT-RTX makes of an ONNX file.

    plugin : our plugin library, to take all nodes of ours.
    Raises RuntimeUnavailable if tensorrt_rtx cannot be imported, if its parser refuses the file or ends the process.
    """
    with tempfile.TemporaryDirectory(prefix="simam-deploy-") as folder:
        weights = Path(folder, "weights.npz")
        variables = None if plugin is None else environment_for(Path(folder))
        given = [str(path.resolve()), str(weights), None if plugin is None else str(plugin)]
        try:
            done = call(f"{__name__}:write", *given, limits=LIMITS, variables=variables)
        except LimitError as error:
            raise RuntimeUnavailable(
                f"trt_network cannot run {path}: in the parser of TensorRT-RTX, {error}"
            ) from error
        if "missing" in done:
            raise RuntimeUnavailable(
                "runtime 'trt_network' needs the module tensorrt_rtx, which cannot be imported: "
                f'{done["missing"]}\npip install "simam-deploy[tensorrt-rtx]"'
            )
        if "refused" in done:
            raise RuntimeUnavailable(on_lines(f"trt_network cannot run {path}: {done['refused']}"))
        layers = [ParsedLayer(**layer) for layer in done["layers"]]
        with np.load(weights) as arrays:
            for key in arrays.files:
                at, name = key.split(".")
                layers[int(at)].settings[name] = arrays[key]
    return ParsedNetwork(done["version"], done["inputs"], layers)


def write(path: str, weights: str, plugin: str | None) -> dict[str, Any]:
    """Parse `path`, write the weights to `weights`, and return the rest as JSON takes it. For `parse`."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # parsing needs none, and a driver would start
    try:
        import tensorrt_rtx as trt
    except ImportError as error:
        return {"missing": str(error)}
    log = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(log)
    if plugin is not None:
        try:
            register(trt, Path(plugin), [])
        except NativeError as error:
            return {"refused": str(error)}
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not _read(parser, path, ours=plugin is not None):
        lines = [f"\n  {parser.get_error(i)}" for i in range(parser.num_errors)]
        return {"refused": f"TensorRT-RTX {trt.__version__} cannot parse it:{''.join(lines)}"}
    arrays: dict[str, Array] = {}
    layers = []
    for at in range(network.num_layers):
        layer = network.get_layer(at)
        inputs = [layer.get_input(i) for i in range(layer.num_inputs)]
        output = layer.get_output(0)
        kind = layer.type.name
        found = {
            "kind": kind,
            "name": layer.name,
            "node": layer.metadata,
            "inputs": [None if tensor is None else tensor.name for tensor in inputs],
            "output": output.name,
            "type": output.dtype.name,
            "settings": {},
        }
        if kind == "PLUGIN_V3":
            layer.__class__ = trt.IPluginV3Layer
            found["settings"] = _of_plugin(layer.plugin, trt)
        elif kind in KINDS:
            layer.__class__ = _classes(trt)[kind]
            for name in KINDS[kind].settings:
                value = _plain(getattr(layer, name), trt)
                if isinstance(value, np.ndarray):
                    arrays[f"{at}.{name}"] = value
                else:
                    found["settings"][name] = value
        layers.append(found)
    np.savez(weights, **arrays)  # type: ignore[arg-type]  # of its stubs
    given = [network.get_input(i).name for i in range(network.num_inputs)]
    return {"version": trt.__version__, "inputs": given, "layers": layers}


def _read(parser: Any, path: str, *, ours: bool) -> bool:
    """Parse a file, and with plugins its nodes as the build command does."""
    if not ours:
        return bool(parser.parse_from_file(path))
    model = onnx.load(path, load_external_data=False)
    settle(model, plugin=True)
    return bool(parser.parse(model.SerializeToString(), path))


def _of_plugin(plugin: Any, trt: Any) -> dict[str, Any]:
    """Settings of a PLUGIN_V3: its name, and its fields, which ours tells as `e_lambda=0.1;x_scale=0.5`."""
    core, build = (
        plugin.get_capability_interface(getattr(trt.PluginCapabilityType, part)) for part in ("CORE", "BUILD")
    )
    told = dict(part.split("=", 1) for part in (build.metadata_string or "").split(";") if "=" in part)
    fields = {name: float(told[name]) if name in told else None for name in ("e_lambda", "x_scale")}
    return {"plugin": core.plugin_name, **fields}


def _classes(trt: Any) -> dict[str, Any]:
    """The class of each kind: MATRIX_MULTIPLY is an IMatrixMultiplyLayer."""
    named = {name[1:-5].upper(): kind for name, kind in vars(trt).items() if name.endswith("Layer")}
    return {kind: named[kind.replace("_", "")] for kind in KINDS}


def _plain(value: Any, trt: Any) -> Any:
    """A setting as JSON takes it, or an array; None for weights that are absent."""
    if isinstance(value, trt.Weights):
        return _bfloat16(value, trt) if value.size else None
    if isinstance(value, np.ndarray):
        return value.copy() if value.size else None
    if hasattr(value, "name"):
        return value.name
    if value is None or isinstance(value, bool | int | float):
        return value
    return [each if isinstance(each, float) else int(each) for each in value]


class _Weights(ctypes.Structure):
    """nvinfer1::Weights."""

    _fields_ = (("type", ctypes.c_int32), ("values", ctypes.c_void_p), ("count", ctypes.c_int64))


def _bfloat16(weights: Any, trt: Any) -> Array:
    """Weights that the bindings give no array of, as NumPy has no such type.

    An object of the bindings begins, behind Python's own part, with the address of what it stands for.
    """
    if weights.dtype != trt.DataType.BF16:
        raise RuntimeError(f"weights of type {weights.dtype.name} cannot be read")
    address = ctypes.c_void_p.from_address(id(weights) + object.__basicsize__).value
    held = _Weights.from_address(address or 0)
    if (held.type, held.count) != (int(weights.dtype), weights.size) or not held.values:
        raise RuntimeError(f"tensorrt_rtx {trt.__version__} does not hold weights of type BF16 where 1.7 holds them")
    bits = np.ctypeslib.as_array((ctypes.c_uint16 * held.count).from_address(held.values))
    return (bits.astype(np.uint32) << 16).view(np.float32)
