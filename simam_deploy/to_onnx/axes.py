"""Dynamic axes of the inputs, by name or number, and other sizes for trials."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import gcd

from torch import Tensor

from simam_deploy.errors import InputError

RequestedAxes = Sequence[str] | Mapping[str, Sequence[int] | Mapping[int, str]]
DynamicAxes = dict[str, dict[int, str]]
"""Input -> axis -> name of the dimension in the file, for every input."""
InputSizes = dict[str, tuple[int, ...]]

BY_RANK: dict[int, dict[str, int]] = {
    4: {"batch": 0, "height": 2, "width": 3},
    5: {"batch": 0, "depth": 2, "height": 3, "width": 4},
}
"""Rank of an input -> its named axes: (N, C, H, W) and (N, C, D, H, W). Other ranks have batch alone. `time` (or
`length`) of a 3-D input is axis 2 or 1, for (N, C, T) or (N, T, C)."""
TIME = ("time", "length")
NAMES = ("batch", *TIME, "depth", "height", "width")
LARGEST_STEP = 32


def parsed(asked: RequestedAxes) -> tuple[list[str], dict[str, dict[int, str]]]:
    """Parse axis names, and axis numbers per input with their labels ("" without one).

    asked : names and `INPUT:AXES`, as in ["batch", "x:2", "3"] or "x:2,3"; or a mapping of inputs to axes, or to
    axes with their names.
    Raises InputError for anything else.
    """
    if isinstance(asked, Mapping):
        pairs = {name: dict(a) if isinstance(a, Mapping) else dict.fromkeys(a, "") for name, a in asked.items()}
        wrong = [f"{name}: {axes}" for name, axes in pairs.items() if not all(type(axis) is int for axis in axes)]
        if wrong:
            raise InputError(f"dynamic axes are whole numbers; got {', '.join(wrong)}")
        return [], pairs
    names: list[str] = []
    numbers: dict[str, dict[int, str]] = {}
    current: str | None = None
    for part in (part.strip() for text in ([asked] if isinstance(asked, str) else asked) for part in text.split(",")):
        name, colon, axis = part.rpartition(":")
        current = name.strip() if colon else current if _is_number(part) else None
        if current is not None and _is_number(axis):
            numbers.setdefault(current, {})[int(axis)] = ""
        elif part in NAMES:
            names.append(part)
        elif part:
            raise InputError(
                f"cannot make {part!r} dynamic; the axes are {', '.join(NAMES)}, "
                "or INPUT:AXES for any axis of an input, as x:0,2"
            )
    return names, numbers


def resolved(asked: RequestedAxes, tensors: Mapping[str, Tensor], runs: Callable[[InputSizes], bool]) -> DynamicAxes:
    """Resolve `asked` to axes of these inputs.

    runs : tests whether the model runs at other sizes. Used only if `time` may be one of two axes.
    Raises InputError for a name that no input has, and for an unknown axis or input.
    """
    names, numbers = parsed(asked)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    axes: DynamicAxes = {name: {} for name in shapes}
    for name in names:
        of = {given: _axis(name, given, shapes, runs) for given in shapes}
        if all(axis is None for axis in of.values()):
            raise InputError(f"no input has an axis {name}: {_ranks(shapes)}\n{_by_number(shapes)}")
        for given, axis in of.items():
            if axis is not None:
                axes[given][axis] = "time" if name in TIME else name
    for given, of_input in numbers.items():
        if given not in shapes:
            raise InputError(f"there is no input {given!r} to make dynamic; the inputs are {', '.join(shapes)}")
        rank = len(shapes[given])
        for number, label in of_input.items():
            axis = number + rank if number < 0 else number
            if not 0 <= axis < rank:
                raise InputError(f"input {given!r} has no axis {number}: {_ranks({given: shapes[given]})}")
            known = {axis: name for name, axis in _named(rank).items()}
            axes[given][axis] = label or known.get(axis) or f"{given}_{axis}"
    return _one_name_for_one_size(axes, shapes)


def other_sizes(axes: DynamicAxes, tensors: Mapping[str, Tensor]) -> Iterator[InputSizes]:
    """Larger sizes for trials, the likeliest first.

    The batch grows by one, other axes by steps for networks with strides: powers of two that divide the size. Height
    and width differ. Inputs keep the ratio of their sizes.
    """
    for factor in (1, 2, 4):
        yield _changed(axes, tensors, partial(_larger, factor=factor))


def odd_sizes(axes: DynamicAxes, tensors: Mapping[str, Tensor]) -> Iterator[tuple[int, InputSizes]]:
    """Sizes that are odd multiples of a step, with other remainders than the example and `other_sizes`.

    The step is 1 first, then a power of two for networks with strides. The batch is 1, or 3 if the example has 1.
    """
    for step in (1, 2, 4, 8, 16) if any(axis for of_input in axes.values() for axis in of_input) else (1,):
        yield step, _changed(axes, tensors, partial(_odd, step=step))


def shown(sizes: InputSizes) -> str:
    """Sizes as text: `x (1, 3, 65, 67), mask (1, 65)`."""
    return ", ".join(f"{name} {size}" for name, size in sizes.items())


def _changed(
    axes: DynamicAxes, tensors: Mapping[str, Tensor], change: Callable[[Sequence[int], int], int]
) -> InputSizes:
    """Sizes after `change(size, axis)` of each dynamic axis, in order; `size` has the earlier changes."""
    changed: dict[str, tuple[int, int]] = {}
    sizes: InputSizes = {}
    for given, tensor in tensors.items():
        size = list(tensor.shape)
        for axis, name in sorted(axes[given].items()):
            group = name.removesuffix(f"_{given}")
            old, new = changed.setdefault(group, (size[axis], change(size, axis)))
            whole = old and size[axis] * new % old == 0
            size[axis] = size[axis] * new // old if whole else max(size[axis] + new - old, 1)
        sizes[given] = tuple(size)
    return sizes


def _larger(size: Sequence[int], axis: int, factor: int) -> int:
    if axis == 0:
        return size[0] + 1
    step = factor * gcd(size[axis], LARGEST_STEP)
    return size[axis] + (2 * step if size[axis] + step in size[1:axis] else step)


def _odd(size: Sequence[int], axis: int, step: int) -> int:
    if axis == 0:
        return 3 if size[0] == 1 else 1
    new = step * (-(-size[axis] // step) | 1)
    while new in size[1 : axis + 1]:
        new += 2 * step
    return new


def _axis(name: str, given: str, shapes: InputSizes, runs: Callable[[InputSizes], bool]) -> int | None:
    """Axis of an input with that name, or None."""
    shape = shapes[given]
    if name in TIME:
        return _time_axis(name, given, shapes, runs) if len(shape) == 3 else None
    if name == "batch":  # a table of another length beside the images is no batch
        first = next((s[0] for s in shapes.values() if s), None)
        return 0 if shape and shape[0] == first else None
    return _named(len(shape)).get(name)


def _time_axis(name: str, given: str, shapes: InputSizes, runs: Callable[[InputSizes], bool]) -> int:
    """The axis that the model accepts at another size; weights fix the number of channels."""

    def longer(axis: int) -> InputSizes:
        return {
            n: tuple(d + (i == axis and len(s) == 3) * gcd(d, LARGEST_STEP) for i, d in enumerate(s))
            for n, s in shapes.items()
        }

    free = [axis for axis in (2, 1) if runs(longer(axis))]
    if len(free) == 1:
        return free[0]
    why = "the model takes other sizes of both" if free else "the model takes another size of neither"
    raise InputError(
        f"{name} may be axis 1 or axis 2 of {given!r} {shapes[given]}, and {why}\n"
        f"{_by_number({given: shapes[given]})}"
    )


def _named(rank: int) -> dict[str, int]:
    return BY_RANK.get(rank, {"batch": 0} if rank else {})


def _ranks(shapes: InputSizes) -> str:
    of = {3: "batch and time"}
    return "; ".join(
        f"{name!r} is {len(s)}-D {s}, which has {of.get(len(s)) or ', '.join(_named(len(s))) or 'no named axis'}"
        for name, s in shapes.items()
    )


def _by_number(shapes: InputSizes) -> str:
    shown = [f"{name}:{axis}" for name, s in shapes.items() for axis in range(1, len(s))]
    return f"say the axis by its number: --dynamic {' or '.join(shown[:6] or ['x:0'])}"


def _one_name_for_one_size(axes: DynamicAxes, shapes: InputSizes) -> DynamicAxes:
    """Rename a dimension with a second size: dimensions of one name are equal in a file."""
    sizes: dict[str, int] = {}
    for given, of_input in axes.items():
        for axis, name in of_input.items():
            size = shapes[given][axis]
            if sizes.setdefault(name, size) != size:
                of_input[axis] = f"{name}_{given}"
    return axes


def _is_number(text: str) -> bool:
    return text.strip().removeprefix("-").isdigit()
