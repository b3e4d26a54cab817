"""Inputs to compare and time runtimes on: made for the formula, from an .npz, or from a folder of pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simam_deploy.errors import InputError
from simam_deploy.runtimes.session import TensorSpec

Array = NDArray[Any]
Size = tuple[int, ...]

MADE: dict[str, Callable[[np.random.Generator, Size], Array]] = {
    "plain": lambda rng, size: rng.standard_normal(size),
    "uniform": lambda rng, size: rng.random(size),
    "constant": lambda rng, size: np.broadcast_to(rng.standard_normal((*size[:-2], 1, 1)), size),
    "offset": lambda rng, size: 1000 + rng.standard_normal(size),
    "faint": lambda rng, size: 1e-2 * rng.standard_normal(size),
    "outlier": lambda rng, size: _with_outlier(rng.standard_normal(size)),
    "large": lambda rng, size: 300 / np.sqrt(np.prod(size[-2:])) * rng.standard_normal(size),
}
"""By name, what is made for float inputs; each shows another way to be wrong. large : M * var > 65504."""

ADVERSARIAL = ("plain", "constant", "offset", "faint", "outlier", "large")
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
"""ImageNet's, with which pictures of three channels are normalised."""
_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})


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
    given: Sequence[Size | None] = sizes if sizes is not None else [None] * len(specs)
    wanted = [resolve(spec, size) for spec, size in zip(specs, given, strict=True)]
    for name in what:
        path = Path(name)
        if name == "adversarial":
            yield from (_made(kind, specs, wanted, seed) for kind in ADVERSARIAL)
        elif name in MADE:
            yield _made(name, specs, wanted, seed)
        elif path.suffix == ".npz":
            yield _from_npz(path, specs)
        elif path.is_dir():
            yield _from_pictures(path, specs, wanted)
        else:
            raise InputError(
                f"{name!r} names no inputs: it is not one of {', '.join(MADE)} or adversarial, "
                "nor an .npz file, nor a folder of pictures"
            )


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
        if np.issubdtype(spec.dtype, np.integer) or spec.dtype == np.bool_:
            feed.append(rng.integers(0, 2, size).astype(spec.dtype))
        else:
            feed.append(np.ascontiguousarray(MADE[kind](rng, size), dtype=spec.dtype))
    return Case(kind, (tuple(feed),))


def _with_outlier(x: Array) -> Array:
    x[..., -1, -1] = 1e3
    return x


def _from_npz(path: Path, specs: Sequence[TensorSpec]) -> Case:
    """Arrays by input name, or in order. Along the first axis they are cut into batches that the model takes."""
    try:
        with np.load(path) as held:
            arrays = dict(held)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    names = [spec.name for spec in specs]
    if len(arrays) < len(specs) or (len(arrays) > len(specs) and not set(names) <= set(arrays)):
        raise InputError(f"{path} holds {', '.join(arrays) or 'nothing'}; the model's inputs are {', '.join(names)}")
    chosen = [arrays[n] for n in names] if set(names) <= set(arrays) else list(arrays.values())
    for spec, array in zip(specs, chosen, strict=True):
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
        raise InputError("pictures need a model with one input of shape (N, 3, H, W) or (N, 1, H, W)")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in _PICTURES)
    if not files:
        raise InputError(f"{folder} holds no picture ({', '.join(sorted(_PICTURES))})")
    _, channels, height, width = sizes[0]
    stack = []
    for file in files:
        try:
            with Image.open(file) as picture:
                pixels = np.asarray(picture.convert("RGB" if channels == 3 else "L").resize((width, height))) / 255.0
        except OSError as error:
            raise InputError(f"cannot read the picture {file}: {error}") from error
        stack.append(((pixels - MEAN) / STD).transpose(2, 0, 1) if channels == 3 else pixels[None])
    array = np.stack(stack).astype(specs[0].dtype)
    return Case(f"{folder.name}/", _batches([array], specs, folder))


def _batches(arrays: Sequence[Array], specs: Sequence[TensorSpec], origin: Path) -> tuple[tuple[Array, ...], ...]:
    count = arrays[0].shape[0] if arrays[0].ndim else 1
    fixed = next((spec.shape[0] for spec in specs if spec.shape and isinstance(spec.shape[0], int)), count)
    if count == 0 or count % fixed:
        raise InputError(f"{origin} holds {count} examples; the model takes {fixed} at a time")
    return tuple(tuple(a[i : i + fixed] for a in arrays) for i in range(0, count, fixed))
