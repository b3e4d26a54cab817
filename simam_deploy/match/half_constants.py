"""What a constant was before a converter rounded it to 16 bits.

float16 holds every whole number up to 2048, bfloat16 up to 256. On larger maps M - 1 is not what it was: 6399 becomes
6400, which is M, so that a correct SimAM cannot be told from one with a population variance but by this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, islice, product

import numpy as np
import onnx_ir as ir

from simam_deploy.match.dataflow import constant
from simam_deploy.match.op_sets import HALF, NORMALIZATIONS, PASSING
from simam_deploy.match.subgraph import Cut

MOST_GUESSES = 30


def guesses(cut: Cut, m: int) -> Iterator[Mapping[int, float]]:
    """Values that one or two of `cut.constants`, by index, may have had on maps of m values."""
    found = [(i, fits) for i, value in enumerate(cut.constants) if (fits := _fitting(value, cut, m))]
    one_or_two = (chosen for count in (1, 2) for chosen in combinations(found, count))
    every = (
        dict(zip([i for i, _ in chosen], values, strict=True))
        for chosen in one_or_two
        for values in product(*(fits for _, fits in chosen))
    )
    return islice(every, MOST_GUESSES)


def has_rounded(cut: Cut) -> bool:
    """Whether a constant of the piece has a 16-bit type."""
    return any(tensor.dtype in HALF for tensor in map(constant, cut.constants) if tensor is not None)


def _fitting(value: ir.Value, cut: Cut, m: int) -> list[float]:
    tensor = constant(value)
    if tensor is None or tensor.dtype not in HALF or tensor.size == 0:
        return []
    array = tensor.numpy()  # 4 stays 4: as a rounded 4 M / (M - 1) it would excuse a population variance
    held = float(array.flat[0])
    if held in (4, 0.25) or not (np.isfinite(held) and (array == array.flat[0]).all()):
        return []
    with np.errstate(over="ignore"):
        return [
            c for c in _candidates(value, cut, m) if c != held and float(np.asarray(c).astype(array.dtype)) == held
        ]


def _candidates(value: ir.Value, cut: Cut, m: int) -> set[float]:
    """What SimAM's constants may be that depend on M, where `value` is used."""
    n = m - 1
    found = {float(n), 4.0 * n, n / 4, 1 / n, 4 / n, 1 / (4 * n), float(m), 1 / m}
    for node, at in _uses(value, cut):
        if node.op_type == "Mul" or (node.op_type == "Div" and at == 1):
            found |= {m / n, n / m, (m / n) ** 0.5, (n / m) ** 0.5, n / m / 4, 4 * m / n}
        if node.op_type in NORMALIZATIONS:
            found |= {(n / m) ** 0.5, (n / m / 4) ** 0.5}
    return found


def _uses(value: ir.Value, cut: Cut) -> Iterator[tuple[ir.Node, int]]:
    """Where the piece uses a constant, casts and reshapes followed."""
    piece = {*cut.inside, *cut.around}
    queue = [value]
    while queue:
        for use in queue.pop().uses():
            if use.node in piece:
                yield use.node, use.idx
                if use.node.op_type in PASSING | {"Expand"}:
                    queue.extend(use.node.outputs)
