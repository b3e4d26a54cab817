"""Valid ranges of integer inputs, from the axes that they index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from simam_deploy.graph.shapes import Dims, Shapes

Range = tuple[int, int]
"""The smallest and the largest value."""
NUMBERS = (-1000, 1000)
"""For 32- and 64-bit integers with a cast to float as only use: wider than a pixel, a sign or a byte."""
_INDICES = {
    ("", "Gather"): {1: 0},
    ("", "GatherElements"): {1: 0},
    ("", "GatherND"): {1: 0},
    ("", "Scatter"): {1: 0},
    ("", "ScatterElements"): {1: 0},
    ("", "ScatterND"): {1: 0},
    ("", "OneHot"): {0: 1},
    ("com.microsoft", "EmbedLayerNormalization"): {0: 2, 1: 4},
}
"""Per operator: index input -> input that it indexes. For OneHot, the depth."""
_ALL_AXES = ("GatherND", "ScatterND")
_PASSING = (
    *("Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Expand", "Tile", "Slice", "Split"),
    *("Gather", "GatherElements", "GatherND"),
)
"""Operators that pass on values of their first input."""
_UNARY = ("Identity", "Cast", "CastLike", "DequantizeLinear", "QuantizeLinear", "Relu", "Neg", "Tanh", "Sigmoid")
"""Operators whose result has the shape of their first input."""


@dataclass(frozen=True)
class _Use:
    """A node input that receives a value of the graph input, plus a constant between least and most."""

    node: ir.Node
    at: int
    least: int = 0
    most: int = 0


def ranges(model: onnx.ModelProto) -> dict[str, Range]:
    """Range of each integer input, by name, where the graph determines it.

    An index has the range of the axis, also behind reshapes, slices and an added constant, and in functions; 0 and 1
    if the size is unknown. A mask (used as 1 - x) has 0 and 1. A 32- or 64-bit integer with a cast to float as only
    use has NUMBERS. Leaves out all others.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    whole = {v.name for v in model.graph.input if _is_integer(v.type.tensor_type.elem_type)} - weights
    if not whole:
        return {}
    graph = _Graph(ir.from_proto(model))
    found = {str(v.name): graph.range(v) for v in graph.model.graph.inputs if v.name in whole}
    return {name: limits for name, limits in found.items() if limits is not None}


def _is_integer(dtype: int) -> bool:
    return dtype in ir.DataType.__members__.values() and ir.DataType(dtype).is_integer()


class _Graph:
    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self._shapes = Shapes(model)
        self._outer: dict[ir.Value, ir.Value | None] = {}
        """Input of a function -> argument of a call."""

    def range(self, value: ir.Value) -> Range | None:
        lows, highs, others = [], [], False
        become = []
        for use in self._uses(value):
            into = _INDICES.get((use.node.domain, use.node.op_type), {}).get(use.at)
            if into is not None:
                size = self._size(use.node, into)
                lows.append(-use.least)
                highs.append((2 if size is None else size) - 1 - use.most)
            elif use.node.op_type == "Cast" and not use.node.domain:
                become.append(use.node.outputs[0])
            else:
                others = True
        if lows:
            return max(lows), min(highs)
        if others or not become or (value.dtype is not None and value.dtype.bitwidth < 32):
            return None
        return (0, 1) if all(map(_is_mask, become)) else NUMBERS

    def _uses(self, value: ir.Value) -> list[_Use]:
        """Final uses of the values of `value`, each once, across operators that pass them on."""
        ends: list[_Use] = []
        seen: set[tuple[ir.Value, int, int]] = set()
        queue = [(value, 0, 0)]
        while queue:
            held = queue.pop()
            if held in seen or len(seen) > 10_000:
                continue
            seen.add(held)
            value, least, most = held
            for node, at in value.uses():
                function = self.model.functions.get(node.op_identifier())
                added = _added(node, at)
                if function is not None and at < len(function.inputs):
                    self._outer.update(zip(function.inputs, node.inputs, strict=False))
                    queue.append((function.inputs[at], least, most))
                elif not node.domain and (_passes(node, at) or _is_cast_to_integer(node)):
                    queue += [(output, least, most) for output in node.outputs]
                elif added is not None:
                    queue.append((node.outputs[0], least + added[0], most + added[1]))
                else:
                    ends.append(_Use(node, at, least, most))
        return ends

    def _size(self, node: ir.Node, into: int) -> int | None:
        """Size of the indexed axis, the smallest of several; None if unknown."""
        data = node.inputs[into] if into < len(node.inputs) else None
        if data is None:
            return None
        if node.op_type == "OneHot":
            depth = _constant(data)
            return None if depth is None or depth.size != 1 else int(depth.reshape(()))
        shape = self._shape(data)
        if not shape:
            return None
        first = node.attributes.get_int("batch_dims", 0) if node.op_type in _ALL_AXES else 0
        axis = node.attributes.get_int("axis", 0)
        sizes: Any = shape[first:]
        if node.op_type in _ALL_AXES:
            index = self._shape(node.inputs[1]) if node.inputs[1] is not None else None
            if index and isinstance(index[-1], int):
                sizes = sizes[: index[-1]]
        elif -len(shape) <= axis < len(shape):
            sizes = [shape[axis]]
        return min(sizes) if sizes and all(isinstance(size, int) for size in sizes) else None

    def _shape(self, value: ir.Value) -> Dims | None:
        while True:
            tensor = ir.convenience.get_const_tensor(value)
            if tensor is not None:
                return tuple(d if isinstance(d, int) else None for d in tensor.shape)
            node = value.producer()
            if value in self._outer and (outer := self._outer[value]) is not None:
                value = outer
            elif node is not None and node.op_type in _UNARY and node.inputs and node.inputs[0] is not None:
                value = node.inputs[0]
            else:
                return self._shapes.declared(value)


def _constant(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None or isinstance(tensor, ir.ExternalTensor) else tensor.numpy()


def _added(node: ir.Node, at: int) -> Range | None:
    """Range that a node adds to its input `at`; None for other nodes."""
    if node.domain or node.op_type not in ("Add", "Sub") or (node.op_type == "Sub" and at):
        return None
    constant = _constant(node.inputs[1 - at])
    if constant is None or not constant.size:
        return None
    least, most = int(constant.min()), int(constant.max())
    return (least, most) if node.op_type == "Add" else (-most, -least)


def _passes(node: ir.Node, at: int) -> bool:
    """Whether the node passes on values of its input `at`."""
    return node.op_type == "Concat" or (at == 0 and node.op_type in _PASSING) or (at > 0 and node.op_type == "Where")


def _is_cast_to_integer(node: ir.Node) -> bool:
    return node.op_type == "Cast" and _is_integer(node.attributes.get_int("to", 0))


def _is_mask(value: ir.Value) -> bool:
    """Whether 1 - x is its only use."""
    ones = [_constant(node.inputs[0]) for node, at in value.uses() if node.op_type == "Sub" and at == 1]
    return len(ones) == len(value.uses()) > 0 and all(one is not None and (one == 1).all() for one in ones)
