"""Read the output of trtexec for an engine: layers, their times, total time, outputs.

Layers as IEngineInspector gives them at the verbosity `detailed`:
{"Layers": [{"Name", "LayerType", "Inputs": [{"Name", "Format/Datatype"}], "Outputs", "Metadata", ...}, ...], ...}
with the Metadata "[ONNX Layer: a]\\x1e[ONNX Layer: b]" for a layer made of two nodes of the ONNX file.
Fields that are missing count as empty, as they differ between layers and versions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simam_deploy.errors import BuildError

COPY = "Reformatting CopyNode"
NO_WORK = "NoOp"
WIDE = {"Two": 2, "Four": 4, "Eight": 8, "Sixteen": 16, "Thirty-two": 32}


@dataclass(frozen=True)
class Tensor:
    """An input or output of a layer; format in TensorRT's words."""

    name: str
    format: str


@dataclass(frozen=True)
class Layer:
    """A layer of an engine. origin : its name and what TensorRT notes of the ONNX nodes that it came from."""

    name: str
    kind: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    origin: str

    @property
    def is_reformat(self) -> bool:
        """Whether it moves a tensor into another format, and takes time for it."""
        return self.kind == "Reformat" or (self.name.startswith(COPY) and self.kind != NO_WORK)

    @property
    def is_plugin(self) -> bool:
        """Whether a plugin runs it, as PluginV3."""
        return self.kind.lower().startswith("plugin")

    def of(self, nodes: Iterable[str]) -> bool:
        """Whether any of these ONNX nodes is in it."""
        return any(re.search(rf"(?<![\w/]){re.escape(node)}(?![\w/])", self.origin) for node in nodes)


@dataclass(frozen=True)
class BlockLayers:
    """Layers of a SimAM block in order, and the reformats beside them.

    shared : other nodes are in these layers too.
    """

    layers: tuple[Layer, ...]
    reformats: tuple[Layer, ...]
    shared: bool

    @property
    def by_plugin(self) -> bool:
        """Whether a plugin alone took it."""
        return len(self.layers) == 1 and self.layers[0].is_plugin and not self.shared

    @property
    def words(self) -> str:
        """As in "PluginV3", or "3: Reduce, PointWiseV2 (2)"; + others: other nodes are in them too."""
        if not self.layers:
            return "not found"
        kinds = [layer.kind or "?" for layer in self.layers]
        each = [kind if (n := kinds.count(kind)) == 1 else f"{kind} ({n})" for kind in dict.fromkeys(kinds)]
        count = "" if self.by_plugin else f"{len(kinds)}: "
        return count + ", ".join(each) + (" + others" if self.shared else "")

    @property
    def formats(self) -> tuple[str, str]:
        """Of what goes in and of what comes out; of the first layer and of the last."""
        if not self.layers:
            return "-", "-"
        ends = self.layers[0].inputs[:1], self.layers[-1].outputs[:1]
        first, last = (short(end[0].format) if end else "-" for end in ends)
        return first, last


def block(layers: Sequence[Layer], nodes: Sequence[str], others: Sequence[str]) -> BlockLayers:
    """The layers of the SimAM block that has these ONNX nodes."""
    mine = [layer for layer in layers if layer.of(nodes) and not layer.is_reformat and layer.kind != NO_WORK]
    tensors = {tensor.name for layer in mine for tensor in (*layer.inputs, *layer.outputs)}
    beside = [
        layer
        for layer in layers
        if layer.is_reformat
        and (layer.of(nodes) or any(tensor.name in tensors for tensor in (*layer.inputs, *layer.outputs)))
    ]
    return BlockLayers(tuple(mine), tuple(beside), any(layer.of(others) for layer in mine))


def time_of(layers: Iterable[Layer], profile: dict[str, float]) -> float | None:
    """Their time together in us, None if the profile lacks one of them or there is none."""
    times = [profile.get(layer.name) for layer in layers]
    known = [time for time in times if time is not None]
    return sum(known) if known and len(known) == len(times) else None


def read_layers(path: Path) -> list[Layer]:
    """Read the layers. Raises BuildError without layers, or with names alone."""
    found = _read(path)
    raw = found.get("Layers") if isinstance(found, dict) else None
    if not raw or not all(isinstance(layer, dict) for layer in raw):
        raise BuildError(
            f"{path} has no detailed layers: an engine has them if built with --profilingVerbosity=detailed"
        )
    return [
        Layer(
            _text(layer, "Name"),
            _text(layer, "LayerType"),
            _tensors(layer, "Inputs"),
            _tensors(layer, "Outputs"),
            f"{_text(layer, 'Name')}\n{_text(layer, 'Metadata')}",
        )
        for layer in raw
    ]


def read_profile(path: Path) -> dict[str, float]:
    """The median time of each layer in us; layers of one name are added up."""
    times: dict[str, float] = {}
    for row in _rows(path):
        if "name" in row:
            times[row["name"]] = times.get(row["name"], 0.0) + 1000 * row["medianMs"]
    return times


def read_times(path: Path) -> float:
    """The median time of the engine on the GPU in us, without transfers."""
    times = [float(row["computeMs"]) for row in _rows(path) if "computeMs" in row]
    if not times:
        raise BuildError(f"{path} has no times: trtexec measured nothing")
    return 1000 * median(times)


def read_output(folder: Path, name: str, dtype: np.dtype[Any], shape: Sequence[int]) -> NDArray[Any]:
    """An output of the last run, bit by bit, as --dumpRawBindingsToFile leaves it. Raises BuildError."""
    safe = re.sub(r"[^A-Za-z0-9._,-]", "_", name)
    found = sorted(folder.glob(f"{safe}.output.*.raw"))
    if len(found) != 1:
        there = ", ".join(path.name for path in folder.glob("*.raw")) or "none"
        raise BuildError(f"{folder}: no file {safe}.output.*.raw with output '{name}'; there is {there}")
    if (size := found[0].stat().st_size) != prod(shape) * dtype.itemsize:
        raise BuildError(
            f"{found[0]} has {size} bytes; {dtype} of shape {tuple(shape)} has {prod(shape) * dtype.itemsize}"
        )
    return np.fromfile(found[0], dtype).reshape(shape)


def short(format: str) -> str:
    """Channel major FP16 format where channel % 8 == 0 -> FP16 HWC8. Unknown formats stay unchanged."""
    if found := re.match(r"Row major linear (\S+)", format):
        return f"{found[1]} linear"
    if found := re.match(r"Channel major (\S+) format where (?:channel|C) % (\d+) == 0", format):
        return f"{found[1]} HWC{found[2]}"
    if (found := re.match(r"(\S+) wide channel vectorized row major (\S+) format", format)) and found[1] in WIDE:
        return f"{found[2]} CHW{WIDE[found[1]]}"
    return format or "-"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(errors="replace"), strict=False)  # \x1e stands in it unescaped
    except (OSError, ValueError) as error:
        raise BuildError(f"{path} is not what trtexec writes: {error}") from error


def _rows(path: Path) -> list[dict[str, Any]]:
    found = _read(path)
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise BuildError(f"{path} is not what trtexec writes: a list of rows")
    return found


def _text(layer: dict[str, Any], key: str) -> str:
    return str(layer.get(key, ""))


def _tensors(layer: dict[str, Any], key: str) -> tuple[Tensor, ...]:
    return tuple(Tensor(_text(each, "Name"), _text(each, "Format/Datatype")) for each in layer.get(key) or [])
