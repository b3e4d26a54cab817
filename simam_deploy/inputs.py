"""Inputs to compare and time runtimes on: made for the formula, from an .npz, or from a folder of pictures."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simam_deploy.errors import InputError
from simam_deploy.runtimes.session import TensorSpec, is_float

Array = NDArray[Any]
Size = tuple[int, ...]

MADE: dict[str, Callable[[np.random.Generator, Size], Array]] = {
    "plain": lambda rng, size: rng.standard_normal(size),
    "uniform": lambda rng, size: rng.random(size),
    "constant": lambda rng, size: np.broadcast_to(rng.standard_normal((*size[:-2], *[1] * len(size[-2:]))), size),
    "offset": lambda rng, size: 1000 + rng.standard_normal(size),
    "faint": lambda rng, size: 1e-2 * rng.standard_normal(size),
    "outlier": lambda rng, size: _with_outlier(rng.standard_normal(size)),
    "large": lambda rng, size: 300 / np.sqrt(np.prod(size[-2:])) * rng.standard_normal(size),
}
"""By name, what is made for float inputs; each shows another way to be wrong. large : M * var > 65504.

The last two axes are taken for H and W, so that an input of fewer axes is one plane."""

ADVERSARIAL = ("plain", "constant", "offset", "faint", "outlier", "large")
DEFAULT = ("plain", "faint", "outlier", "large")
"""What networks are compared on if nothing is said. The others ask more of a runtime's sums than real inputs do."""
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
"""ImageNet's, with which pictures of three channels are normalised."""
_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})


_CHOICES = f"{', '.join(MADE)}, adversarial (all of {', '.join(ADVERSARIAL)}), FILE.npz, a folder of pictures"


@dataclass(frozen=True)
class Case:
    """Inputs under one name. feeds : one or more tuples of arrays, in the order of the model's inputs."""

    name: str
    feeds: tuple[tuple[Array, ...], ...]


def cases(
    what: Sequence[str], specs: Sequence[TensorSpec], *, sizes: Sequence[Size] | None = None, seed: int = 0
) -> Iterator[Case]:
    """The inputs that `what` names, for a model with inputs `specs`.

    what : names in MADE, "adversarial" (all of ADVERSARIAL), a path to an .npz, a path to a folder of pictures.
    sizes : one per input, for its dynamic axes; without it a first axis is 2 and the others are 64.
    Raises InputError when a name is unknown or what it holds does not fit the inputs.
    """
    if not what:
        raise InputError(f"no inputs are named; name one or more of {_CHOICES}")
    given: Sequence[Size | None] = sizes if sizes is not None else [None] * len(specs)
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
            yield _from_pictures(path, specs, list(map(resolve, specs, given)))
        else:
            raise InputError(f"{name!r} names no inputs; there are {_CHOICES}")


MOST_NUMBERS = 2**28
"""Of an input that is made: 1 GiB of float32."""


def resolve(spec: TensorSpec, size: Size | None) -> Size:
    """The concrete size for an input: `size` where given, which must agree with the fixed axes."""
    if spec.shape is None:
        raise InputError(f"input {spec.name!r} declares no shape, so no inputs can be made for it; give an .npz")
    if size is None:
        return tuple(d if isinstance(d, int) else 2 if axis == 0 else 64 for axis, d in enumerate(spec.shape))
    if len(size) != len(spec.shape) or any(
        isinstance(d, int) and d != s for d, s in zip(spec.shape, size, strict=False)
    ):
        raise InputError(f"input {spec.name!r} has shape {spec.shape}; {size} does not fit it")
    return size


def _made(kind: str, specs: Sequence[TensorSpec], sizes: Sequence[Size], seed: int) -> Case:
    rng = np.random.default_rng(seed)
    feed = []
    for spec, size in zip(specs, sizes, strict=True):
        if min(size, default=1) < 0 or math.prod(size) > MOST_NUMBERS:
            raise InputError(
                f"input {spec.name!r} has shape {size}; up to {MOST_NUMBERS:,} numbers are made; give --shape"
            )
        if np.issubdtype(spec.dtype, np.integer) or spec.dtype == np.bool_:
            feed.append(rng.integers(0, 2, size).astype(spec.dtype))
        elif not is_float(spec.dtype):
            raise InputError(f"nothing is made for input {spec.name!r} of type {spec.dtype}; give an .npz")
        else:
            feed.append(np.array(MADE[kind](rng, size), dtype=spec.dtype, order="C"))
    return Case(kind, (tuple(feed),))


def _with_outlier(x: Array) -> Array:
    x = np.asarray(x)
    at: tuple[Any, ...] = (..., *[-1] * min(2, x.ndim))
    x[at] = 1e3
    return x


def _from_npz(path: Path, specs: Sequence[TensorSpec]) -> Case:
    """Arrays by input name, or in order. Along the first axis they are cut into batches that the model takes.

    Numbers without an axis go whole to every batch.
    """
    arrays: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(path) as archive:  # np.load takes other files too, and leaves broken ones open
            for entry in archive.namelist():
                with archive.open(entry) as stream:
                    arrays[entry.removesuffix(".npy")] = np.lib.format.read_array(stream, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"cannot read {path} as an .npz file of numpy.savez: {error}") from error
    names = [spec.name for spec in specs]
    if len(arrays) < len(specs) or (len(arrays) > len(specs) and not set(names) <= set(arrays)):
        raise InputError(f"{path} holds {', '.join(arrays) or 'nothing'}; the model's inputs are {', '.join(names)}")
    chosen = [arrays[n] for n in names] if set(names) <= set(arrays) else list(arrays.values())
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
    return Case(path.name, _batches([a.astype(s.dtype) for a, s in zip(chosen, specs, strict=True)], specs, path))


def _from_pictures(folder: Path, specs: Sequence[TensorSpec], sizes: Sequence[Size]) -> Case:
    """Pictures resized to H x W; three channels normalised as for ImageNet, one channel as grey from 0 to 1."""
    from PIL import Image

    if len(specs) != 1 or len(sizes[0]) != 4 or sizes[0][1] not in (1, 3):
        raise InputError(
            "pictures need a model with one input of shape (N, 3, H, W) or (N, 1, H, W); "
            f"this one takes {', '.join(map(str, specs)) or 'none'}"
        )
    if not is_float(specs[0].dtype):
        raise InputError(f"pictures are fed as floats; {specs[0].name!r} takes {specs[0].dtype}: give an .npz")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in _PICTURES)
    if not files:
        raise InputError(f"{folder} holds no picture ({', '.join(sorted(_PICTURES))})")
    _, channels, height, width = sizes[0]
    stack = []
    for file in files:
        try:
            with Image.open(file) as picture:
                if picture.mode[0] in "IF":
                    raise InputError(f"{file} has more than 8 bits per pixel (mode {picture.mode}); save it with 8")
                pixels = np.asarray(picture.convert("RGB" if channels == 3 else "L").resize((width, height))) / 255.0
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise InputError(f"cannot read the picture {file}: {error}") from error
        stack.append(((pixels - MEAN) / STD).transpose(2, 0, 1) if channels == 3 else pixels[None])
    array = np.stack(stack).astype(specs[0].dtype)
    return Case(f"{folder.name}/", _batches([array], specs, folder))


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
