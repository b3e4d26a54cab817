"""Sizes that are given to the dynamic axes of a model's inputs, to see what they make of the sizes inside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_SIZES = ((64, 96), (128, 64), (71, 57), (224, 160))
"""For dynamic axes behind the first, in turn. Three are multiples of 32, which most networks need; an odd one shows
rounding, where a network takes it. No two have the same product: sizes are multiplied."""
_DEEP = ((32, 64), (64, 32), (37, 29), (48, 80))
"""Where depth, height and width are all dynamic: a map of 64x96x64 takes seconds to judge."""
_BATCHES = (2, 5, 3, 4)


def keys(name: str, dims: Sequence[int | str | None]) -> Iterator[tuple[str, int]]:
    """A key for each dynamic axis of the input `name`, and the axis. Axes of one name have one size."""
    for axis, dim in enumerate(dims):
        if not isinstance(dim, int):
            yield dim or f"{name}[{axis}]", axis


def sizes(keys: Sequence[tuple[str, int]]) -> Iterator[dict[str, int]]:
    """Sizes by key, several in turn; one choice of no sizes where nothing is dynamic."""
    if not keys:
        yield {}
        return
    deep = any(axis > 3 for _, axis in keys)
    for batch, (a, b) in zip(_BATCHES, _DEEP if deep else _SIZES, strict=True):
        chosen: dict[str, int] = {}
        later = 0
        for key, axis in keys:
            if key not in chosen:
                chosen[key] = batch if axis == 0 else (a, b)[later % 2]
                later += axis != 0
        yield chosen
    if len({key for key, axis in keys if axis}) > 2:  # sizes that are called different things are different
        names = dict.fromkeys(key for key, axis in keys if axis)
        yield {key: 2 for key, axis in keys if not axis} | {
            key: (32 if deep else 64) + 32 * i for i, key in enumerate(names)
        }


def residues(keys: Sequence[tuple[str, int]], period: int) -> list[dict[str, int]]:
    """Sizes by key, a choice for each remainder by `period`: each axis has each of them once, at different times."""
    batch = {key: 2 for key, axis in keys if axis == 0}
    names = [key for key in dict.fromkeys(key for key, _ in keys) if key not in batch]
    return [
        batch | {key: 64 + 32 * i + (i + (-turn if i % 2 else turn)) % period for i, key in enumerate(names)}
        for turn in range(period)
    ]
