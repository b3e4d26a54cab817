"""The x of a candidate: its type, its shape at each call of its function, and whether SimAM takes such an x."""

from __future__ import annotations

import math

import onnx_ir as ir

from simam_deploy.graph.shapes import Dims, Shapes
from simam_deploy.match.infer_rank import rank_near
from simam_deploy.match.op_sets import FLOATS
from simam_deploy.match.subgraph import Subgraph, is_simam_node

RANKS = (3, 4, 5)
MOST_CHANNELS = 2**20
"""Channels of x. Some forms store one number for each; networks have up to some thousands."""


class Operands:
    """Type and shape of the x of candidates of one model."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes

    def given(self, subgraph: Subgraph, function: ir.Function | None) -> tuple[ir.DataType | None, list[Dims]]:
        """Type and shapes of x: one shape per call of its function. Type None if the calls differ.

        Falls back on y, which has the shape of x. An unknown shape has no axes.
        """
        near = rank_near(subgraph.x, self._shapes) or rank_near(subgraph.y, self._shapes) or 0
        dtype = (
            self._shapes.known_dtype(subgraph.x) or self._shapes.known_dtype(subgraph.y) or subgraph.type_of_constants
        )
        unknown = (dtype or ir.DataType.UNDEFINED, (None,) * (4 if is_simam_node(subgraph.inside[0]) else near))
        if function is None:
            dims = self._shapes.declared(subgraph.x) or self._shapes.declared(subgraph.y) or unknown[1]
            return unknown[0], [dims]
        called = self._shapes.inside(function) or [{}]
        calls = {values.get(str(subgraph.x.name), values.get(str(subgraph.y.name), unknown)) for values in called}
        alike = len({(dtype, len(dims)) for dtype, dims in calls}) == 1
        return (next(iter(calls))[0] if alike else None), sorted((dims for _, dims in calls), key=str)

    def types(self, subgraph: Subgraph, function: ir.Function | None) -> set[ir.DataType]:
        """Known types of x and y; in a function, over all its calls."""
        ends = (subgraph.x, subgraph.y)
        if function is None:
            return {dtype for dtype in map(self._shapes.known_dtype, ends) if dtype is not None}
        called = self._shapes.inside(function)
        return {values[str(v.name)][0] for values in called for v in ends if str(v.name) in values}

    def same_type(self, subgraph: Subgraph, function: ir.Function | None) -> bool:
        """Whether x and y may have one shape and type."""
        a, b = self._shapes.declared(subgraph.x), self._shapes.declared(subgraph.y)
        if len(self.types(subgraph, function)) > 1:
            return False
        if a is None or b is None:
            return True
        fixed = [(i, j) for i, j in zip(a, b, strict=False) if isinstance(i, int) and isinstance(j, int)]
        return len(a) == len(b) and len(a) in RANKS and all(i == j for i, j in fixed)


def unfit(dtype: ir.DataType | None, variants: list[Dims]) -> str | None:
    """Reason why SimAM does not take such an x; None if it does."""
    dims = variants[0]
    sizes = [[d if isinstance(d, int) else 2 for d in dims] for dims in variants]
    channels = max((size[1] for size in sizes if len(size) > 1), default=0)
    reasons = {
        "the function that it is in is called with more than one type or rank of x": dtype is None,
        "the file does not tell how many axes x has; infer its shapes before": not dims,
        "the file does not tell the type of x; infer its types before": dtype == ir.DataType.UNDEFINED,
        f"x is {dtype.name if dtype else '?'}; SimAM takes {', '.join(t.name for t in FLOATS)}": dtype not in FLOATS,
        f"x is {len(dims)}-D; SimAM takes (N, C, H, W), (N, C, L) or (N, C, D, H, W)": len(dims) not in RANKS,
        f"x has {channels:,} channels; up to {MOST_CHANNELS:,} are taken": channels > MOST_CHANNELS,
        f"x is empty: {'x'.join(map(str, dims))}": any(d < 1 for size in sizes for d in size),
        "its map is 1x1, where SimAM is 0/0 (M - 1 = 0); take SimAM out there": any(
            math.prod(size[2:]) == 1 for size in sizes
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def alike(variants: list[Dims]) -> Dims:
    """The sizes that all variants share; None for the others."""
    return tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*variants, strict=True))
