"""Sizes for the comparison of files with dynamic axes: one that all of them accept, and another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from simam_deploy.compare.inputs import Case, cases, resolve
from simam_deploy.compare.matching import Names
from simam_deploy.errors import InputError
from simam_deploy.graph.shapes.types import StaticShape
from simam_deploy.runtimes.session import TensorSpec

OTHERS: tuple[StaticShape, ...] = ((1, 71, 57), (1, 128, 64))
"""First axis, further axes, last of four or more axes, as in `inputs.FREE`. The second suits networks with strides.

All products H*W differ, also from `inputs.FREE`: a constant M - 1 is right for one size alone."""


def agreed(files: Mapping[str, Sequence[TensorSpec]]) -> tuple[list[TensorSpec], list[str]]:
    """The inputs of the first file, with every axis fixed that another file fixes, and notes.

    files : name -> its inputs, matched by `Names`.
    Raises InputError if two files fix one axis at different sizes.
    """
    (first, specs), *further = [(name, list(of)) for name, of in files.items()]
    given = Names("inputs", first, [spec.name for spec in specs])
    takers = [first] * len(specs)
    notes = []
    for file, theirs in further:
        order, _ = given.match(file, [spec.name for spec in theirs])
        by_name = {spec.name: spec for spec in theirs}
        for at, other in enumerate(by_name[name] for name in order):
            ours = specs[at].shape
            if ours is None or other.shape is None or len(ours) != len(other.shape) or ours == other.shape:
                continue
            pairs = list(zip(ours, other.shape, strict=True))
            if any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs):
                raise InputError(
                    f"no input fits all files: {takers[at]} takes {specs[at].name} {_shown(ours)}\n"
                    f"{file} takes {other.name} {_shown(other.shape)}\ncompare files that take one size"
                )
            fixed = tuple(b if isinstance(b, int) else a for a, b in pairs)
            if fixed != ours:
                specs[at], takers[at] = replace(specs[at], shape=fixed), file
                notes.append(f"{file} fixes {other.name} {_shown(other.shape)}, so all are compared at that size")
    return specs, notes


def others(specs: Sequence[TensorSpec]) -> list[Case]:
    """Inputs of other sizes than those of `resolve`, the likeliest first; none without a dynamic axis."""
    found: list[Case] = []
    seen = [[resolve(spec, None) for spec in specs]]
    for free in OTHERS:
        sizes = [resolve(spec, None, free=free) for spec in specs]
        if sizes not in seen:
            seen.append(sizes)
            (made,) = cases(["plain"], specs, sizes=sizes)
            found.append(replace(made, name="other size", note=f"other size: {told(specs, made)}"))
    return found


def told(specs: Sequence[TensorSpec], case: Case) -> str:
    """Sizes of a case as text: `x (1, 3, 71, 57), mask (1, 71)`."""
    feeds = [zip(specs, feed, strict=False) for feed in case.feeds]
    return "; ".join(dict.fromkeys(", ".join(f"{spec.name} {array.shape}" for spec, array in feed) for feed in feeds))


def _shown(shape: tuple[int | str | None, ...]) -> str:
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"
