"""A piece of an ONNX graph, run by itself in float64 on the onnx reference evaluator."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from simam_deploy.errors import InputError
from simam_deploy.formula import OP_DOMAIN, OP_NAME, Float64
from simam_deploy.graph.evaluator import KERNELS, Array, evaluator
from simam_deploy.graph.shapes.propagate import propagate
from simam_deploy.graph.shapes.work import work_of
from simam_deploy.graph.to_float64 import widen
from simam_deploy.graph.traverse import say_defaults
from simam_deploy.match.dataflow import Flow, constant
from simam_deploy.match.op_sets import FLOATS, MEASURES
from simam_deploy.match.subgraph import MOST_AROUND, Cut

MOST_CONSTANTS = 2**24
"""Bytes: the constants of a SimAM block are a few numbers."""
MOST_VALUES = 2**23
"""Of a tensor inside a piece, on an x of half as many at most: the evaluator would take whatever a file asks for."""
MOST_NUMBERS = 2**20
"""Of a tensor that is computed of sizes."""
MOST_WORK = 2**27
"""In one run: values that nodes read and make, and products that they sum up. 2^27 take half a second."""
FIXED_WORK = 2**18
"""What a run takes besides, in the same unit."""
WINDOWED = ("AveragePool", "MaxPool")
"""The evaluator runs these in Python, window by window."""


class Piece:
    """A cut as a function of float64 arrays.

    Two cuts that compute the same in the same way have the same `key`, whatever their names and places.
    Raises InputError where a constant is too large to be one of SimAM's, or comes from outside its function.
    """

    def __init__(self, cut: Cut, flow: Flow) -> None:
        names: dict[ir.Value, str] = {cut.x: "x"}
        for i, node in enumerate(cut.sizes):
            names[node.outputs[0]] = f"size{i}"
        for value in (v for node in (*cut.around, *cut.inside) for v in (*node.inputs, *node.outputs)):
            if value is not None and value.name:
                names.setdefault(value, f"v{len(names)}")
        if len(cut.around) > MOST_AROUND:
            raise InputError(
                f"more than {MOST_AROUND} nodes compute its sizes and constants; SimAM has no use for them"
            )
        inputs = [helper.make_tensor_value_info("x", TensorProto.DOUBLE, None)]
        inputs += [helper.make_tensor_value_info(f"size{i}", TensorProto.INT64, None) for i in range(len(cut.sizes))]
        for node in (*cut.around, *cut.inside):
            if any(attribute.is_ref() for attribute in node.attributes.values()):
                raise InputError(
                    f"{node.op_type} {node.name!r} takes a value from an attribute of the function that it is in; "
                    "put the functions in place first (onnx.inliner)"
                )
        nodes = sorted((*cut.around, *cut.inside), key=flow.order.__getitem__)
        made = [renamed(node, names) for node in nodes]
        result = names[cut.y]
        if cut.is_gate:
            result = "product"
            made.append(helper.make_node("Mul", ["x", names[cut.y]], [result]))
        watched = {v: None for node in cut.two_sided for v in node.inputs if v is not None and v.name}
        graph = helper.make_graph(
            made,
            "piece",
            inputs,
            [onnx.ValueInfoProto(name=name) for name in dict.fromkeys((result, *(names[v] for v in watched)))],
            [widened(value, names[value]) for value in cut.constants],
        )
        scope = cut.inside[-1].graph
        imports = {**flow.model.opset_imports, **(scope.opset_imports if scope is not None else {})}
        functions = called((*cut.around, *cut.inside), flow.model)
        self._model = helper.make_model(
            graph,
            ir_version=10,
            opset_imports=[helper.make_opsetid(domain, version) for domain, version in imports.items()],
            functions=functions,
        )
        say_defaults(self._model)
        self.key = self._model.SerializeToString(deterministic=True)
        if functions:
            self._model = in_place(self._model)
        self._model = widen(self._model)
        self.kind = _kind(self._model)
        """The same for pieces that differ in the values of scalar floats alone."""
        self.spent = 0
        """Of work, in all runs."""
        self._work: dict[tuple[int, ...], int] = {}
        self._two_sided = [
            (node.op_type, ["" if v is None or not v.name else names[v] for v in node.inputs])
            for node in cut.two_sided
        ]
        self._shown: dict[int, list[bool]] = {}
        self._largest = [0.0] * len(self._two_sided)
        self._constants = [
            (names[v], tuple(t.shape.numpy())) for v in cut.constants if (t := constant(v)) is not None
        ]
        self._measured = cut.sizes
        self._computes = _computing(self._model)
        self._numbers: dict[tuple[object, ...], list[Array] | None] = {}
        self._evaluator: ReferenceEvaluator | None = None

    def run(
        self, x: Float64, measured: Sequence[tuple[int, ...]] = (), instead: Mapping[int, float] | None = None
    ) -> Float64:
        """y of x.

        measured : the shapes of what `cut.sizes` measure, in their order, for this size of x.
        instead : other values for some of `cut.constants`, by index.
        Raises whatever the evaluator does where the piece does not fit x.
        """
        if self._evaluator is None:
            self._evaluator = evaluator(self._model, [KERNELS[OP_NAME]])
        self.spent += FIXED_WORK + self._work.get(x.shape, 0)
        sizes = self._sizes(measured)
        for i, value in (instead or {}).items():
            name, shape = self._constants[i]
            sizes[name] = np.full(shape, value)
        with np.errstate(all="ignore"):  # a piece that is not SimAM may divide by zero
            results: Any = self._evaluator.run(None, {"x": x, **sizes})
            values = dict(zip(self._evaluator.output_names, map(np.asarray, results), strict=True))
            for i, (kind, inputs) in enumerate(self._two_sided):
                data, *bounds = (values.get(name) for name in inputs)
                assert data is not None
                self._largest[i] = max(self._largest[i], float(np.abs(data).max(initial=0)))
                seen = [bool(np.any(side)) for side in _sides(kind, 1e-9 * self._largest[i], data, *bounds)]
                self._shown[i] = [a or b for a, b in zip(seen, self._shown.get(i, seen), strict=True)]
        return np.asarray(results[0], dtype=np.float64)

    def _sizes(self, measured: Sequence[tuple[int, ...]]) -> dict[str, Array]:
        """What the Shape nodes of `cut.sizes` give."""
        pairs = zip(self._measured, measured, strict=True)
        return {f"size{i}": _measure(node, shape) for i, (node, shape) in enumerate(pairs)}

    def numbers(self, size: tuple[int, ...], measured: Sequence[tuple[int, ...]] = ()) -> list[Array]:
        """What the data is computed with, apart from constants: M - 1 and the like, for x of that size.

        Sizes that are measured inside the piece are left out.
        """
        return [array for array in self._computed(size, measured) or () if array.dtype.kind == "f"]

    def sized(self, size: tuple[int, ...], measured: Sequence[tuple[int, ...]]) -> tuple[object, ...]:
        """What a run on x of that size depends on besides x: the same for two `measured` that make no difference."""
        computed = self._computed(size, measured)
        if computed is None:
            return (size, *measured)
        return (size, *((array.dtype.str, array.shape, array.tobytes()) for array in computed))

    def _computed(self, size: tuple[int, ...], measured: Sequence[tuple[int, ...]]) -> list[Array] | None:
        key = (size, tuple(measured))
        if key not in self._numbers:
            self._numbers[key] = self._compute(size, measured)
        return self._numbers[key]

    def _compute(self, size: tuple[int, ...], measured: Sequence[tuple[int, ...]]) -> list[Array] | None:
        """None if it is not computed by itself."""
        if self._computes is None:
            return None
        sizes = self._sizes(measured)
        known = propagate(_placed(self._computes, size, sizes), levels=0)
        for name in (name for node in self._computes.graph.node for name in node.output):
            if name not in known or np.prod(known[name][1], dtype=float) > MOST_NUMBERS:
                return None  # nor is it run as a whole then
        try:
            x = np.broadcast_to(np.zeros(1), size)  # takes no memory
            results: Any = ReferenceEvaluator(self._computes).run(None, {"x": x, **sizes})
        except Exception:  # whatever the evaluator says of arithmetic that does not fit
            return None
        return [np.asarray(result) for result in results]

    def reason_against(self, size: tuple[int, ...], measured: Sequence[tuple[int, ...]] = ()) -> str | None:
        """Why it is not run on x of that size: it may not fit, or take what a file wants it to take."""
        model = _placed(self._model, size, self._sizes(measured))
        found = propagate(model, levels=0)  # work in a call would not be counted
        known = {name: shape for name, (_, shape) in found.items()}
        shown = "x".join(map(str, size))
        work = 0
        for node in model.graph.node:
            for shape in (known.get(name) for name in node.output if name):
                if shape is None:
                    if (node.domain, node.op_type) == (OP_DOMAIN, OP_NAME):
                        return None
                    return f"it does not run by itself: what {node.op_type} makes of x of {shown} cannot be told"
                if np.prod(shape, dtype=float) > MOST_VALUES:
                    return f"{node.op_type} makes {'x'.join(map(str, shape))} values of x of {shown}; SimAM does not"
                if node.op_type in WINDOWED and (np.prod(shape[2:]) > 1 or _is_padded(node)):
                    return f"{node.op_type} has a sliding window; SimAM takes the whole plane"
            work += work_of(node, known)
            if work > MOST_WORK:
                return f"it takes too long on x of {shown}, at {node.op_type}; SimAM does not"
        self._work[size] = work
        return None

    def unseen(self) -> list[int]:
        """Which of `cut.two_sided` did not show both of its sides in any run."""
        return [i for i in range(len(self._two_sided)) if not all(self._shown.get(i, [False]))]


def in_place(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with the bodies of its functions in place of the calls, brought to the opset of the model.

    The inliner leaves a body of another opset where it is not told to, and the evaluator would then take a node of
    ours by its name. Raises InputError if one is left.
    """
    say_defaults(model)
    inlined = onnx.inliner.inline_local_functions(model, convert_version=True)
    if left := inlined.functions:
        raise InputError(f"the body of {left[0].domain}::{left[0].name} cannot be put in place")
    del inlined.graph.value_info[:]  # what a function declares may be wrong
    return inlined


