"""What every form, runtime and kernel is tested on: `make(name, shape)`, name in INPUTS, shape in SHAPES."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Shape = tuple[int, int, int, int]

SHAPES: list[Shape] = [
    (1, 1, 1, 2),  # the smallest plane that has a variance
    (2, 3, 5, 7),  # no power of two, more than one image
    (2, 8, 15, 17),  # odd and longer than one vector register
    (1, 64, 56, 56),  # an early ResNet stage
    (1, 2048, 7, 7),  # the last ResNet stage: many small planes
    (2, 16, 160, 160),  # a detector's: one plane is longer than a block of threads reads at once
]
LAMBDAS = (1e-4, 0.1)  # the published default; the published ImageNet checkpoints


def plain(rng: np.random.Generator, shape: Shape) -> Float32:
    """Standard normal, as behind a BatchNorm."""
    return rng.standard_normal(shape, dtype=np.float32)


def constant(rng: np.random.Generator, shape: Shape) -> Float32:
    """One value per plane: v = 0, so λ alone keeps the quotient finite; planes differ, so mixing them shows."""
    return np.broadcast_to(rng.standard_normal((*shape[:2], 1, 1), dtype=np.float32), shape).copy()


def offset(rng: np.random.Generator, shape: Shape) -> Float32:
    """Mean 1000, spread 1: E[x²] - E[x]² loses every digit of the variance here."""
    return 1000 + rng.standard_normal(shape, dtype=np.float32)


def faint(rng: np.random.Generator, shape: Shape) -> Float32:
    """Spread 1e-2, so the variance is the default λ: a wrong λ moves the gate most."""
    return np.float32(1e-2) * rng.standard_normal(shape, dtype=np.float32)


def outlier(rng: np.random.Generator, shape: Shape) -> Float32:
    """Plain with one pixel of 1000 in each plane: the gate of that pixel nears 1, of all others 0.622."""
    x = plain(rng, shape)
    planes = x.reshape(shape[0] * shape[1], -1)
    planes[np.arange(len(planes)), rng.integers(planes.shape[1], size=len(planes))] = 1e3
    return x


def large(rng: np.random.Generator, shape: Shape) -> Float32:
    """Σ (x - mean)² = 2^18 in each plane: overflows float16 (65504) when summed there, though x itself fits."""
    z = rng.standard_normal(shape)
    z -= z.mean(axis=(2, 3), keepdims=True)
    return np.asarray(z * 2**9 / np.sqrt((z**2).sum(axis=(2, 3), keepdims=True)), dtype=np.float32)


INPUTS: dict[str, Callable[[np.random.Generator, Shape], Float32]] = {
    "plain": plain,
    "constant": constant,
    "offset": offset,
    "faint": faint,
    "outlier": outlier,
    "large": large,
}


def make(name: str, shape: Shape, seed: int = 0) -> Float32:
    """INPUTS[name] of that shape; the same numbers for the same seed."""
    x = INPUTS[name](np.random.default_rng(seed), shape)
    assert x.shape == shape
    assert x.dtype == np.float32
    return x
