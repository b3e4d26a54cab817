"""Shape inference with evaluated size arithmetic, for an ONNX graph with fixed input sizes.

onnx's own inference stops at a size computed by operators that it does not evaluate (Slice, Mod, Where, ... between a
Shape and a Reshape). Exporters write those for view, chunk, flatten and unflatten.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, TypeProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.shape_inference import InferenceError, infer_node_outputs

from simam_deploy.graph.shapes.calls import body_of, functions_of, identifier
from simam_deploy.graph.shapes.ort_ops import is_range
from simam_deploy.graph.shapes.types import StaticShape

MOST_VALUES = 64
"""Upper bound on a tensor that is evaluated. Sizes and axes are a few numbers."""
_MOST_BYTES = 2**16
"""Upper bound on a node that is evaluated."""
MOST_INSIDE = 5_000
"""Upper bound on the nodes visited in bodies of functions, over all calls."""
MOST_LEVELS = 100
"""Upper bound on nested function calls."""
_OPERATORS = """Abs Add And Cast CastLike Ceil Clip Concat Constant ConstantOfShape CumSum Div Equal Expand Flatten
    Floor Gather GatherElements GatherND Greater GreaterOrEqual Identity Less LessOrEqual Max Min Mod Mul Neg Not Or
    Pow Range Reciprocal ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Reshape Round Scatter ScatterElements
    ScatterND Sign Slice Split Sqrt Squeeze Sub Sum Tile Transpose Unsqueeze Where Xor"""
FOLLOWED = frozenset(_OPERATORS.split())
"""Operators with which exporters compute sizes. Their cost is bounded by their inputs and outputs."""
LIKE_X = ("GroupNormalization", "MeanVarianceNormalization")
"""Operators that onnx defines by function bodies. Their output has the shape of x."""


class Refusal(NamedTuple):
    """A node that cannot take inputs of these shapes."""

    node: str
    op: str
    inputs: tuple[StaticShape, ...]
    reason: str

    @classmethod
    def of(cls, node: onnx.NodeProto, inputs: Iterable[StaticShape], reason: str) -> Refusal:
        """The refusal of `node`, by its name or that of its first output."""
        return cls(node.name or first_output(node), node.op_type, tuple(inputs), reason)


def first_output(node: onnx.NodeProto) -> str:
    """Name of the first output; empty without one."""
    return next(filter(None, node.output), "")


def propagate(model: onnx.ModelProto, levels: int = MOST_LEVELS) -> dict[str, tuple[int, StaticShape]]:
    """Types and shapes of `propagate_with_refusals`."""
    return propagate_with_refusals(model, levels)[0]


def propagate_with_refusals(
    model: onnx.ModelProto, levels: int = MOST_LEVELS
) -> tuple[dict[str, tuple[int, StaticShape]], dict[str, Refusal]]:
    """Element type and shape of every value of the main graph with a fully known shape, by name; refusals.

    model : after onnx's inference; weights may be left out. Skips nodes that cannot be inferred. A node refuses if
    onnx's inference does, inside a called function too; by the name of the first output in the main graph.
    levels : upper bound on nested function calls. With 0, the outputs of a call are unknown.
    """
    walk = _Walk(model, levels)
    for node in model.graph.node:
        walk.step(node)
    return {name: known for name, kind in walk.types.items() if (known := _known(kind)) is not None}, walk.refused


class _Walk:
    def __init__(
        self, model: onnx.ModelProto, levels: int = MOST_LEVELS, inside: Iterator[int] | None = None
    ) -> None:
        """inside : one item for each node that may still be visited in bodies of functions."""
        graph = model.graph
        self._inside = iter(range(MOST_INSIDE)) if inside is None else inside
        self._levels = levels
        self._functions = functions_of(model) if levels else {}
        self._opsets = {entry.domain: entry.version for entry in model.opset_import}
        self._imports = list(model.opset_import)
        infos = (*graph.input, *graph.value_info, *graph.output)
        self.types = {info.name: info.type for info in infos if _known(info.type) is not None}
        self.refused: dict[str, Refusal] = {}
        self._values: dict[str, NDArray[Any]] = {}
        for tensor in graph.initializer:
            self.types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
            self._keep(tensor.name, tensor)

    def step(self, node: onnx.NodeProto) -> None:
        """Infer the types and values of the outputs of `node`."""
        if identifier(node) in self._functions:
            self._call(node)
            return
        if node.domain or any(a.HasField("g") or a.ref_attr_name for a in node.attribute):
            return
        measures = node.op_type in ("Shape", "Size")
        followed = (node.op_type in FOLLOWED or is_range(node)) and all(
            name in self._values for name in node.input if name
        )
        if not followed and all(name in self.types for name in node.output if name) and not measures:
            return
        inferred = self._infer(node)
        self.types.update((name, kind) for name, kind in inferred.items() if name not in self.types)
        if measures:
            self._measure(node)
        elif followed and all(_is_small(inferred.get(name)) for name in node.output if name):  # not: declared so
            self._values.update(zip(node.output, self._evaluate(node), strict=False))

    def _call(self, node: onnx.NodeProto) -> None:
        """Infer through the body of the function that `node` calls."""
        names = [name for name in node.input if name]
        if any(name not in self.types for name in names) or all(name in self.types for name in node.output if name):
            return
        held = {n: numpy_helper.from_array(self._values[n], n) for n in names if n in self._values}
        body = body_of(self._functions, node, {name: self.types[name] for name in names} | held)
        if sum(1 for _ in islice(self._inside, len(body.graph.node))) < len(body.graph.node):
            return
        walk = _Walk(body, self._levels - 1, self._inside)
        for step in body.graph.node:
            walk.step(step)
        self.refused.update((first_output(node), refusal) for refusal in islice(walk.refused.values(), 1))
        for inner, name in zip(body.graph.output, node.output, strict=False):
            if name and inner.name in walk.types:
                self.types.setdefault(name, walk.types[inner.name])
                if inner.name in walk._values:
                    self._values[name] = walk._values[inner.name]

    def _infer(self, node: onnx.NodeProto) -> dict[str, TypeProto]:
        """Types of the outputs with fully known shapes."""
        names = [name for name in node.input if name]
        if any(name not in self.types for name in names):
            return {}
        if is_range(node):
            count, kind = self._count(node), self.types[names[0]].tensor_type.elem_type
            return {} if count is None else {node.output[0]: onnx.helper.make_tensor_type_proto(kind, [count])}
        try:
            schema = onnx.defs.get_schema(node.op_type, self._opsets.get("", 1))
            found = infer_node_outputs(
                schema,
                node,
                {name: self.types[name] for name in names},
                {n: numpy_helper.from_array(self._values[n], n) for n in names if n in self._values},
                opset_imports=self._imports,
            )
        except InferenceError as error:
            shapes = (known[1] for name in names if (known := _known(self.types[name])) is not None)
            self.refused[first_output(node)] = Refusal.of(node, shapes, str(error))
            return {}
        except Exception:  # of many types
            return {}
        whole = {name: kind for name, kind in found.items() if _known(kind) is not None}
        if node.op_type in LIKE_X and node.output[0] not in whole:
            whole[node.output[0]] = self.types[names[0]]
        return whole

    def _measure(self, node: onnx.NodeProto) -> None:
        known = _known(self.types[node.input[0]]) if node.input and node.input[0] in self.types else None
        if known is not None:
            self._values[node.output[0]] = _measured(node, known[1])

    def _count(self, node: onnx.NodeProto) -> int | None:
        """Length of a Range; None if unknown."""
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
        if is_range(node):
            count = self._count(node)
            first, _, step = (self._values.get(name, np.zeros(1)) for name in node.input)
            return [] if count is None else [first + step * np.arange(count, dtype=first.dtype)]
        if node.ByteSize() > _MOST_BYTES:
            return []
        if node.op_type == "Constant":  # by hand: a thousand of them differ
            (held,) = map(onnx.helper.get_attribute_value, node.attribute)
            return [numpy_helper.to_array(held) if isinstance(held, TensorProto) else _array(node.attribute[0])]
        alike = onnx.NodeProto(op_type=node.op_type, attribute=node.attribute)
        alike.input.extend(f"i{at}" if name else "" for at, name in enumerate(node.input))
        alike.output.extend(f"o{at}" if name else "" for at, name in enumerate(node.output))
        try:
            run = _operator(alike.SerializeToString(deterministic=True), self._opsets.get("", 1))
            with np.errstate(all="ignore"):
                results: Any = run.run(None, {f"i{at}": self._values[n] for at, n in enumerate(node.input) if n})
        except Exception:  # the evaluator raises many types
            return []
        made = iter(np.asarray(result) for result in results)
        return [next(made) if name else np.empty(0) for name in node.output]

    def _keep(self, name: str, tensor: TensorProto) -> None:
        if tensor.data_location != TensorProto.EXTERNAL and np.prod(tensor.dims) <= MOST_VALUES:
            self._values[name] = numpy_helper.to_array(tensor)


def _array(attribute: onnx.AttributeProto) -> NDArray[Any]:
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    return np.array(onnx.helper.get_attribute_value(attribute), dtype=kinds.get(attribute.name, object))


@lru_cache(maxsize=512)
def _operator(node: bytes, opset: int) -> ReferenceEvaluator:
    """An evaluator for one node. Cached: making it takes longer than a run."""
    proto = onnx.NodeProto.FromString(node)
    graph = onnx.GraphProto(node=[proto], name="node")  # a bare node would get the newest opset
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in proto.input if name)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in proto.output if name)
    imports = [onnx.helper.make_opsetid("", opset)]
    return ReferenceEvaluator(onnx.ModelProto(ir_version=10, graph=graph, opset_import=imports))


def _is_small(kind: TypeProto | None) -> bool:
    known = None if kind is None else _known(kind)
    return known is not None and math.prod(known[1]) <= MOST_VALUES


def _measured(node: onnx.NodeProto, shape: StaticShape) -> NDArray[Any]:
    if node.op_type == "Size":
        return np.array(np.prod(shape), dtype=np.int64)
    given = {attribute.name: attribute.i for attribute in node.attribute}
    return np.array(shape[given.get("start") : given.get("end")], dtype=np.int64)


def _known(kind: TypeProto) -> tuple[int, StaticShape] | None:
    tensor = kind.tensor_type
    if not tensor.HasField("shape") or any(not dim.HasField("dim_value") for dim in tensor.shape.dim):
        return None
    return tensor.elem_type, tuple(dim.dim_value for dim in tensor.shape.dim)
