"""Shapes of an ONNX graph whose inputs have fixed sizes, node by node, with the arithmetic on sizes really done.

onnx's own inference stops where a size goes through operators whose values it does not follow (Slice, Mod, Where, ...
in a chain from a Shape to a Reshape), as exporters write for view, chunk, flatten and unflatten; all behind is lost.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, TypeProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.shape_inference import InferenceError, infer_node_outputs

from simam_deploy.shapes.ort_ops import is_range

MOST_VALUES = 64
"""Of a tensor whose values are followed: sizes and axes are a handful of numbers."""
LIKE_X = ("GroupNormalization", "MeanVarianceNormalization")
"""onnx defines these by bodies, which this inference does not go into; they keep the shape of x."""
Sizes = tuple[int, ...]


def propagate(model: onnx.ModelProto) -> dict[str, tuple[int, Sizes]]:
    """Element type and shape of every value of the main graph that is known to the last number, by name.

    model : has been through onnx's inference; weights may be left out. Nodes that cannot be followed are passed over.
    """
    walk = _Walk(model)
    for node in model.graph.node:
        walk.step(node)
    return {name: known for name, kind in walk.types.items() if (known := _known(kind)) is not None}


class _Walk:
    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self._opsets = {entry.domain: entry.version for entry in model.opset_import}
        self._imports = list(model.opset_import)
        infos = (*graph.input, *graph.value_info, *graph.output)
        self.types = {info.name: info.type for info in infos if _known(info.type) is not None}
        self._values: dict[str, NDArray[Any]] = {}
        for tensor in graph.initializer:
            self.types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
            self._keep(tensor.name, tensor)

    def step(self, node: onnx.NodeProto) -> None:
        """Learn the types and values of what `node` makes, as far as they follow from what is known."""
        if node.domain or any(a.HasField("g") or a.ref_attr_name for a in node.attribute):
            return
        if any(name not in self.types for name in node.output if name):
            self._infer(node)
        made = [_known(self.types[name]) if name in self.types else None for name in node.output if name]
        if all(known is not None and math.prod(known[1]) <= MOST_VALUES for known in made):
            self._values.update(zip(node.output, self._evaluate(node), strict=False))

    def _infer(self, node: onnx.NodeProto) -> None:
        names = [name for name in node.input if name]
        if any(name not in self.types for name in names):
            return
        if is_range(node):
            if (count := self._count(node)) is not None:
                kind = self.types[names[0]].tensor_type.elem_type
                self.types[node.output[0]] = onnx.helper.make_tensor_type_proto(kind, [count])
            return
        try:
            schema = onnx.defs.get_schema(node.op_type, self._opsets.get("", 1))
            found = infer_node_outputs(
                schema,
                node,
                {name: self.types[name] for name in names},
                {n: numpy_helper.from_array(self._values[n], n) for n in names if n in self._values},
                opset_imports=self._imports,
            )
        except (InferenceError, onnx.checker.ValidationError, onnx.defs.SchemaError, RuntimeError, KeyError):
            return
        self.types.update((name, kind) for name, kind in found.items() if _known(kind) is not None)
        if node.op_type in LIKE_X and node.output[0] not in self.types:
            self.types[node.output[0]] = self.types[names[0]]

    def _count(self, node: onnx.NodeProto) -> int | None:
        """How many numbers a Range makes."""
        given = [self._values[name] for name in node.input if name in self._values]
        if len(given) != 3 or any(value.size != 1 for value in given):
            return None
        first, limit, step = (value.item() for value in given)
        try:
            count = max(0, int(-((first - limit) // step)))
        except (TypeError, ArithmeticError, ValueError):  # texts, a step of 0, infinities
            return None
        return count if count < 2**62 else None

    def _evaluate(self, node: onnx.NodeProto) -> list[NDArray[Any]]:
        if node.op_type in ("Shape", "Size"):
            known = _known(self.types[node.input[0]]) if node.input and node.input[0] in self.types else None
            return [] if known is None else [_measured(node, known[1])]
        if is_range(node):
            count = self._count(node)
            first, _, step = (self._values.get(name, np.zeros(1)) for name in node.input)
            return [] if count is None else [first + step * np.arange(count, dtype=first.dtype)]
        names = [name for name in node.input if name]
        if any(name not in self._values for name in names) or (not names and node.op_type != "Constant"):
            return []
        given = {name: self._values[name] for name in names}
        graph = onnx.GraphProto(node=[node], name="node")  # a node by itself would be taken for the newest opset's
        graph.input.extend(onnx.ValueInfoProto(name=name) for name in given)
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output)
        model = onnx.ModelProto(ir_version=10, graph=graph, opset_import=self._imports)
        try:
            with np.errstate(all="ignore"):
                results: Any = ReferenceEvaluator(model).run(None, given)
        except Exception:  # whatever the evaluator says of what it cannot do
            return []
        return [np.asarray(result) for result in results]

    def _keep(self, name: str, tensor: TensorProto) -> None:
        if tensor.data_location != TensorProto.EXTERNAL and np.prod(tensor.dims) <= MOST_VALUES:
            self._values[name] = numpy_helper.to_array(tensor)


def _measured(node: onnx.NodeProto, shape: Sizes) -> NDArray[Any]:
    if node.op_type == "Size":
        return np.array(np.prod(shape), dtype=np.int64)
    given = {attribute.name: attribute.i for attribute in node.attribute}
    return np.array(shape[given.get("start") : given.get("end")], dtype=np.int64)


def _known(kind: TypeProto) -> tuple[int, Sizes] | None:
    tensor = kind.tensor_type
    if not tensor.HasField("shape") or any(not dim.HasField("dim_value") for dim in tensor.shape.dim):
        return None
    return tensor.elem_type, tuple(dim.dim_value for dim in tensor.shape.dim)
