"""Real samples as a stream of feeds, one batch at a time.

    samples = Samples("photos/", specs("model.onnx"), mean=0, std=1)
    for feed in samples:                     # {"images": (1, 3, 224, 224)}; may be repeated
        session.run(feed)

Pictures are decoded as they are read, and not kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path

import numpy as np

from simam_deploy.compare.inputs import fitting, read_npz, resolve
from simam_deploy.compare.pictures import Pictures, Statistics
from simam_deploy.errors import InputError
from simam_deploy.formula import Array
from simam_deploy.graph.shapes.types import StaticShape
from simam_deploy.runtimes.session import TensorSpec, is_float

SampleSource = str | os.PathLike[str] | Mapping[str, Array]
MOST = 512
"""Samples that are used without a limit. Ranges of activations settle long before."""


class Samples:
    """Samples of a user as feeds of a model. Iterable many times; its length is the number of feeds.

    count : samples in use.  names : of the inputs.  notes : remarks for the user.
    A feed has the batch size of the model, or 1 if that is dynamic.
    """

    def __init__(
        self,
        given: SampleSource,
        specs: Sequence[TensorSpec],
        *,
        mean: Statistics | None = None,
        std: Statistics | None = None,
        size: tuple[int, int] | None = None,
        limit: int | None = None,
    ) -> None:
        """Samples for a model with inputs `specs` (of a session, or from `inputs.specs(path)`).

        given     : a folder of pictures, an .npz, or arrays by name. Arrays hold one sample per index of axis 0.
        mean, std : statistics of pictures, as in `Pictures.of`. 0 and 1 give pixels from 0 to 1, as YOLOs take them.
        size      : (H, W) of pictures, for a model with a dynamic size.
        limit     : upper bound on the samples in use, evenly spaced; MOST by default, with a note if that leaves
                    some out.
        Raises InputError for no samples, arrays and pictures that do not fit, NaN and infinity.
        """
        if limit is not None and limit < 1:
            raise InputError(f"{limit} samples are asked for; give 1 or more, or leave it out for up to {MOST}")
        if not isinstance(given, str | os.PathLike | Mapping):
            raise InputError(
                f"samples are a folder of pictures, an .npz, or an array for each input by name; got "
                f"{type(given).__name__}"
            )
        self.names = tuple(spec.name for spec in specs)
        self.notes: list[str] = []
        self._pictures: Pictures | None = None
        self._arrays: list[Array] = []
        path = Path("the arrays") if isinstance(given, Mapping) else Path(given)
        if not isinstance(given, Mapping) and path.is_dir():
            self._pictures = Pictures.of(path, specs, [_shape(specs, size, path)], mean=mean, std=std)
            held, batch = len(self._pictures.files), _batch(specs)
        else:
            if option := next((n for n, v in (("mean", mean), ("std", std), ("size", size)) if v is not None), ""):
                raise InputError(f"--{option} is for pictures, and {path} holds arrays; leave it out")
            arrays = _arrays(given, path)
            self._arrays, note = fitting(arrays, specs, path)
            self.notes += [note] * bool(note)
            held, batch = _held(self._arrays, specs, path), _batch(specs)
        if held < batch:
            raise InputError(f"{path} holds {held} samples; the model takes {batch} at a time: give {batch} or more")
        self.count = min(held, limit or MOST) // batch * batch or batch
        self._used = np.linspace(0, held - 1, self.count).round().astype(int)
        self._batch = batch
        for name, array in zip(self.names, self._arrays, strict=False):
            _refuse_not_finite(f"{path}: {name!r}", array, self._used)
        self._note_unused(path, held, limit)

    def fewer(self, count: int) -> Samples:
        """Up to `count` of these samples, evenly spaced, in whole batches."""
        part = copy(self)
        part.count = min(self.count, max(count // self._batch, 1) * self._batch)
        part._used = self._used[np.linspace(0, self.count - 1, part.count).round().astype(int)]
        return part

    def __len__(self) -> int:
        return self.count // self._batch

    def __iter__(self) -> Iterator[dict[str, Array]]:
        for start in range(0, self.count, self._batch):
            yield self._feed(self._used[start : start + self._batch])

    def _feed(self, used: Array) -> dict[str, Array]:
        if self._pictures is not None:
            return {self.names[0]: np.stack([self._pictures.read(self._pictures.files[i]) for i in used])}
        return {name: a[used] if a.ndim else a for name, a in zip(self.names, self._arrays, strict=True)}

    def _note_unused(self, path: Path, held: int, limit: int | None) -> None:
        asked = limit or MOST
        if held > asked and limit is None:
            self.notes.append(f"{path}: {self.count} of {held} samples are used; --samples N takes N")
        elif self.count < min(held, asked):
            self.notes.append(f"{path}: {self.count} of {held} samples are used, as batches have {self._batch}")


def _shape(specs: Sequence[TensorSpec], size: tuple[int, int] | None, path: Path) -> StaticShape:
    """Concrete shape of the input for pictures. Others are left to `Pictures.of`, which refuses them."""
    if len(specs) != 1 or specs[0].shape is None or len(specs[0].shape) != 4:
        return ()
    first, channels, *plane = specs[0].shape
    if size is None and not all(isinstance(d, int) for d in plane):
        raise InputError(
            f"{path} holds pictures, and {specs[0]} leaves their size open; give it as H,W with --size, "
            "as the model gets it in use"
        )
    if size is not None and min(size) < 1:
        raise InputError(f"pictures have a size of 1 or more; got --size {size[0]},{size[1]}")
    one = first if isinstance(first, int) else 1
    if not isinstance(channels, int):
        raise InputError(f"{path} holds pictures, and {specs[0]} leaves their channels open; give an .npz")
    return resolve(specs[0], None if size is None else (one, channels, *size), free=(1, 1, 1))


def _arrays(given: SampleSource, path: Path) -> Mapping[str, Array]:
    if isinstance(given, Mapping):
        return {name: np.asarray(array) for name, array in given.items()}
    if path.suffix != ".npz":
        what = "neither a folder of pictures nor an .npz" if path.exists() else "not there"
        raise InputError(f"{path} is {what}; give a folder of pictures, or an .npz with an array for each input")
    return read_npz(path)


def _batch(specs: Sequence[TensorSpec]) -> int:
    """Samples in a feed. Raises InputError if inputs have unlike fixed sizes."""
    sizes = {spec.shape[0] for spec in specs if spec.shape and isinstance(spec.shape[0], int)}
    if len(sizes) > 1:
        raise InputError(f"the first axes of {', '.join(map(str, specs))} differ; samples need one batch size")
    return max(1, next(iter(sizes), 1))


def _held(arrays: Sequence[Array], specs: Sequence[TensorSpec], path: Path) -> int:
    """Samples in the arrays."""
    counts = {spec.name: len(a) for a, spec in zip(arrays, specs, strict=True) if a.ndim}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(f"{path} holds unlike numbers of samples: {told}; give as many for each input")
    held = next(iter(counts.values()), 1)
    if not held:
        raise InputError(f"{path} holds no samples; give some of those that the model gets in use")
    return held


def _refuse_not_finite(what: str, array: Array, used: Array) -> None:
    if not array.ndim or not is_float(array.dtype):
        return
    for index in used:
        finite = np.isfinite(array[index])
        if not finite.all():
            at = tuple(int(i) for i in np.argwhere(~finite)[0])
            value = np.asarray(array[index])[at]
            raise InputError(f"{what} is {value} in sample {index}, at {list(at)}; take the sample away, or mend it")
