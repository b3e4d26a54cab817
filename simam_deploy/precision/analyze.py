"""Analysis of a float32 network on real samples: which parts of it 16 bits would break."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass, NameFixPass

from simam_deploy.errors import InputError
from simam_deploy.formula import Array
from simam_deploy.graph import onnx_file
from simam_deploy.graph.round_low import inline
from simam_deploy.graph.shapes import Shapes
from simam_deploy.match.find import find
from simam_deploy.precision.analysis import Analysis, SiteRow, row_of
from simam_deploy.precision.low_types import LOW_TYPES, LowType
from simam_deploy.precision.site_rows import Range
from simam_deploy.precision.site_runs import SiteRun
from simam_deploy.precision.sites import Site, find_sites
from simam_deploy.rewrite.functions import FALLBACKS
from simam_deploy.runtimes import open_session
from simam_deploy.text import Say

FLOAT = ir.DataType.FLOAT
PEAK = "simam_deploy/peak/"
"""Prefix of the outputs that hold the largest magnitude of a value."""


def prepared(model: ir.Model) -> ir.Model:
    """A copy without the functions of others, with constants as initializers, unique names and known types."""
    made = model.clone()
    inline(made, lambda function: function.identifier() not in FALLBACKS)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(made)
    NameFixPass()(made)
    shapes = Shapes(made)
    for graph in made.graphs():
        for value in (*graph.inputs, *(v for node in graph for v in node.outputs)):
            if value.type is None and (dtype := shapes.known_dtype(value)) is not None:
                value.type = ir.TensorType(dtype)
    return made


def analyze(
    model: ir.Model,
    samples: Iterable[Sequence[Array]],
    *,
    lows: Sequence[LowType] = tuple(LOW_TYPES.values()),
    on_progress: Say | None = None,
) -> Analysis:
    """Run `model`, a float32 model from `prepared`, on samples, and judge each site in each low type.

    samples : feeds in the order of the model's inputs. One is held at a time, with the inputs of the sites.
    Raises InputError if the model holds 16-bit types, or if there is no sample.
    """
    say = on_progress or (lambda _: None)
    if held := onnx_file.half_types(model):
        raise InputError(f"analyze takes a float32 model; this one holds {', '.join(held)}")
    say("find the SimAM blocks")
    found = find(model)
    sites = find_sites(model, found)
    peaks: dict[str, Range] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        runs = []
        for site in sites:
            say(f"prepare {site.kind} at {site.node}")
            runs.append(stack.enter_context(closing(SiteRun(site, model, lows, folder))))
        path = folder / "network.onnx"
        onnx_file.save(_watched(model, sites), path)
        session = stack.enter_context(open_session(path, "ort"))
        names, count = [spec.name for spec in session.inputs], 0
        for feed in samples:
            count += 1
            say(f"sample {count}")
            results = session.run(dict(zip(names, feed, strict=True)))
            held_now = results | dict(zip(names, feed, strict=True))
            for key in [key for key in results if key.startswith(PEAK)]:
                peaks.setdefault(key.removeprefix(PEAK), Range()).take(results[key])
            for value, array in zip(names, feed, strict=True):
                peaks.setdefault(value, Range()).take(array)
            for at, run in enumerate(runs):
                say(f"sample {count}: {run.site.kind} at {run.site.node} ({at + 1} of {len(runs)})")
                run.take([held_now[str(value.name)] for value in run.site.inputs])
        if not count:
            raise InputError("no sample is given; analyze needs at least one")
        rows: list[SiteRow] = [row_of(run, lows) for run in runs]
    left = [b.node for b in found.blocks if b.inside[-1].graph is not model.graph]
    notes = [f"{node} is inside an If, a Loop or a function, and was not analysed" for node in left]
    return Analysis(tuple(rows), {name: peak.largest for name, peak in peaks.items()}, count, tuple(lows), notes)


def _watched(model: ir.Model, sites: Sequence[Site]) -> ir.Model:
    """A copy that also gives the inputs of the sites, and the largest magnitude of each float32 value."""
    made = model.clone()
    graph = made.graph
    values = {v.name: v for v in (*graph.inputs, *(v for node in graph for v in node.outputs))}
    wanted = dict.fromkeys(str(value.name) for site in sites for value in site.inputs)
    outputs = {value.name for value in graph.outputs}
    peaks = [v for v in values.values() if v.dtype == FLOAT and v.producer() is not None]
    for value in peaks:
        size = ir.node("Abs", [value], name=f"{PEAK}{value.name}/size")
        size.outputs[0].name = f"{PEAK}{value.name}/size"
        most = ir.node("ReduceMax", size.outputs, {"keepdims": 0}, name=f"{PEAK}{value.name}/most")
        most.outputs[0].name, most.outputs[0].type = f"{PEAK}{value.name}", ir.TensorType(FLOAT)
        most.outputs[0].shape = ir.Shape([])
        graph.extend([size, most])
        graph.outputs.append(most.outputs[0])
    for name in wanted:
        if name not in outputs and not values[name].is_graph_input():
            graph.outputs.append(values[name])
    return made


def finite_samples(samples: Iterable[Sequence[Array]], names: Sequence[str]) -> Iterable[Sequence[Array]]:
    """The samples. Raises InputError at the first with a NaN or an infinity."""
    for at, feed in enumerate(samples):
        for name, array in zip(names, feed, strict=True):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise InputError(f"sample {at} holds NaN or infinity in {name!r}; leave it out")
        yield feed
