"""A SimAM graph with one thing changed: a constant, an axis, an operator or an input; over all of its nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

OTHER_OPERATORS = {
    "Mul": ["Add", "Sub", "Div", "Max"],
    "Add": ["Sub", "Mul"],
    "Sub": ["Add", "Mul"],
    "Div": ["Mul", "Sub"],
    "ReduceMean": ["ReduceSum", "ReduceMax", "ReduceL2"],
    "ReduceSum": ["ReduceMean", "ReduceMax", "ReduceL1"],
    "ReduceSumSquare": ["ReduceSum", "ReduceL2"],
    "Sigmoid": ["Tanh", "HardSigmoid", "Softplus", "Exp"],
    "Tanh": ["Sigmoid", "Atan", "Softsign"],
    "Sqrt": ["Exp", "Abs"],
    "Reciprocal": ["Neg", "Sqrt"],
    "Exp": ["Softplus", "Abs"],
    "Neg": ["Abs", "Reciprocal"],
    "InstanceNormalization": [],
}
"""Operators that take the same inputs."""


def mutants(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.ModelProto]]:
    """(what was changed, the changed model), many of which are not valid."""
    for mutate in (_constants, _attributes, _operators, _swaps, _shortcuts, _rewired):
        for name, change in mutate(model):
            copy = onnx.ModelProto()
            copy.CopyFrom(model)
            change(copy)
            yield name, copy


Changes = Iterator[tuple[str, Callable[[onnx.ModelProto], object]]]


def _constants(model: onnx.ModelProto) -> Changes:
    for i, tensor in enumerate(model.graph.initializer):
        for what, values in _other_values(numpy_helper.to_array(tensor)):

            def put(copy: onnx.ModelProto, i: int = i, values: np.ndarray = values) -> None:
                copy.graph.initializer[i].CopyFrom(numpy_helper.from_array(values, copy.graph.initializer[i].name))

            yield f"{tensor.name} {what}", put
    for i, node in enumerate(model.graph.node):
        if node.op_type not in ("Constant", "ConstantOfShape") or not node.attribute:
            continue
        for what, values in _other_values(numpy_helper.to_array(node.attribute[0].t)):

            def put_node(copy: onnx.ModelProto, i: int = i, values: np.ndarray = values) -> None:
                copy.graph.node[i].attribute[0].t.CopyFrom(numpy_helper.from_array(values))

            yield f"{node.output[0]} {what}", put_node


def _other_values(a: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    if a.dtype.kind == "f":
        for what, b in (("x 1.01", a * 1.01), ("+ 1", a + 1), ("x -1", -a), ("= 0", 0 * a), ("x 2", a * 2)):
            if not np.array_equal(b, a):
                yield what, b.astype(a.dtype)
        if a.size > 1 and a.ndim:
            b = a.copy()
            b.flat[-1] = b.flat[-1] * 1.5 + 0.1
            yield "last element", b
    elif a.dtype.kind == "i":
        flat = a.reshape(-1)
        for k in range(min(flat.size, 4)):
            for step in (1, -1):
                b = a.copy()
                b.reshape(-1)[k] += step
                yield f"[{k}] {step:+}", b
        if a.ndim == 1 and a.size > 1:
            yield "first dropped", a[1:].copy()
            yield "last dropped", a[:-1].copy()
            yield "reversed", a[::-1].copy()
        if a.ndim == 1 and set(flat.tolist()) in ({2, 3}, {-1, -2}):
            yield "with channels", np.array([1, 2, 3], a.dtype)
            yield "with the batch", np.array([0, 2, 3], a.dtype)


def _attributes(model: onnx.ModelProto) -> Changes:
    for i, node in enumerate(model.graph.node):
        for k, attribute in enumerate(node.attribute):
            for what, other in _other_attributes(attribute):

                def put(copy: onnx.ModelProto, i: int = i, k: int = k, other: AttributeProto = other) -> None:
                    copy.graph.node[i].attribute[k].CopyFrom(other)

                yield f"{node.op_type} {node.output[0]} {attribute.name} {what}", put


def _other_attributes(attribute: AttributeProto) -> Iterator[tuple[str, AttributeProto]]:
    def made(value: object) -> AttributeProto:
        return helper.make_attribute(attribute.name, value)

    if attribute.type == AttributeProto.FLOAT:
        for factor in (1.01, 2, 100):
            yield f"x {factor}", made(attribute.f * factor)
    elif attribute.type == AttributeProto.INT and attribute.name != "to":
        yield "flipped", made(1 - attribute.i)
    elif attribute.type == AttributeProto.INTS:
        for what, values in _other_values(np.array(attribute.ints)):
            if len(values):
                yield what, made(values.tolist())


def _operators(model: onnx.ModelProto) -> Changes:
    for i, node in enumerate(model.graph.node):
        for other in OTHER_OPERATORS.get(node.op_type, []):

            def put(copy: onnx.ModelProto, i: int = i, other: str = other) -> None:
                copy.graph.node[i].op_type = other

            yield f"{node.op_type} {node.output[0]} -> {other}", put


def _swaps(model: onnx.ModelProto) -> Changes:
    for i, node in enumerate(model.graph.node):
        if len(node.input) == 2 and node.op_type in ("Sub", "Div", "Pow", "Mul", "Add", "MatMul"):

            def put(copy: onnx.ModelProto, i: int = i) -> None:
                copy.graph.node[i].input[:] = list(copy.graph.node[i].input)[::-1]

            yield f"{node.op_type} {node.output[0]} inputs swapped", put


def _shortcuts(model: onnx.ModelProto) -> Changes:
    """Each node gives its input on, negated or not."""
    for i, node in enumerate(model.graph.node):
        if node.input:
            for other in ("Identity", "Neg"):

                def put(copy: onnx.ModelProto, i: int = i, other: str = other) -> None:
                    old = copy.graph.node[i]
                    copy.graph.node[i].CopyFrom(
                        NodeProto(op_type=other, name=old.name, input=old.input[:1], output=old.output)
                    )

                yield f"{node.op_type} {node.output[0]} -> {other}", put


def _rewired(model: onnx.ModelProto) -> Changes:
    """Each input of floats becomes another value of its shape that is there already, three choices each."""
    inferred = onnx.shape_inference.infer_shapes(model)
    kinds = {}
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        tensor = value.type.tensor_type
        kinds[value.name] = (tensor.elem_type, tuple(str(d.dim_value or d.dim_param) for d in tensor.shape.dim))
    for tensor in model.graph.initializer:
        kinds[tensor.name] = (tensor.data_type, tuple(map(str, tensor.dims)))
    there = [v.name for v in (*model.graph.input, *model.graph.initializer)]
    for i, node in enumerate(model.graph.node):
        for k, name in enumerate(node.input):
            kind = kinds.get(name)
            if kind is not None and kind[0] in (TensorProto.FLOAT, TensorProto.FLOAT16):
                for other in [o for o in there if o != name and kinds.get(o) == kind][-3:]:

                    def put(copy: onnx.ModelProto, i: int = i, k: int = k, other: str = other) -> None:
                        copy.graph.node[i].input[k] = other

                    yield f"{node.op_type} {node.output[0]} input {k} -> {other}", put
        there += node.output
