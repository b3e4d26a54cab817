"""The sizes that an engine is built for, as people write them: one range for each input.

    images:1x3x320x320..8x3x640x640..16x3x1280x1280    smallest, best, largest
    images:1x3x320x320..8x3x640x640                    smallest, largest; the largest is also the best
    images:8x3x640x640                                 one size
    x:1x3x64x64,y:1x4                                  several inputs, as in trtexec's --shapes
    x:1x3,y:1x4/x:2x3,y:2x4/x:4x3,y:4x4                trtexec's --minShapes, --optShapes and --maxShapes
    x:1x3x64x64,4x3x64x64,8x3x64x64                    our older spelling of a range

The best size is the one to be fastest at. With two sizes it is the largest, as in ONNX Runtime's TensorRT provider.
Names may hold colons, commas, dots and slashes: a text is read with the names of the inputs at hand.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from simam_deploy.errors import InputError
from simam_deploy.graph.shapes import StaticShape

LARGEST = 2**31 - 1
"""Upper bound on a size, in TensorRT."""
MOST_READINGS = 100
"""Upper bound on the readings of one text. Names of usual models leave one."""
_SIZES = "[0-9]{1,18}(?:x[0-9]{1,18})*"
_RANGES = (re.compile(rf"{_SIZES}(?:\.\.{_SIZES}){{0,2}}"), re.compile(rf"{_SIZES},{_SIZES},{_SIZES}"))
_ENTRY = re.compile(rf"(?P<name>.+?):{_SIZES}(?:(?:\.\.|,){_SIZES})*(?:[,/]|$)", re.DOTALL)
_HOW = (
    "write NAME:1x3x224x224, or NAME:1x3x224x224..4x3x320x320..8x3x640x640 (smallest, best, largest); "
    "several inputs as x:1x3x64x64,y:1x4"
)


class ShapeRange(NamedTuple):
    """The shapes one input may have: the smallest, the one to be fastest at, the largest."""

    min: StaticShape
    opt: StaticShape
    max: StaticShape

    def __str__(self) -> str:
        """As people write it."""
        return "..".join(written(part) for part in (self if len(set(self)) > 1 else self[:1]))


Given = Sequence[int] | Sequence[Sequence[int]]
"""The sizes of one input; or two of them: the smallest, the largest; or three: the best between these."""
_Entry = tuple[str, str, tuple[StaticShape, ...]]
"""The separator before it, the input, and one to three shapes."""


def written(shape: Sequence[object]) -> str:
    """A shape as 1x3x224x224."""
    return "x".join(map(str, shape))


def parse_shapes(texts: Iterable[str], names: Sequence[str]) -> dict[str, ShapeRange]:
    """The ranges in `texts`, by input, for a model with inputs called `names`.

    Raises InputError: another form, no such input, an input named twice, a text with two readings, a size below 1,
    min > opt > max.
    """
    shapes: dict[str, ShapeRange] = {}
    for text in texts:
        for name, shape in _read(text, names).items():
            if name in shapes:
                raise InputError(f"input {name!r} has more than one shape; write one {name}:MIN..OPT..MAX")
            check_order(name, shape)
            shapes[name] = shape
    return shapes


def shape_range(name: str, given: Given) -> ShapeRange:
    """The range of the input `name`. Raises InputError for anything but one, two or three shapes."""
    sizes = _shape(given)
    parts = [_shape(part) for part in given] if sizes is None else [sizes]
    if not 1 <= len(parts) <= 3 or None in parts:
        raise InputError(
            f"cannot read the shape {given!r} of input {name!r}; give (1, 3, 224, 224), "
            "or two of them, the smallest and the largest, or three, with the best between these"
        )
    made = _range([part for part in parts if part is not None])
    check_order(name, made)
    return made


def check_order(name: str, shape: ShapeRange) -> None:
    """Raise InputError if the sizes of a range fall, or are below 1 or above LARGEST."""
    same_rank = len({len(part) for part in shape}) == 1
    if not same_rank or any(not 1 <= a <= b <= c <= LARGEST for a, b, c in zip(*shape, strict=True)):
        swapped = same_rank and all(a >= b >= c for a, b, c in zip(*shape, strict=True))
        why = "" if same_rank else "\nits parts have unlike numbers of sizes"
        why = "\nthe largest stands first: swap them" if swapped and shape.min != shape.max else why
        raise InputError(f"input {name!r}: {shape} is not 1 <= MIN <= OPT <= MAX <= {LARGEST:,} in each size{why}")


def _shape(given: Any) -> StaticShape | None:
    try:
        return tuple(operator.index(size) for size in given)
    except TypeError:
        return None


def _range(parts: Sequence[StaticShape]) -> ShapeRange:
    """Two shapes are the smallest and the largest."""
    return ShapeRange(parts[0], parts[-2] if len(parts) == 3 else parts[-1], parts[-1])


def _read(text: str, names: Sequence[str]) -> dict[str, ShapeRange]:
    reached = [0]
    readings = [_assembled(entries) for entries in islice(_readings(text, names, reached), MOST_READINGS)]
    found = [reading for reading in readings if not isinstance(reading, str)]
    if len(found) == 1:
        return found[0]
    if found:
        both = (", ".join(f"{name!r} is {shape}" for name, shape in reading.items()) for reading in found[:2])
        raise InputError(
            "\n  ".join((f"the shapes {text!r} have two readings:", *both))
            + "\nput the names in single quotes, or give each input its own --shapes"
        )
    for reason in readings:
        raise InputError(f"cannot read the shapes {text!r}: {reason}; {_HOW}")
    rest = text[max(reached) :]
    if (entry := _ENTRY.match(rest)) and entry["name"].strip("'") not in names:
        raise no_input(entry["name"].strip("'"), names)
    raise InputError(f"cannot read {rest!r}{f' in the shapes {text!r}' if rest != text else ''}; {_HOW}")


def no_input(name: str, names: Sequence[str]) -> InputError:
    """The error for a shape of an input that the model does not have."""
    return InputError(f"no input is called {name!r}; the inputs are {', '.join(names)}")


def _readings(text: str, names: Sequence[str], reached: list[int]) -> Iterator[tuple[_Entry, ...]]:
    """Every way to read `text` as NAME:SHAPES, separated by commas and slashes.

    reached : grows by the positions at which an input may start.
    """
    open_: list[tuple[int, tuple[_Entry, ...]]] = [(0, ())]
    while open_:
        at, before = open_.pop()
        heads = [(name, f"{quote}{name}{quote}:") for name in names for quote in ("", "'")]
        for name, head in heads:
            for pattern in _RANGES if text.startswith(head, at) else ():
                if (match := pattern.match(text, at + len(head))) is None:
                    continue
                parts = tuple(tuple(map(int, part.split("x"))) for part in re.split(r"\.\.|,", match[0]))
                entries = (*before, (text[at - 1] if at else "", name, parts))
                if match.end() == len(text):
                    yield entries
                elif text[match.end()] in ",/":
                    reached.append(match.end() + 1)
                    open_.append((match.end() + 1, entries))


def _assembled(entries: Sequence[_Entry]) -> dict[str, ShapeRange] | str:
    """The ranges of one reading, or the reason why it is none."""
    groups: list[dict[str, tuple[StaticShape, ...]]] = [{}]
    for separator, name, parts in entries:
        if separator == "/":
            groups.append({})
        if name in groups[-1]:
            return f"input {name!r} has more than one shape"
        groups[-1][name] = parts
    if len(groups) == 1:
        return {name: _range(parts) for name, parts in groups[0].items()}
    if len(groups) > 3 or any(len(parts) > 1 for group in groups for parts in group.values()):
        return "between slashes are the smallest, the best and the largest sizes, one for each input"
    if any(group.keys() != groups[0].keys() for group in groups):
        return "the groups between slashes name different inputs"
    return {name: _range([group[name][0] for group in groups]) for name in groups[0]}
