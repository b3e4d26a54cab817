"""One site on real samples: its values in float32, and its error where each operator rounds to 16 bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from simam_deploy import formula
from simam_deploy.block import Block
from simam_deploy.compare.gates import Tap, judge
from simam_deploy.formula import Array
from simam_deploy.graph import onnx_file
from simam_deploy.graph.onnx_file import half_types
from simam_deploy.graph.round_low import inline, round_low, to_float32
from simam_deploy.precision.block_details import BlockDetail
from simam_deploy.precision.low_types import LowType
from simam_deploy.precision.site_rows import Errors, Magnitude, SimAMFacts
from simam_deploy.precision.sites import Site
from simam_deploy.precision.to_low import to_low
from simam_deploy.runtimes import open_session
from simam_deploy.runtimes.session import HALVES, Session

Feeds = Mapping[str, Array]
FLOAT = ir.DataType.FLOAT
FAINT = 1e-3
"""Planes below this share of the largest are not measured by themselves."""


class SiteRun:
    """Runs a site by itself, and keeps the worst of all samples.

    A float32 site is rounded bluntly to each low type; a 16-bit site is run as it is.

    ranges : of every value inside, in graph order.  errors : by name of the low type.
    detail : of a SimAM block, to be filled.
    """

    def __init__(
        self,
        site: Site,
        model: ir.Model,
        lows: Sequence[LowType],
        folder: Path,
        detail: BlockDetail | None = None,
    ) -> None:
        self.site = site
        self.ranges: dict[str, Magnitude] = {}
        self.errors = {low.name: Errors() for low in lows}
        self.facts = SimAMFacts() if site.block is not None else None
        self.detail = detail
        self._lows = lows
        alone = _alone(site, model)
        self._inputs = [str(value.name) for value in alone.graph.inputs]
        self._outputs = [str(value.name) for value in alone.graph.outputs]
        if half_types(alone):
            self._low = {low.name: _opened(round_low(alone), folder) for low in lows}
            alone = to_float32(alone)
        else:
            self._low = {low.name: _opened(round_low(to_low(alone, low, blunt=True).model), folder) for low in lows}
        self.makers = {v.name: node for node in alone.graph for v in node.outputs if v.dtype == FLOAT}
        alone.graph.outputs.extend(v for node in alone.graph for v in node.outputs if _shown(v))
        self._exact = _opened(alone, folder)

    def take(self, feeds: Sequence[Array]) -> None:
        """One sample: the inputs of the site."""
        given = {name: _wide(array) for name, array in zip(self._inputs, feeds, strict=True)}
        exact = self._exact.run(given)
        for name, array in (given | exact).items():
            self.ranges.setdefault(name, Magnitude()).take(array)
        if self.facts is not None and self.site.block is not None:
            self.facts.take(formula.as_maps(_wide(feeds[0])), self.site.block.e_lambda)
        if self.detail is not None:
            self.detail.take(formula.as_maps(_wide(feeds[0])))
        for low in self._lows:
            rounded = {name: _rounded(array, low) for name, array in given.items()}
            found = self._low[low.name].run(rounded)
            if self.site.block is None:
                of_rounded, errors = self._exact.run(rounded), self.errors[low.name]
                errors.moved = max(errors.moved, *(error(exact[n], of_rounded[n]) for n in self._outputs))
                errors.naive = max(errors.naive, *(error(of_rounded[n], found[n]) for n in self._outputs))
            else:
                self._judge(self.site.block, low, given, rounded, found)

    def _judge(self, block: Block, low: LowType, given: Feeds, rounded: Feeds, found: Feeds) -> None:
        """The gate of a SimAM block, as `verify` judges it, and how far rounding x moves the result.

        That of SimAM alone: a ReLU in its epilogue may leave next to nothing of a plane, and its error looks large.
        """
        with np.errstate(over="ignore"):
            arrays = {name: array.astype(low.dtype.numpy()) for name, array in (*rounded.items(), *found.items())}
        tap = Tap(block.node, str(block.x.name), str(block.y.name), block.e_lambda, block.epilogue)
        row = judge("", "", tap, [arrays])
        errors = self.errors[low.name]
        exact, of_rounded = (_simam(feeds[self._inputs[0]], block.e_lambda) for feeds in (given, rounded))
        errors.moved = max(errors.moved, error(exact, of_rounded))
        errors.naive = max(errors.naive, row.max_gate_error)
        errors.fails = errors.fails or not row.passed
        errors.cause = errors.cause or row.verdict
        if self.detail is not None:
            y = None if block.epilogue is not None else formula.as_maps(arrays[tap.y])
            self.detail.compare(low.name, formula.as_maps(arrays[tap.x]), y)

    def close(self) -> None:
        """Close the sessions."""
        for session in (self._exact, *self._low.values()):
            session.close()


def _simam(x: Array, e_lambda: float) -> Array:
    maps = formula.as_maps(x).astype(np.float64)
    return maps * formula.gate(maps, e_lambda)


def _wide(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype.name in HALVES else array


def _rounded(array: Array, low: LowType) -> Array:
    return low.rounded(array).astype(np.float32) if array.dtype == np.float32 else array


def error(exact: Array, got: Array) -> float:
    """Largest root mean square error of a plane (row, for fewer than three axes), relative to that plane."""
    axes = tuple(range(2, exact.ndim)) if exact.ndim > 2 else tuple(range(exact.ndim))[-1:]
    with np.errstate(invalid="ignore"):  # infinite in both
        true, off = exact.astype(np.float64), got.astype(np.float64) - exact.astype(np.float64)
    size, noise = (np.atleast_1d(np.sqrt(np.mean(v * v, axis=axes))) for v in (true, off))
    if not np.isfinite(noise).all():
        return np.inf
    seen = size > FAINT * size.max(initial=0)
    return float(np.max(noise[seen] / size[seen], initial=0))


def _alone(site: Site, model: ir.Model) -> ir.Model:
    """The site as a model: its float32 inputs to its outputs."""
    graph = ir.convenience.extract(model.graph, site.inputs, site.outputs)
    made = ir.Model(graph, ir_version=model.ir_version, functions=[f.clone() for f in model.functions.values()])
    for domain, version in model.opset_imports.items():
        made.opset_imports.setdefault(domain, version)
    inline(made)
    return made


def _shown(value: ir.Value) -> bool:
    return value.dtype == FLOAT and not value.is_graph_output() and value.producer() is not None


def _opened(model: ir.Model, folder: Path) -> Session:
    path = folder / "site.onnx"
    onnx_file.save(model, path)
    return open_session(path, "ort", kernel="off")
