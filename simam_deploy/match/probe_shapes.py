"""The sizes at which a candidate subgraph is checked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from simam_deploy.formula import Array
from simam_deploy.graph.shapes import Dims, StaticShape, Trial
from simam_deploy.match.run_subgraph import SubgraphRunner
from simam_deploy.match.subgraph import Subgraph

MOST_VALUES = 2**22
"""Upper bound on the values of a probe. A larger one takes seconds and hundreds of megabytes."""
PROBES = {
    3: ((2, 3, 42), (5, 7, 55), (17, 4, 6), (3, 12, 3127), (2, 2, 67591)),
    4: ((2, 3, 7, 6), (5, 7, 5, 11), (17, 4, 3, 2), (3, 12, 59, 53), (2, 2, 257, 263)),
    5: ((2, 3, 7, 2, 3), (5, 7, 2, 5, 11), (17, 4, 3, 1, 2), (3, 12, 7, 23, 19), (2, 2, 5, 109, 127)),
}
"""By rank, for dynamic axes. Prime map sizes reveal code that rounds a size; the largest exceeds 16 bits."""


def sizes(subgraph: Subgraph, dims: Dims, trials: Sequence[Trial]) -> Iterator[tuple[StaticShape, list[StaticShape]]]:
    """Sizes of x for the check, each with the shapes that the subgraph measures outside.

    trials : shapes of all values for one size of each input. Used if the subgraph measures values outside.
    """
    if not subgraph.sizes:
        probes = PROBES[len(dims)]
        for probe in probes[: 1 if all(isinstance(d, int) for d in dims) else None]:
            size = tuple(d if isinstance(d, int) else p for d, p in zip(dims, probe, strict=True))
            if probe is probes[0] or _fits(subgraph, size):
                yield size, []
        return
    for trial in trials:
        at = trial.get(str(subgraph.x.name), ())
        measured = [trial.get(str(node.inputs[0].name), ()) for node in subgraph.sizes if node.inputs[0] is not None]
        if len(at) == len(dims) and math.prod(at[2:]) > 1 and all(measured) and _fits(subgraph, at):
            yield at, measured


def smaller(
    runner: SubgraphRunner, subgraph: Subgraph, size: StaticShape, measured: list[StaticShape], batch: int
) -> Iterator[StaticShape]:
    """Sizes that may replace `size` in the check, best first. Use the first that runs.

    If all planes are treated alike, with equal numbers, a few planes represent all; of large planes, `batch` * 2.
    If only batch elements are treated alike, two of them do.
    """
    if subgraph.uniform:
        few = (min(size[0], 5), min(size[1], 3), *size[2:])
        least = (min(size[0], batch), 2, *size[2:])
        small = few if math.prod(few) <= MOST_VALUES // 4 and batch > 1 else least
        if same(runner.numbers(size, measured), runner.numbers(small, measured)):
            yield small
    if (
        subgraph.batched
        and size[0] > 2
        and same(runner.numbers(size, measured), runner.numbers((2, *size[1:]), measured))
    ):
        yield (2, *size[1:])
    yield size


def same(a: Sequence[Array], b: Sequence[Array]) -> bool:
    """Whether a subgraph computes equal numbers at two sizes. Shape vectors may differ."""
    return len(a) == len(b) and all(np.array_equal(i, j) for i, j in zip(a, b, strict=True))


def _fits(subgraph: Subgraph, size: StaticShape) -> bool:
    return math.prod((min(size[0], 2), 2, *size[2:]) if subgraph.uniform else size) <= MOST_VALUES
