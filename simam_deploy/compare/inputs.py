"""Inputs for comparisons and timing: generated, from an .npz, or from a folder of images."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from simam_deploy.artifacts import npz
from simam_deploy.artifacts.opening import opened
from simam_deploy.compare.input_ranges import ranges
from simam_deploy.compare.matching import Names
from simam_deploy.compare.pictures import MOST_NUMBERS, Pictures, Statistics
from simam_deploy.errors import InputError
from simam_deploy.formula import Array
from simam_deploy.graph import onnx_file
from simam_deploy.graph.shapes.types import StaticShape
from simam_deploy.runtimes import onnx_model
from simam_deploy.runtimes.session import TensorSpec, is_float
from simam_deploy.text import on_one_line

MADE: dict[str, Callable[[np.random.Generator, StaticShape], Array]] = {
    "plain": lambda rng, size: rng.standard_normal(size),
    "uniform": lambda rng, size: rng.random(size),
    "constant": lambda rng, size: np.broadcast_to(rng.standard_normal((*size[:-2], *[1] * len(size[-2:]))), size),
    "offset": lambda rng, size: 1000 + rng.standard_normal(size),
    "faint": lambda rng, size: 1e-2 * rng.standard_normal(size),
    "outlier": lambda rng, size: _with_outlier(rng.standard_normal(size)),
    "large": lambda rng, size: 300 / np.sqrt(np.prod(size[-2:])) * rng.standard_normal(size),
}
"""Generators of float inputs, by name. Each reveals another kind of error. large : M * var > 65504.

