"""Builder of the nodes of one block: names them, and hides differences between opsets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

CONSTANTS_OF_ANY_TYPE = 9
"""The first opset with Constants of any type; before, floats only."""
Number = float | Sequence[int] | np.ndarray[Any, np.dtype[Any]]


class Writer:
    """Collects nodes in order, in `nodes`.

    prefix : precedes every name, with a slash, unless empty.  opset : of the default domain, from 7 on.
    """

    def __init__(self, prefix: str, opset: int) -> None:
        self.nodes: list[ir.Node] = []
        self._prefix = prefix
        self._opset = opset

    def op(self, kind: str, *inputs: ir.Value, name: str, domain: str = "", **attributes: Any) -> ir.Value:
        """Append a node called prefix/name; return its output, called the same."""
        node = ir.node(kind, inputs, attributes, domain=domain, name=self._full(name))
        node.outputs[0].name = node.name
        self.nodes.append(node)
        return node.outputs[0]

    def constant(self, value: Number, name: str, dtype: ir.DataType) -> ir.Value:
        """Append a Constant of that element type; before opset 9 it is cast to int64."""
        if dtype == ir.DataType.INT64 and self._opset < CONSTANTS_OF_ANY_TYPE:
            return self.op("Cast", self.constant(value, f"{name}_double", ir.DataType.DOUBLE), name=name, to=dtype)
        array = np.asarray(value, dtype=dtype.numpy())
        return self.op("Constant", name=name, value=ir.tensor(array, name=self._full(name)))

    def reduce(self, kind: str, x: ir.Value, axes: Sequence[int], name: str) -> ir.Value:
        """ReduceMean or ReduceSum over `axes`, keeping them as 1. They became an input in opset 18 and 13."""
        return self._over(axes, 13 if kind == "ReduceSum" else 18, kind, x, name=name, keepdims=1)

    def squeeze(self, kind: str, x: ir.Value, axes: Sequence[int], name: str) -> ir.Value:
        """Squeeze or Unsqueeze `axes`. They became an input in opset 13."""
        return self._over(axes, 13, kind, x, name=name)

    def _over(self, axes: Sequence[int], since: int, kind: str, x: ir.Value, *, name: str, **more: Any) -> ir.Value:
        """An operator whose axes are an attribute before opset `since`, and an input from there on."""
        if self._opset < since:
            return self.op(kind, x, name=name, axes=list(axes), **more)
        return self.op(kind, x, self.constant(axes, f"{name}_axes", ir.DataType.INT64), name=name, **more)

    def _full(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name
