"""Shapes and types of every value of an ONNX model, as declared, or inferred for input sizes of our choice."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import onnx
import onnx_ir as ir

Dims = tuple[int | str | None, ...]
_TRIALS = ((64, 96), (96, 64), (71, 57), (224, 160))
"""Sizes for dynamic dimensions behind the first, in turn. Two are multiples of 32, which most networks need; an odd
one shows rounding, where a network takes it."""


class Shapes:
    """What is known of the sizes in a model. The model is not changed; inference runs when it is first needed."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model

    def declared(self, value: ir.Value) -> Dims | None:
        """Shape of `value` in the file or by inference: a number, a name or None per axis; None if unknown."""
        if value.shape is not None:
            return tuple(d if isinstance(d, int) else d.value for d in value.shape)
        found = self._inferred.get(value.name or "")
        return found[1] if found else None

    def dtype(self, value: ir.Value) -> ir.DataType:
        """Element type of `value`; FLOAT if even inference cannot tell."""
        if value.dtype is not None:
            return value.dtype
        found = self._inferred.get(value.name or "")
        return found[0] if found else ir.DataType.FLOAT

    def inside(self, function: ir.Function) -> list[dict[str, tuple[ir.DataType, Dims]]]:
        """For each call of `function`, the types and shapes of the values in its body, by name."""
        return []

    @cached_property
    def _inferred(self) -> dict[str, tuple[ir.DataType, Dims]]:
        return _infer(self._model, {})

    @cached_property
    def trials(self) -> list[dict[str, tuple[int, ...]]]:
        """Concrete shapes of the values, by name, at several sizes of the dynamic inputs (one, if all are fixed)."""
        found = []
        for sizes in _choices(self._model):
            try:
                inferred = _infer(self._model, sizes)
            except onnx.shape_inference.InferenceError:  # a size that this network does not take
                continue
            found.append(
                {
                    name: tuple(d for d in dims if isinstance(d, int))
                    for name, (_, dims) in inferred.items()
                    if all(isinstance(d, int) for d in dims)
                }
            )
        return found


def _choices(model: ir.Model) -> Iterator[dict[str, int]]:
    """Sizes for each dynamic dimension, by its key."""
    keys = [key for value in model.graph.inputs for key in _dynamic_keys(value)]
    if not keys:
        yield {}
        return
    for batch, (a, b) in zip((2, 5, 3, 4), _TRIALS, strict=True):
        sizes: dict[str, int] = {}
        later = 0
        for key, axis in keys:
            if key not in sizes:
                sizes[key] = batch if axis == 0 else (a, b)[later % 2]
                later += axis != 0
        yield sizes


def _dynamic_keys(value: ir.Value) -> Iterator[tuple[str, int]]:
    for axis, dim in enumerate(value.shape or ()):
        if not isinstance(dim, int):
            yield dim.value or f"{value.name}[{axis}]", axis


def _infer(model: ir.Model, sizes: dict[str, int]) -> dict[str, tuple[ir.DataType, Dims]]:
    """onnx shape inference on a copy without weights; with `sizes`, strictly and with those sizes put in."""
    copy = model.clone()
    graph = copy.graph
    for value in graph.initializers.values():
        if value.const_value is not None and value.const_value.nbytes > 1024:
            value.type = ir.TensorType(value.const_value.dtype)
            value.shape = ir.Shape(value.const_value.shape.numpy())
    weights = [v for v in graph.initializers.values() if v.const_value is not None and v.const_value.nbytes > 1024]
    for value in graph.inputs:
        if sizes and value.shape is not None:
            keys = dict((axis, key) for key, axis in _dynamic_keys(value))
            value.shape = ir.Shape([sizes[keys[a]] if a in keys else d for a, d in enumerate(value.shape)])
    if sizes:
        for node in graph.all_nodes():
            for value in node.outputs:
                value.shape = None
    for value in weights:
        graph.initializers.pop(str(value.name))
        if value not in graph.inputs:
            graph.inputs.append(value)
    proto = onnx.shape_inference.infer_shapes(ir.to_proto(copy), strict_mode=bool(sizes), data_prop=True)
    found = {}
    for info in (*proto.graph.input, *proto.graph.value_info, *proto.graph.output):
        tensor = info.type.tensor_type
        if tensor.HasField("shape"):
            dims = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim)
            found[info.name] = (ir.DataType(tensor.elem_type), dims)
    return found
