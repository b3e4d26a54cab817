"""Picture files as input of a model. A file is decoded when it is read, and not kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simam_deploy.artifacts.opening import opened
from simam_deploy.errors import InputError
from simam_deploy.formula import Array
from simam_deploy.graph.shapes.types import StaticShape
from simam_deploy.runtimes.session import TensorSpec, is_float

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
"""ImageNet statistics, for images of three channels."""
_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
"""Formats that Pillow may use, whatever the file name: some of its readers start other programs."""
MOST_PIXELS = 2**26
"""Upper bound on the pixels of an image, checked before decoding."""
MOST_NUMBERS = 2**28
"""Upper bound on the numbers in one input."""

Statistics = float | Sequence[float]


@dataclass(frozen=True)
class Pictures:
    """Pictures of a folder, resized to H x W and normalised: (pixels / 255 - mean) / std.

    shape : (C, H, W) of one picture.  mean, std : of shape (C,).
    """

    files: tuple[Path, ...]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    mean: Array
    std: Array

    @classmethod
    def of(
        cls,
        folder: Path,
        specs: Sequence[TensorSpec],
        sizes: Sequence[StaticShape],
        *,
        mean: Statistics | None = None,
        std: Statistics | None = None,
    ) -> Pictures:
        """Pictures for a model with inputs `specs`, whose concrete shapes are `sizes`.

        mean, std : one number, or one per channel. By default those of ImageNet for three channels, and 0 and 1 for
        one grey channel.
        Raises InputError if the model takes no pictures, for a folder without pictures, and for wrong statistics.
        """
        if len(specs) != 1 or len(sizes[0]) != 4 or sizes[0][1] not in (1, 3):
            raise InputError(
                "pictures need a model with one input of shape (N, 3, H, W) or (N, 1, H, W); "
                f"this one takes {', '.join(map(str, specs)) or 'none'}"
            )
        if not is_float(specs[0].dtype):
            raise InputError(f"pictures are fed as floats; {specs[0].name!r} takes {specs[0].dtype}: give an .npz")
        if math.prod(sizes[0]) > MOST_NUMBERS:
            raise InputError(
                f"{specs[0].name!r} takes {sizes[0]}, more numbers than pictures are made to; give an .npz"
            )
        files = tuple(sorted(p for p in folder.iterdir() if p.suffix.lower() in _PICTURES))
        if not files:
            raise InputError(f"{folder} holds no picture ({', '.join(sorted(_PICTURES))})")
        _, channels, height, width = sizes[0]
        usual: tuple[Any, Any] = (MEAN, STD) if channels == 3 else (0, 1)
        means = _per_channel("mean", usual[0] if mean is None else mean, channels)
        stds = _per_channel("std", usual[1] if std is None else std, channels)
        if not (stds > 0).all():
            raise InputError(f"std must be above 0, as pixels are divided by it; got {std}")
        return cls(files, (channels, height, width), specs[0].dtype, means, stds)

    def __iter__(self) -> Iterator[Array]:
        return map(self.read, self.files)

    def read(self, file: Path) -> Array:
        """Read one picture as (C, H, W). Raises InputError."""
        from PIL import Image, UnidentifiedImageError

        channels, height, width = self.shape
        try:
            with opened(file) as stream, Image.open(stream, formats=_FORMATS) as picture:
                if math.prod(picture.size) > MOST_PIXELS:
                    raise InputError(
                        f"{file} has {picture.width} x {picture.height} pixels; up to {MOST_PIXELS:,} are read"
                    )
                if picture.mode[0] in "IF":
                    raise InputError(f"{file} has more than 8 bits per pixel (mode {picture.mode}); save it with 8")
                pixels = np.asarray(picture.convert("RGB" if channels == 3 else "L").resize((width, height))) / 255.0
        except UnidentifiedImageError:
            raise InputError(f"cannot read the picture {file}: it is none of {', '.join(_FORMATS)}") from None
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, MemoryError) as error:
            raise InputError(f"cannot read the picture {file}: {error}") from error
        normalised = (pixels.reshape(height, width, channels) - self.mean) / self.std
        return np.asarray(normalised.transpose(2, 0, 1), dtype=self.dtype)


def _per_channel(name: str, given: Statistics, channels: int) -> Array:
    values = np.atleast_1d(np.asarray(given, dtype=np.float64))
    if values.shape not in ((1,), (channels,)) or not np.isfinite(values).all():
        raise InputError(f"{name} is one number, or {channels} for the channels of the model; got {given}")
    return np.broadcast_to(values, (channels,))