def _kind(model: onnx.ModelProto) -> bytes:
    masked = onnx.ModelProto()
    masked.CopyFrom(model)
    attributes = [a for node in masked.graph.node if node.op_type == "Constant" for a in node.attribute]
    for tensor in (*masked.graph.initializer, *(a.t for a in attributes if a.HasField("t"))):
        if tensor.data_type == TensorProto.DOUBLE and math.prod(tensor.dims) == 1:
            tensor.ClearField("raw_data")
    for attribute in attributes:
        attribute.ClearField("f")
    return sha256(masked.SerializeToString(deterministic=True)).digest()


def _placed(model: onnx.ModelProto, size: tuple[int, ...], sizes: Mapping[str, Array]) -> onnx.ModelProto:
    """A copy in which x has that size, and what is measured elsewhere these values."""
    placed = onnx.ModelProto()
    placed.CopyFrom(model)
    placed.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.DOUBLE, size))
    placed.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in sizes.items())
    return placed


def _computing(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The part of a piece that computes with sizes of x and constants alone; None if the data uses none of it."""
    known = {tensor.name for tensor in model.graph.initializer} | {value.name for value in model.graph.input[1:]}
    nodes = []
    made: set[str] = set()
    used: set[str] = set()
    for node in model.graph.node:
        if (node.op_type in MEASURES and node.input[0] == "x") or all(name in known for name in node.input if name):
            nodes.append(node)
            known |= set(node.output)
            made |= set(node.output)
        else:
            used |= made & set(node.input)
    if not used:
        return None
    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.node[:], part.graph.output[:]
    part.graph.node.extend(nodes)
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(used))
    return part


def _is_padded(node: onnx.NodeProto) -> bool:
    return any(
        (a.name == "pads" and any(a.ints)) or (a.name == "auto_pad" and b"SAME" in a.s) for a in node.attribute
    )


def _sides(kind: str, near: float, a: Array, b: Array | None = None, c: Array | None = None) -> list[Array]:
    """Where each side of an operator of operators.TWO_SIDED is seen, or its bound at least reached.

    near : what counts as reached. A variance comes to the bound of Max(v, 0) on constant planes, and never beyond.
    """
    if kind == "Where":
        return [a, ~a]
    bounds = [bound for bound in (b, c) if bound is not None] if kind == "Clip" else [np.zeros(1) if b is None else b]
    return [side for bound in bounds for side in (a <= bound + near, a >= bound - near)]


def renamed(node: ir.Node, names: dict[ir.Value, str]) -> onnx.NodeProto:
    """`node` alone, with these names for its values."""
    made = ir.serde.serialize_node(node)
    outside = _outside(node)
    for attribute in made.attribute:
        if attribute.name in outside:
            attribute.t.CopyFrom(ir.serde.serialize_tensor(outside[attribute.name]))
    made.name = ""
    made.doc_string = ""
    del made.metadata_props[:]
    made.input[:] = ["" if v is None or not v.name else names[v] for v in node.inputs]
    made.output[:] = [names[v] if v.name else "" for v in node.outputs]
    return made


def widened(value: ir.Value, name: str) -> TensorProto:
    """A constant under that name, floats as float64."""
    tensor = constant(value)
    assert tensor is not None
    array = _small(tensor, value.name).numpy()
    return numpy_helper.from_array(array.astype(np.float64) if tensor.dtype in FLOATS else array, name)


def called(nodes: Iterable[ir.Node], model: ir.Model) -> list[onnx.FunctionProto]:
    """The functions that `nodes` call, and those that these call."""
    found: dict[tuple[str, str, str], ir.Function] = {}
    queue = list(nodes)
    while queue:
        identifier = queue.pop().op_identifier()
        if identifier in model.functions and identifier not in found:
            found[identifier] = model.functions[identifier]
            queue.extend(found[identifier].all_nodes())
    return [_serialised(model.functions[identifier]) for identifier in sorted(found)]


def _serialised(function: ir.Function) -> onnx.FunctionProto:
    copy = function.clone()
    for node in copy.all_nodes():
        for name, tensor in _outside(node).items():
            node.attributes[name] = ir.AttrTensor(name, tensor)
    return ir.serde.serialize_function(copy)


def _outside(node: ir.Node) -> dict[str, ir.TensorProtocol]:
    """The tensors in attributes that are kept in another file, read."""
    tensors = {
        name: attribute.as_tensor()
        for name, attribute in node.attributes.items()
        if attribute.type is ir.AttributeType.TENSOR and not attribute.is_ref()
    }
    return {
        name: ir.Tensor(_small(tensor, node.name).numpy(), dtype=tensor.dtype)
        for name, tensor in tensors.items()
        if isinstance(tensor, ir.ExternalTensor)
    }


def _small(tensor: ir.TensorProtocol, name: str | None) -> ir.TensorProtocol:
    if tensor.nbytes > MOST_CONSTANTS:
        raise InputError(f"its constant {name!r} has {tensor.size:,} values; SimAM has no weights")
    return tensor


def _measure(node: ir.Node, shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    if node.op_type == "Size":
        return np.array(np.prod(shape), dtype=np.int64)
    start, end = (node.attributes[k].as_int() if k in node.attributes else None for k in ("start", "end"))
    return np.array(shape[start:end], dtype=np.int64)
