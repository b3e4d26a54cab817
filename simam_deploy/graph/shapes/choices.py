"""Trial sizes for the dynamic axes of a model's inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_SIZES = ((64, 96), (128, 64), (71, 57), (224, 160))
"""For dynamic axes behind the first, in turn. Three pairs are multiples of 32, as most networks need. The odd pair
reveals rounding. All products differ, as networks multiply sizes."""
_DEEP = ((32, 64), (64, 32), (37, 29), (48, 80))
"""For dynamic depth, height and width: the check of a 64x96x64 map takes seconds."""
_BATCHES = (2, 5, 3, 4)


def keys(name: str, dims: Sequence[int | str | None]) -> Iterator[tuple[str, int]]:
    """A key and an index for each dynamic axis of the input `name`. Axes with one key share one size."""
    for axis, dim in enumerate(dims):
        if not isinstance(dim, int):
            yield dim or f"{name}[{axis}]", axis


def sizes(keys: Sequence[tuple[str, int]]) -> Iterator[dict[str, int]]:
    """Several choices of sizes by key; one empty choice without dynamic axes."""
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
    if len({key for key, axis in keys if axis}) > 2:  # different names get different sizes
        names = dict.fromkeys(key for key, axis in keys if axis)
        yield {key: 2 for key, axis in keys if not axis} | {
            key: (32 if deep else 64) + 32 * i for i, key in enumerate(names)
        }


def residues(keys: Sequence[tuple[str, int]], period: int) -> list[dict[str, int]]:
    """One choice of sizes by key for each remainder modulo `period`. Each axis takes each remainder once."""
    batch = {key: 2 for key, axis in keys if axis == 0}
    names = [key for key in dict.fromkeys(key for key, _ in keys) if key not in batch]
    return [
        batch | {key: 64 + 32 * i + (i + (-turn if i % 2 else turn)) % period for i, key in enumerate(names)}
        for turn in range(period)
    ]
