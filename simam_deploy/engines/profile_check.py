"""Check the sizes of an engine against the network, by shape inference, before the builder starts.

At the smallest, the best and the largest sizes, no node may refuse its inputs, and no SimAM block may have maps of
one value. Combinations of these, with one axis at another end than the rest, give notes: callers may never ask for
them. Sizes between are not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import onnx_ir as ir

from simam_deploy.engines.shape_ranges import ShapeRange, written
from simam_deploy.errors import InputError
from simam_deploy.formula import OP_DOMAIN, OPS
from simam_deploy.graph.round_low import inline
from simam_deploy.graph.shapes import Dims, Refusal, Shapes, StaticShape
from simam_deploy.graph.shapes.choices import keys
from simam_deploy.match.op_sets import GATES

AxisSizes = dict[str, int]
"""Sizes of the dynamic axes, by key as in choices.keys. Axes of one name share one size."""
ROLES = ("smallest", "best", "largest")
MOST_STEPS = 30_000
"""Upper bound on the nodes visited for corners: some 5 seconds."""
MULTIPLES = (2, 4, 8, 16, 32, 64, 128)
"""Steps in which networks with strides take sizes."""


def check(model: ir.Model, profiles: Mapping[str, ShapeRange], dims: Mapping[str, Dims]) -> list[str]:
    """Notes on combinations of sizes that the network refuses.

    profiles : the range of each input with a dynamic size.  dims : of the inputs, as in the file.
    SimAM blocks: nodes of our operators; in a file of dynamic sizes without any, those that the search finds.
    Raises InputError with the node, its shapes and the next size that fits.
    """
    return list(_Check(model, profiles, dims).run())


class _Check:
    def __init__(self, model: ir.Model, profiles: Mapping[str, ShapeRange], dims: Mapping[str, Dims]) -> None:
        self._profiles = profiles
        self._model = _flat(model)
        self._shapes = Shapes(self._model)
        self._dims = {name: dims[name] for name in profiles}
        self._batches = {key for name, dims in self._dims.items() for key, axis in keys(name, dims) if axis == 0}
        nodes = list(self._model.graph.all_nodes())
        self._ours = [node for node in nodes if node.domain == OP_DOMAIN and node.op_type in OPS]
        self._gates = [str(node.outputs[0].name) for node in nodes if node.op_type in GATES and node.outputs]

    def run(self) -> Iterator[str]:
        """Check everything; yield notes."""
        low, best, high = (self._sizes(at) for at in range(3))
        tried: list[AxisSizes] = []
        for role, sizes in (("smallest", low), ("largest", high), ("best", best)):
            if sizes not in tried and (trouble := self._trouble(sizes)):
                which = f", the {role} size" if low != high else ""
                where = f"{self._written(sizes)}{which}" if sizes else "at the sizes in the file"
                raise InputError(f"{where}: {trouble}{self._remedy(sizes)}")
            tried.append(sizes)
        free = [key for key in low if low[key] != high[key]]
        if 2 * len(free) * len(self._model.graph) > MOST_STEPS:
            return
        for key in free:
            for corner in (low | {key: high[key]}, high | {key: low[key]}):
                if corner not in tried and (trouble := self._trouble(corner)):
                    yield f"{self._written(corner)} is within the range, but a run at that size fails: {trouble}"
                tried.append(corner)

    @cached_property
    def _blocks(self) -> list[tuple[str, str]]:
        """Name and input of each SimAM block of the graph."""
        if self._ours or not self._profiles:
            return [
                (node.name or str(node.outputs[0].name), str(x.name))
                for node in self._ours
                if node.outputs and (x := next(iter(node.inputs), None)) is not None
            ]
        from simam_deploy.match.find import find  # large, and most files need no search

        return [(block.node, str(block.x.name)) for block in find(self._model).blocks if block.function is None]

    def _sizes(self, at: int) -> AxisSizes:
        """The smallest, best or largest sizes. Raises InputError for two sizes of one name."""
        found: dict[str, tuple[int, str]] = {}
        for name, dims in self._dims.items():
            for key, axis in keys(name, dims):
                size = self._profiles[name][at][axis]
                other, first = found.setdefault(key, (size, name))
                if other != size:
                    raise InputError(
                        f"the axis {key!r} has one size in the file, and the {ROLES[at]} shapes give it two: {other} "
                        f"in {first}:{self._profiles[first]}, {size} in {name}:{self._profiles[name]}"
                    )
        return {key: size for key, (size, _) in found.items()}

    def _trouble(self, sizes: AxisSizes) -> str:
        """Reason why the network cannot run at these sizes; empty if it can."""
        shapes, refusal = self._shapes.at(sizes)
        if refusal is not None and sizes:  # of fixed sizes the parser tells
            return _refused(refusal)
        if not self._ours and not any(1 in shapes.get(gate, ())[1:] for gate in self._gates):
            return ""  # the search takes a second, and a block has a gate of the size of its map
        maps = [(node, shapes.get(x, ())) for node, x in self._blocks]
        tiny = [f"{node!r} {written(shape)}" for node, shape in maps if len(shape) > 2 and math.prod(shape[2:]) < 2]
        if not tiny:
            return ""
        return (
            f"maps of M = 1 value for SimAM, which divides by M - 1: at {', '.join(tiny[:4])}"
            f"{f' and {len(tiny) - 4} more' if len(tiny) > 4 else ''}"
        )

    def _remedy(self, sizes: AxisSizes) -> str:
        for step in MULTIPLES:
            larger = {k: s if k in self._batches else max(step, -(-s // step) * step) for k, s in sizes.items()}
            if larger != sizes and not self._trouble(larger):
                return f"\nthe next size that fits, in multiples of {step}: {self._written(larger)}"
        return ""

    def _written(self, sizes: AxisSizes) -> str:
        shapes = {}
        for name, dims in self._dims.items():
            shape = list(dims)
            for key, axis in keys(name, dims):
                shape[axis] = sizes[key]
            shapes[name] = written(shape)
        return ",".join(f"{name}:{shape}" for name, shape in shapes.items())


def _refused(refusal: Refusal) -> str:
    shapes: Sequence[StaticShape] = refusal.inputs
    inputs = " and ".join(map(written, shapes)) or "its inputs"
    node = f"node {refusal.node!r} ({refusal.op})" if refusal.node else f"a node {refusal.op} of a subgraph"
    return f"{node} cannot take {inputs}: {refusal.reason}"


def _flat(model: ir.Model) -> ir.Model:
    """The model without functions other than ours: their nodes are then in the graph.

    Blocks in a function that cannot be inlined are not seen.
    """
    others = {f.identifier() for f in model.functions.values() if f.domain != OP_DOMAIN or f.name not in OPS}
    if not others:
        return model
    flat = model.clone()
    try:
        inline(flat, lambda function: function.identifier() in others)
    except InputError:
        return model
    return flat
