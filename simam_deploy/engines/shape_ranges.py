"""The shapes that an engine is built for: one range for each input whose size is dynamic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import onnx

from simam_deploy.errors import InputError
from simam_deploy.graph.shapes import StaticShape


class ShapeRange(NamedTuple):
    """The shapes one input may have: the smallest, the one to be fastest at, the largest."""

    min: StaticShape
    opt: StaticShape
    max: StaticShape


Given = Sequence[int] | Sequence[Sequence[int]]
"""The sizes of one input, or three of them: the smallest, the one to be fastest at, the largest."""


def parse_shapes(texts: Iterable[str]) -> dict[str, ShapeRange]:
    """`x:1x3x224x224`, or `x:1x3x224x224,4x3x320x320,8x3x640x640` (min, opt, max), by input name.

    Raises InputError: another form, a size below 1, min > opt > max, an input named twice.
    """
    shapes: dict[str, ShapeRange] = {}
    for text in texts:
        name, _, rest = text.rpartition(":")  # input names may hold colons
        parts = rest.split(",")
        try:
            dims = [tuple(int(size) for size in part.split("x")) for part in parts]
        except ValueError:
            dims = []
        if not name or len(dims) not in (1, 3):
            raise InputError(
                f"cannot read the shape {text!r}; write NAME:1x3x224x224, "
                "or NAME:1x3x224x224,4x3x320x320,8x3x640x640 (smallest, best, largest)"
            )
        if name in shapes:
            raise InputError(f"input {name!r} has more than one shape; write one NAME:MIN,OPT,MAX")
        shapes[name] = ShapeRange(*(dims * 3 if len(dims) == 1 else dims))
        _check_order(name, shapes[name])
    return shapes


def shape_range(name: str, given: Given) -> ShapeRange:
    """The range of the input `name`. Raises InputError for what is neither one shape nor three."""
    parts: list[Any] = [given] if all(isinstance(size, int) for size in given) else list(given)
    try:
        sizes = [tuple(int(size) for size in part) for part in parts]
    except (TypeError, ValueError):
        sizes = []
    if len(sizes) not in (1, 3):
        raise InputError(
            f"cannot read the shape {given!r} of input {name!r}; give (1, 3, 224, 224), "
            "or three of them: the smallest, the best, the largest"
        )
    made = ShapeRange(*(sizes * 3 if len(sizes) == 1 else sizes))
    _check_order(name, made)
    return made


def profiles_of(model: onnx.ModelProto, shapes: Mapping[str, ShapeRange]) -> dict[str, ShapeRange]:
    """The shapes of the dynamic inputs, all of them, checked against what the file says."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input if value.name not in weights}
    if unknown := sorted(set(shapes) - set(inputs)):
        raise InputError(f"no input is called {unknown[0]!r}; the inputs are {', '.join(inputs)}")
    profiles: dict[str, ShapeRange] = {}
    for name, value in inputs.items():
        sizes = [dim.dim_param or max(dim.dim_value, 0) or "?" for dim in value.type.tensor_type.shape.dim]
        words = "x".join(map(str, sizes))
        dynamic = any(isinstance(size, str) for size in sizes)
        if name in shapes:
            _check_order(name, shapes[name])
            for part in shapes[name]:
                fits = (isinstance(size, str) or size == got for size, got in zip(sizes, part, strict=False))
                if len(part) != len(sizes) or not all(fits):
                    raise InputError(f"input {name!r} is {words} in the file; {_words(shapes[name])} contradicts it")
            if dynamic:
                profiles[name] = shapes[name]
        elif dynamic:
            like = "x".join(str((224 if i else 1) if isinstance(size, str) else size) for i, size in enumerate(sizes))
            raise InputError(
                f"input {name!r} is {words}, and an engine needs sizes; give them with --shapes {name}:{like} or, "
                f"for a range, --shapes {name}:MIN,OPT,MAX"
            )
    return profiles


def _words(shape: ShapeRange) -> str:
    return ",".join("x".join(map(str, part)) for part in shape)


def _check_order(name: str, shape: ShapeRange) -> None:
    same_rank = len({len(part) for part in shape}) == 1
    if not same_rank or any(not 1 <= a <= b <= c for a, b, c in zip(*shape, strict=True)):
        raise InputError(f"input {name!r}: {_words(shape)} is not 1 <= MIN <= OPT <= MAX in each size")
