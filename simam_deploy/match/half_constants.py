"""Candidates for the value of a constant before a converter rounded it to 16 bits.

float16 holds every integer up to 2048, bfloat16 up to 256. On larger maps M - 1 is rounded: 6399 becomes 6400 = M.
From 256x256 on it is infinite in float16, and the gate of such a block is 1 everywhere.
Without these candidates, a correct SimAM would look like one with a population variance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, islice, product

import numpy as np
import onnx_ir as ir

from simam_deploy.graph.number_types import HALF
from simam_deploy.match.dataflow import constant
from simam_deploy.match.op_sets import NORMALIZATIONS, PASSING
from simam_deploy.match.subgraph import Subgraph

MOST_GUESSES = 30
"""Upper bound on the combinations that are checked."""


def guesses(subgraph: Subgraph, m: int) -> Iterator[Mapping[int, float]]:
    """Candidate values of one or two of `subgraph.constants`, by index, for maps of m values."""
    found = [(i, fits) for i, value in enumerate(subgraph.constants) if (fits := _fitting(value, subgraph, m))]
    one_or_two = (chosen for count in (1, 2) for chosen in combinations(found, count))
    every = (
        dict(zip([i for i, _ in chosen], values, strict=True))
        for chosen in one_or_two
        for values in product(*(fits for _, fits in chosen))
    )
    return islice(every, MOST_GUESSES)


def has_rounded(subgraph: Subgraph) -> bool:
    """Whether a constant of the subgraph has a 16-bit type."""
    return any(tensor.dtype in HALF for tensor in map(constant, subgraph.constants) if tensor is not None)


def _fitting(value: ir.Value, subgraph: Subgraph, m: int) -> list[float]:
    tensor = constant(value)
    if tensor is None or tensor.dtype not in HALF or tensor.size == 0:
        return []
    array = tensor.numpy()  # 4 stays 4: as a rounded 4 M / (M - 1) it would excuse a population variance
    held = float(array.flat[0])
    if held in (4, 0.25) or not (array == array.flat[0]).all():
        return []
    with np.errstate(over="ignore"):
        return [
            c
            for c in _candidates(value, subgraph, m)
            if c != held and float(np.asarray(c).astype(array.dtype)) == held
        ]


def _candidates(value: ir.Value, subgraph: Subgraph, m: int) -> set[float]:
    """Constants of SimAM that depend on M and fit the uses of `value`."""
    n = m - 1
    found = {float(n), 4.0 * n, n / 4, 1 / n, 4 / n, 1 / (4 * n), float(m), 1 / m}
    for node, at in _uses(value, subgraph):
        if node.op_type == "Mul" or (node.op_type == "Div" and at == 1):
            found |= {m / n, n / m, (m / n) ** 0.5, (n / m) ** 0.5, n / m / 4, 4 * m / n}
        if node.op_type in NORMALIZATIONS:
            found |= {(n / m) ** 0.5, (n / m / 4) ** 0.5}
    return found


def _uses(value: ir.Value, subgraph: Subgraph) -> Iterator[tuple[ir.Node, int]]:
    """Uses of a constant in the subgraph, through casts and reshapes: the node and the input index."""
    nodes = {*subgraph.inside, *subgraph.around}
    queue = [value]
    while queue:
        for use in queue.pop().uses():
            if use.node in nodes:
                yield use.node, use.idx
                if use.node.op_type in PASSING | {"Expand"}:
                    queue.extend(use.node.outputs)
