"""The largest magnitude of each value of a network on samples, measured inside the network."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import onnx_ir as ir

from simam_deploy.formula import Array
from simam_deploy.graph import onnx_file
from simam_deploy.graph.number_types import UP_TO_32_BITS
from simam_deploy.precision.low_types import LowType
from simam_deploy.precision.site_rows import Magnitude
from simam_deploy.runtimes import open_session
from simam_deploy.runtimes.session import in_types_of

PEAK = "simam_deploy/peak/"
"""Prefix of the outputs that hold the largest magnitude of a value."""


def watched(model: ir.Model, wanted: Collection[str] = ()) -> ir.Model:
    """A copy of a flat model that also gives the values `wanted`, and the largest magnitude of each float value."""
    made = model.clone()
    graph = made.graph
    values = {v.name: v for v in (*graph.inputs, *(v for node in graph for v in node.outputs))}
    outputs = {value.name for value in graph.outputs}
    for value in [v for v in values.values() if v.dtype in UP_TO_32_BITS and v.producer() is not None]:
        size = ir.node("Abs", [value], name=f"{PEAK}{value.name}/size")
        size.outputs[0].name = f"{PEAK}{value.name}/size"
        most = ir.node("ReduceMax", size.outputs, {"keepdims": 0}, name=f"{PEAK}{value.name}/most")
        most.outputs[0].name, most.outputs[0].type = f"{PEAK}{value.name}", value.type
        most.outputs[0].shape = ir.Shape([])
        graph.extend([size, most])
        graph.outputs.append(most.outputs[0])
    for name in dict.fromkeys(wanted):
        if name not in outputs and not values[name].is_graph_input():
            graph.outputs.append(values[name])
    return made


def take(peaks: dict[str, Magnitude], given: Mapping[str, Array], results: Mapping[str, Array]) -> None:
    """Add one run of a watched model to `peaks`."""
    for name, array in (*given.items(), *results.items()):
        if name.startswith(PEAK) or (name in given and array.dtype.kind != "i"):
            peaks.setdefault(name.removeprefix(PEAK), Magnitude()).take(array)


def peaks_of(model: ir.Model, feeds: Iterable[Mapping[str, Array]]) -> dict[str, float]:
    """Largest magnitude of each float value of a flat float32 model, by name. Empty without feeds."""
    found: dict[str, Magnitude] = {}
    waiting = list(feeds)
    if not waiting:
        return {}
    with tempfile.TemporaryDirectory(prefix="simam-deploy-") as folder:
        path = Path(folder, "watched.onnx")
        onnx_file.save(watched(model), path)
        with open_session(path, "ort") as session:
            for feed in waiting:
                given = in_types_of(session, feed)
                take(found, given, session.run(given))
    return {name: peak.largest for name, peak in found.items()}


def beyond(peaks: Mapping[str, float], low: LowType, headroom: float = 1.0) -> dict[str, str]:
    """The values that are beyond `low`, or that `headroom` takes there -> reason."""
    found = {}
    for name, peak in peaks.items():
        if not peak * headroom <= low.largest:
            where = "near" if peak <= low.largest else "beyond"
            found[name] = f"{name!r} reaches {peak:.3g}, {where} {low.name}, which ends at {low.largest:g}"
    return found
