"""The sizes that an engine of a model is built for: those that were asked for, checked, and those the file tells."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import onnx
import onnx_ir as ir

from simam_deploy.artifacts import manifest
from simam_deploy.engines.profile_check import check
from simam_deploy.engines.shape_ranges import Given, ShapeRange, no_input, parse_shapes, shape_range, written
from simam_deploy.errors import InputError
from simam_deploy.graph.shapes import Dims, StaticShape

WantedShapes = Mapping[str, Given] | Iterable[str]
"""By input name; or texts, as in shape_ranges."""
Profiles = dict[str, ShapeRange]
"""By input name, for the inputs with a dynamic size."""
LIKELY = 224
"""Side of a map in the example of an error."""


def profiles_of(model: onnx.ModelProto, graph: ir.Model, wanted: WantedShapes | None) -> tuple[Profiles, list[str]]:
    """The range of each input with a dynamic size, checked against the network, and notes.

    graph : the same model.
    An input without a shape has, for each axis, the size of the axis of that name in another input, or that of the
    example which the model was exported with; a note says so.
    Raises InputError: as parse_shapes and check do, a shape that contradicts the file, a size that nothing tells.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: _dims(value) for value in model.graph.input if value.name not in weights}
    ranges = _ranges(wanted or (), list(inputs))
    dynamic = {name for name, dims in inputs.items() if any(not isinstance(size, int) for size in dims)}
    for name, shape in ranges.items():
        _refuse_other(name, inputs[name], shape)
    example = _example({entry.key: entry.value for entry in model.metadata_props}, inputs)
    notes = []
    for name in inputs:
        if name in dynamic and name not in ranges:
            ranges[name], note = _from_file(name, inputs, ranges, example.get(name, ()))
            notes.append(note)
    profiles = {name: ranges[name] for name in inputs if name in dynamic}
    return profiles, [*notes, *check(graph, profiles, inputs)]


def _ranges(wanted: WantedShapes, names: list[str]) -> dict[str, ShapeRange]:
    if isinstance(wanted, str):
        wanted = [wanted]
    if not isinstance(wanted, Mapping):
        return parse_shapes(wanted, names)
    for name in wanted:
        if name not in names:
            raise no_input(name, names)
    return {name: shape_range(name, given) for name, given in wanted.items()}


def _dims(value: onnx.ValueInfoProto) -> Dims:
    """Sizes in the file: a number, a name or None."""
    kind = value.type.tensor_type
    if value.type.HasField("tensor_type") and not kind.HasField("shape"):
        raise InputError(
            f"input {value.name!r} has no shape in the file, so TensorRT would take it for one number; "
            "export the model with a shape for it, whose sizes may be dynamic"
        )
    return tuple(dim.dim_param or (dim.dim_value if dim.dim_value > 0 else None) for dim in kind.shape.dim)


def _refuse_other(name: str, dims: Dims, shape: ShapeRange) -> None:
    for part in shape:
        fits = (not isinstance(size, int) or size == got for size, got in zip(dims, part, strict=False))
        if len(part) != len(dims) or not all(fits):
            raise InputError(f"input {name!r} is {_words(dims)} in the file; {shape} contradicts it")


def _example(properties: Mapping[str, str], inputs: Mapping[str, Dims]) -> dict[str, StaticShape]:
    """The shapes that the model was exported with, by input, as our export or that of Ultralytics tells them."""
    told = manifest.example(properties)
    pictures = [name for name, dims in inputs.items() if len(dims) == 4]
    try:
        batch, sides = (json.loads(properties[key]) for key in ("batch", "imgsz"))
        shape = (batch, inputs[pictures[0]][1], *sides)
    except (IndexError, KeyError, RecursionError, TypeError, ValueError):
        return told
    if len(pictures) == 1 and len(shape) == 4 and all(type(size) is int and size > 0 for size in shape):
        told.setdefault(pictures[0], shape)
    return told


def _from_file(
    name: str, inputs: Mapping[str, Dims], ranges: Mapping[str, ShapeRange], example: StaticShape
) -> tuple[ShapeRange, str]:
    """The range of an input that nobody gave a shape, and a note."""
    named = {
        dim: (sizes, f"as the axes of that name in {other!r}")
        for other, shape in reversed(list(ranges.items()))
        for dim, sizes in zip(inputs[other], zip(*shape, strict=True), strict=True)
        if isinstance(dim, str)
    }
    dims = inputs[name]
    chosen: list[tuple[int, ...]] = []
    sources: dict[str, None] = {}
    for axis, dim in enumerate(dims):
        if isinstance(dim, int):
            chosen.append((dim,) * 3)
            continue
        if dim in named:
            sizes, source = named[dim]
        elif len(example) == len(dims):
            sizes, source = (example[axis],) * 3, "the size that the model was exported with"
        else:
            raise _untold(name, dims)
        chosen.append(sizes)
        sources[source] = None
    shape = ShapeRange(*zip(*chosen, strict=True))
    return shape, f"built for {name}:{shape}, {' and '.join(sources)}; --shapes {name}:MIN..MAX gives other sizes"


def _untold(name: str, dims: Dims) -> InputError:
    like = written([size if isinstance(size, int) else LIKELY if axis else 1 for axis, size in enumerate(dims)])
    return InputError(
        f"input {name!r} is {_words(dims)}, and an engine needs sizes; give them with --shapes {name}:{like} or, "
        f"for a range, --shapes {name}:MIN..OPT..MAX"
    )


def _words(dims: Dims) -> str:
    return written([size or "?" for size in dims])
