"""Graphs that exporters alone do not make: SimAM inside branches, loops and functions, and beside other users."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Wrapped:
    """A graph built by hand, and what is true of it."""

    name: str
    label: str
    e_lambda: tuple[float, ...]
    make: Callable[[], onnx.ModelProto]
    shapes: tuple[Shape, ...] = ((2, 3, 12, 9),)
    posts: tuple[str, ...] = ()


WRAPPED: dict[str, Wrapped] = {}