The last two axes count as H and W; an input of fewer axes is one plane."""

INTEGERS: dict[str, Callable[[np.random.Generator, StaticShape, int, int], Array]] = {
    "plain": lambda rng, size, low, high: rng.integers(low, high, size, endpoint=True),
    "uniform": lambda rng, size, low, high: rng.integers(low, high, size, endpoint=True),
    "constant": lambda rng, size, low, high: np.broadcast_to(
        rng.integers(low, high, (*size[:-2], *[1] * len(size[-2:])), endpoint=True), size
    ),
    "offset": lambda rng, size, low, high: rng.integers(max(low, high - FEW), high, size, endpoint=True),
    "faint": lambda rng, size, low, high: rng.integers(
        max(low, min(0, high)), min(high, max(0, low) + 1), size, endpoint=True
    ),
    "outlier": lambda rng, size, low, high: _with_outlier(
        rng.integers(low, min(high, low + FEW), size, endpoint=True), high
    ),
    "large": lambda rng, size, low, high: rng.choice([low, high], size),
}
"""Generators of integer inputs from low to high, both included."""
FEW = 9
"""Largest generated integer for a 32- or 64-bit input without a known range."""
WHOLE_BITS = 16
"""Integers of up to this width take the full range of their type."""

ADVERSARIAL = ("plain", "constant", "offset", "faint", "outlier", "large")
DEFAULT = ("plain", "uniform", "faint", "outlier", "large")
"""Inputs for networks by default. The others demand more accurate sums than real inputs do."""
FREE: StaticShape = (2, 64, 96)
"""Sizes of dynamic axes; see `resolve`. A square would hide H exchanged with W, and a frozen size of 64x64."""
MOST_NAMED = 5
"""Upper bound on the unused arrays that a note names."""


_CHOICES = f"{', '.join(MADE)}, adversarial (all of {', '.join(ADVERSARIAL)}), FILE.npz, a folder of pictures"


@dataclass(frozen=True)
class Case:
    """Named inputs. feeds : one or more tuples of arrays, in the order of the model's inputs.

    note : a remark for the user, or "".
    """

    name: str
    feeds: tuple[tuple[Array, ...], ...]
    note: str = ""


def cases(
    what: Sequence[str],
    specs: Sequence[TensorSpec],
    *,
    sizes: Sequence[StaticShape] | None = None,
    seed: int = 0,
    mean: Statistics | None = None,
    std: Statistics | None = None,
) -> Iterator[Case]:
    """Make the inputs named by `what`, for a model with inputs `specs` (of a session, or from `specs(path)`).

    what : names in MADE, "adversarial" (all of ADVERSARIAL), a path to an .npz, a path to a folder of images.
    8- and 16-bit integers take the full range of their type, as pixels and sound do. Indices stay in the axis that
    they index, if the graph determines its size (`specs(path)`). Other integers are 0 to 9, small enough for sizes
    and counts. "large" has the extremes alone, "outlier" one maximum, "faint" 0 and 1.
    sizes : one per input, for its dynamic axes; by default those of `resolve`.
    mean, std : of pictures, as in `Pictures.of`.
    Raises InputError for an unknown name, and for data that does not fit the inputs.
    """
    if not what:
        raise InputError(f"no inputs are named; name one or more of {_CHOICES}")
    given: Sequence[StaticShape | None] = sizes if sizes is not None else [None] * len(specs)
    if len(given) != len(specs):
        takes = ", ".join(map(str, specs)) or "none"
        raise InputError(f"{len(given)} sizes are given; the model has {len(specs)} inputs: {takes}")
    for name in what:
        path = Path(name)
        if name == "adversarial":
            yield from (_made(kind, specs, list(map(resolve, specs, given)), seed) for kind in ADVERSARIAL)
        elif name in MADE:
            yield _made(name, specs, list(map(resolve, specs, given)), seed)
        elif path.suffix == ".npz":
            yield _from_npz(path, specs)
        elif path.is_dir():
            pictures = Pictures.of(path, specs, list(map(resolve, specs, given)), mean=mean, std=std)
            own = mean is not None or std is not None or len(pictures.mean) == 1
            note = (
                "" if own else f"{path.name}/: normalised as for ImageNet; --mean 0 --std 1 gives pixels from 0 to 1"
            )
            yield Case(f"{path.name}/", _batches([np.stack([*pictures])], specs, path), note)
        else:
            raise InputError(f"{name!r} names no inputs; there are {_CHOICES}")


def specs(path: str | os.PathLike[str]) -> tuple[TensorSpec, ...]:
    """Inputs of an ONNX file, with ranges of integers where the graph determines them. Raises as `onnx_file.read`."""
    model = onnx_file.read(path)
    with onnx_file.blaming(path):
        held = ranges(model)
    return tuple(replace(spec, range=held.get(spec.name)) for spec in onnx_model.input_specs(model, Path(path)))


def resolve(spec: TensorSpec, size: StaticShape | None, *, free: StaticShape = FREE) -> StaticShape:
    """Concrete shape of an input: `size` if given; it must agree with the fixed axes.

    Without it, dynamic axes take `free`: (first axis, other axes, last of four or more axes). The last value applies
    unless both last axes have one name.
    """
    if spec.shape is None:
        raise InputError(f"input {spec.name!r} declares no shape, so no inputs can be made for it; give an .npz")
    if size is None:
        first, inner, last = free
        made = [d if isinstance(d, int) else inner if axis else first for axis, d in enumerate(spec.shape)]
        if len(made) > 3 and _may_differ(*spec.shape[-2:]):
            made[-1] = last
        return tuple(made)
    if len(size) != len(spec.shape) or any(
        isinstance(d, int) and d != s for d, s in zip(spec.shape, size, strict=False)
    ):
        raise InputError(f"input {spec.name!r} has shape {spec.shape}; {size} does not fit it")
    return size


def _may_differ(height: int | str | None, width: int | str | None) -> bool:
    return not isinstance(width, int) and (width is None or width != height)


def _made(kind: str, specs: Sequence[TensorSpec], sizes: Sequence[StaticShape], seed: int) -> Case:
    rng = np.random.default_rng(seed)
    feed = []
    for spec, size in zip(specs, sizes, strict=True):
        if min(size, default=1) < 0 or math.prod(size) > MOST_NUMBERS:
            raise InputError(
                f"input {spec.name!r} has shape {size}; up to {MOST_NUMBERS:,} numbers are made; give --shape"
            )
        if spec.dtype.kind in "biu":
            feed.append(np.array(INTEGERS[kind](rng, size, *_range(spec)), dtype=spec.dtype, order="C"))
        elif not is_float(spec.dtype):
            raise InputError(f"nothing is made for input {spec.name!r} of type {spec.dtype}; give an .npz")
        else:
            feed.append(np.array(MADE[kind](rng, size), dtype=spec.dtype, order="C"))
    return Case(kind, (tuple(feed),))


def _range(spec: TensorSpec) -> tuple[int, int]:
    """Range of the integers to generate for an input."""
    if spec.dtype.kind == "b":
        return 0, 1
    whole = np.iinfo(spec.dtype)
    low, high = spec.range or ((whole.min, whole.max) if whole.bits <= WHOLE_BITS else (0, FEW))
    low, high = max(low, whole.min), min(high, whole.max)
    if low > high:
        raise InputError(f"input {spec.name!r} is an index for which the graph leaves no value; give an .npz")
    return low, high


def _with_outlier(x: Array, value: float = 1e3) -> Array:
    x = np.asarray(x)
    at: tuple[Any, ...] = (..., *[-1] * min(2, x.ndim))
    x[at] = value
    return x


def _from_npz(path: Path, specs: Sequence[TensorSpec]) -> Case:
    return of_arrays(read_npz(path), specs, path)


def read_npz(path: Path) -> dict[str, Array]:
    """Arrays of a file of numpy.savez, by name. Raises InputError."""
    with opened(path, what=".npz file") as stream:
        try:
            return dict(npz.arrays(stream))
        except npz.BROKEN as error:
            raise InputError(f"cannot read {path} as an .npz file of numpy.savez: {error}") from error


def of_arrays(arrays: Mapping[str, Array], specs: Sequence[TensorSpec], path: Path = Path("the arrays")) -> Case:
    """Arrays for a model with inputs `specs`, matched by name; by position if no name is common, with a note.

    Splits them along the first axis into batches of the model's size. Scalars go to every batch.
    path : their name in errors. Raises InputError for arrays that do not fit.
    """
    given, note = fitting(arrays, specs, path)
    return Case(path.name, _batches(given, specs, path), note)


def fitting(arrays: Mapping[str, Array], specs: Sequence[TensorSpec], path: Path) -> tuple[list[Array], str]:
    """One array for each input, in its type, and a note. Matches and refuses as `of_arrays`, before batches."""
    chosen, note = _chosen(path, arrays, [spec.name for spec in specs])
    for spec, array in zip(specs, chosen, strict=True):
        if not np.can_cast(array.dtype, spec.dtype, "same_kind"):
            raise InputError(f"{path}: an array of {array.dtype} does not fit {spec.name!r} of {spec.dtype}")
        if spec.shape is None:
            continue
        fixed = [d for d in spec.shape[1:] if isinstance(d, int)]
        if array.ndim != len(spec.shape) or fixed != [
            s for s, d in zip(array.shape[1:], spec.shape[1:], strict=True) if isinstance(d, int)
        ]:
            raise InputError(f"{path}: an array of shape {array.shape} does not fit {spec.name!r} {spec.shape}")
    return [a.astype(s.dtype, copy=False) for a, s in zip(chosen, specs, strict=True)], note


def _chosen(path: Path, arrays: Mapping[str, Array], names: Sequence[str]) -> tuple[list[Array], str]:
    """One array for each input, and a note. Matches by name, or by order if no name is common; arr_0 is no name.

    Leaves out further arrays, with a note.
    """
    if set(names) <= set(arrays):
        further = [on_one_line(name) for name in arrays if name not in names]
        more = f" and {len(further) - MOST_NAMED} more" if len(further) > MOST_NAMED else ""
        note = f"{path.name}: left out, as the model has no inputs of these names: "
        note += f"{', '.join(further[:MOST_NAMED])}{more}"
        return [arrays[name] for name in names], note if further else ""
    if len(arrays) != len(names):
        raise InputError(f"{path} holds {', '.join(arrays) or 'nothing'}; the model's inputs are {', '.join(names)}")
    named = list(arrays) != [f"arr_{i}" for i in range(len(arrays))]
    order, note = Names("inputs", "the model", names).match(path.name, arrays, named=named)
    return [arrays[name] for name in order], note


def _batches(arrays: Sequence[Array], specs: Sequence[TensorSpec], origin: Path) -> tuple[tuple[Array, ...], ...]:
    firsts = [spec.shape[0] if spec.shape else None for spec in specs]
    if arrays and all(a.ndim == 0 or (len(a) and len(a) == first) for a, first in zip(arrays, firsts, strict=True)):
        return (tuple(arrays),)
    counts = {spec.name: len(a) for a, spec in zip(arrays, specs, strict=True) if a.ndim}
    if len(set(counts.values())) != 1:
        raise InputError(
            f"{origin} holds unlike numbers of examples: " + ", ".join(f"{n} {c}" for n, c in counts.items())
        )
    count = next(iter(counts.values()))
    sizes = sorted({first for first in firsts if isinstance(first, int)}) or [count]
    if count == 0 or len(sizes) > 1 or count % sizes[0]:
        takes = f"{' and '.join(map(str, sizes))} at a time" if sizes[0] else "one or more"
        raise InputError(f"{origin} holds {count} examples; the model takes {takes}")
    return tuple(tuple(a[i : i + sizes[0]] if a.ndim else a for a in arrays) for i in range(0, count, sizes[0]))
