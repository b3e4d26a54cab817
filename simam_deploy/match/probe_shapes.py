"""The sizes at which a piece is tried."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from simam_deploy.graph.evaluator import Array
from simam_deploy.graph.shapes import Dims, Trial
from simam_deploy.match.run_subgraph import Piece
from simam_deploy.match.subgraph import Cut

Size = tuple[int, ...]
"""A shape of x, all numbers."""
MOST_VALUES = 2**22
"""A probe of more values than this is not run: it would take seconds, and hundreds of megabytes."""
PROBES = {
    3: ((2, 3, 42), (5, 7, 55), (17, 4, 6), (3, 12, 3127), (2, 2, 67591)),
    4: ((2, 3, 7, 6), (5, 7, 5, 11), (17, 4, 3, 2), (3, 12, 59, 53), (2, 2, 257, 263)),
    5: ((2, 3, 7, 2, 3), (5, 7, 2, 5, 11), (17, 4, 3, 1, 2), (3, 12, 7, 23, 19), (2, 2, 5, 109, 127)),
}
"""By rank, where an axis is dynamic: prime maps, as a size that code rounds shows there, and one of more values than
fit into 16 bits."""


def sizes(cut: Cut, dims: Dims, trials: Sequence[Trial]) -> Iterator[tuple[Size, list[Size]]]:
    """Sizes of x to judge at, each with the shapes of what the piece measures elsewhere.

    trials : the shapes of all values, for inputs of one size each; used where the piece measures something elsewhere.
    """
    if not cut.sizes:
        probes = PROBES[len(dims)]
        for probe in probes[: 1 if all(isinstance(d, int) for d in dims) else None]:
            size = tuple(d if isinstance(d, int) else p for d, p in zip(dims, probe, strict=True))
            if probe is probes[0] or _fits(cut, size):
                yield size, []
        return
    for trial in trials:
        at = trial.get(str(cut.x.name), ())
        measured = [trial.get(str(node.inputs[0].name), ()) for node in cut.sizes if node.inputs[0] is not None]
        if len(at) == len(dims) and math.prod(at[2:]) > 1 and all(measured) and _fits(cut, at):
            yield at, measured


def smaller(piece: Piece, cut: Cut, size: Size, measured: list[Size], batch: int) -> Iterator[Size]:
    """Sizes to run in place of `size`, the first that works being enough. Of large planes few are run: `batch` * 2.

    Where all planes are treated alike, and by the same numbers, a few show what happens to all; or a few batch
    elements, where channels may differ.
    """
    if cut.uniform:
        few = (min(size[0], 5), min(size[1], 3), *size[2:])
        least = (min(size[0], batch), 2, *size[2:])
        small = few if math.prod(few) <= MOST_VALUES // 4 and batch > 1 else least
        if same(piece.numbers(size, measured), piece.numbers(small, measured)):
            yield small
    if cut.batched and size[0] > 2 and same(piece.numbers(size, measured), piece.numbers((2, *size[1:]), measured)):
        yield (2, *size[1:])
    yield size


def same(a: Sequence[Array], b: Sequence[Array]) -> bool:
    """Whether a piece computes the same numbers at two sizes; of shape vectors it need not."""
    return len(a) == len(b) and all(np.array_equal(i, j) for i, j in zip(a, b, strict=True))


def _fits(cut: Cut, size: Size) -> bool:
    return math.prod((min(size[0], 2), 2, *size[2:]) if cut.uniform else size) <= MOST_VALUES
