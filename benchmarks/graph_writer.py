"""A graph written node by node, as no exporter writes it: for the benchmark and the tests of what reads it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


class GraphWriter:
    """Collects nodes in `nodes` and constants in `weights`; names are the kind and a number."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node; the name of its output."""
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def constant(self, value: object, dtype: type = np.float32) -> str:
        """Append an initialiser; its name."""
        self.weights.append(numpy_helper.from_array(np.array(value, dtype=dtype), f"w{len(self.weights)}"))
        return self.weights[-1].name
