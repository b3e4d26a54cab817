"""Changes of a file for fuzz.py: bytes -> other bytes, by a random generator.

A change in BREAKING makes many files invalid. After one in EDITING most are valid still: some hold SimAM, some
something very like it. One that finds nothing to change in the place that was drawn changes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from simam_deploy.graph.traverse import graphs

Rng = np.random.Generator
_OPERATORS = """Mul Div Sigmoid If Loop Scan Shape Cast Reshape Concat SimAM SimAMAffineRelu Constant Range Identity
    Dropout ReduceSumSquare Softmax BatchNormalization QuantizeLinear Squeeze Where"""
OPERATORS = [*_OPERATORS.split(), ""]
OF_ONE = ("Identity", "Neg", "Relu", "Sqrt", "Floor", "Dropout", "Sigmoid", "Abs")
OF_TWO = ("Mul", "Add", "Sub", "Div", "Max", "Pow")
NUMBERS = (0, -1, 1, 2, 3, 7, 2**31, 2**63 - 1, -(2**63))
OPSETS = (1, 6, 7, 9, 11, 12, 13, 15, 17, 18, 20, 21, 23)


@dataclass
class Place:
    """A node in a file, and the graph or function that it is in."""

    proto: onnx.ModelProto
    scope: Any
    at: int
    node: onnx.NodeProto
    rng: Rng

    def pick(self, items: Sequence[Any]) -> Any:
        return items[int(self.rng.integers(len(items)))]

    @property
    def a_name(self) -> str:
        return str(self.pick([n for node in self.scope.node for n in (*node.input, *node.output)] or [""]))

    @property
    def new(self) -> str:
        return f"new{len(self.scope.node)}"

    @property
    def y(self) -> str:
        """The first result of the node."""
        return next(iter(self.node.output), "")

    @property
    def tensors(self) -> Sequence[TensorProto]:
        return self.proto.graph.initializer

    @property
    def floats(self) -> list[TensorProto]:
        kinds = (TensorProto.FLOAT, TensorProto.FLOAT16)
        return [t for t in self.tensors if t.data_type in kinds and t.data_location != TensorProto.EXTERNAL]

    @property
    def values(self) -> list[onnx.ValueInfoProto]:
        graph = self.proto.graph
        return [*graph.input, *graph.output, *graph.value_info]

    @property
    def dims(self) -> list[Any]:
        return [dim for value in self.values for dim in value.type.tensor_type.shape.dim]

    def see(self, name: str) -> None:
        """Make a value of the graph one of its outputs."""
        kind = self.proto.graph.input[0].type.tensor_type.elem_type if self.proto.graph.input else TensorProto.FLOAT
        self.proto.graph.output.append(helper.make_tensor_value_info(name, kind, None))

    def rewire(self, nodes: Sequence[onnx.NodeProto], old: str, new: str) -> None:
        """Some of those that read `old` read `new`."""
        for node in nodes:
            for k, read in enumerate(node.input):
                if read == old and self.rng.random() < 0.5:
                    node.input[k] = new


def other_name(p: Place) -> None:
    names = p.node.input if p.rng.random() < 0.5 else p.node.output
    if names:
        names[p.rng.integers(len(names))] = p.a_name


def other_operator(p: Place) -> None:
    p.node.op_type = p.pick(OPERATORS)


def node_gone(p: Place) -> None:
    del p.scope.node[p.at]


def node_twice(p: Place) -> None:
    p.scope.node.add().CopyFrom(p.node)


def same_name(p: Place) -> None:
    p.node.name = p.pick(p.scope.node).name


def other_size(p: Place) -> None:
    if p.dims:
        p.pick(p.dims).dim_value = p.pick(NUMBERS)


def other_type(p: Place) -> None:
    if p.values:
        p.pick(p.values).type.tensor_type.elem_type = int(p.rng.integers(30))


def other_attribute(p: Place) -> None:
    if p.node.attribute:
        attribute, kind = p.pick(p.node.attribute), p.rng.integers(3)
        if kind == 0:
            attribute.i, attribute.type = p.pick(NUMBERS), int(p.rng.integers(15))
        elif kind == 1:
            attribute.name = p.pick(("axes", "keepdims", "to", "value", "axis", ""))
        else:
            attribute.ref_attr_name = "e_lambda"


def weight_damaged(p: Place) -> None:
    if p.tensors:
        tensor, kind = p.pick(p.tensors), p.rng.integers(3)
        if kind == 0:
            tensor.dims.append(p.pick(NUMBERS))
        elif kind == 1:
            tensor.data_type = int(p.rng.integers(30))
        else:
            tensor.raw_data = p.rng.bytes(int(p.rng.integers(9)))


def weight_name(p: Place) -> None:
    if p.tensors:
        p.pick(p.tensors).name = p.a_name


def any_version(p: Place) -> None:
    if p.rng.random() < 0.3:
        p.proto.ir_version = int(p.rng.integers(1, 15))
    imports = [*p.proto.opset_import, *(entry for f in p.proto.functions for entry in f.opset_import)]
    p.pick(imports).version = p.pick(OPSETS)


def signature(p: Place) -> None:
    if p.proto.functions:
        function = p.pick(p.proto.functions)
        (function.input if p.rng.random() < 0.5 else function.output)[:1] = [p.a_name]


def seen(p: Place) -> None:
    """Others see what the node makes, as it is or behind a node more."""
    if p.scope is p.proto.graph:
        name, new = p.y, p.new
        if p.rng.random() < 0.5:
            p.scope.node.add(op_type="Relu", input=[name], output=[new], name=p.pick(("", new)))
            name = new
        p.see(name)


def inserted(p: Place) -> None:
    if p.node.input:
        between = onnx.NodeProto(op_type=p.pick(OF_ONE), input=[p.node.input[0]], output=[p.new])
        p.node.input[0] = p.new
        p.scope.node.insert(p.at, between)


def swapped(p: Place) -> None:
    p.node.input[:] = p.node.input[::-1]


def operator_alike(p: Place) -> None:
    if len(p.node.input) == 2:
        p.node.op_type = p.pick(OF_TWO)


def scaled(p: Place) -> None:
    if p.floats:
        tensor = p.pick(p.floats)
        value = numpy_helper.to_array(tensor)
        value = (value * p.pick((1 + 1e-6, 1 + 1e-3, 2, -1))).astype(value.dtype)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


def exchanged(p: Place) -> None:
    if p.floats:
        one, other = p.pick(p.floats), p.pick(p.floats)
        one.name, other.name = other.name, one.name


def weight_is_input(p: Place) -> None:
    if p.tensors:
        tensor = p.pick(p.tensors)
        if tensor.name not in {value.name for value in p.proto.graph.input}:
            p.proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))


def attribute_alike(p: Place) -> None:
    if p.node.attribute:
        attribute = p.pick(p.node.attribute)
        attribute.i, attribute.f = int(p.rng.integers(-2, 5)), attribute.f * p.pick((1, 2, 1.001, -1))
        if attribute.type == AttributeProto.INTS:
            attribute.ints[:] = [*attribute.ints][:: p.pick((-1, 1, 2))]


def computed_twice(p: Place) -> None:
    """Some of the nodes behind read the result of a second node like it."""
    if p.y:
        copy, new = onnx.NodeProto(), p.new
        copy.CopyFrom(p.node)
        copy.name, copy.output[0] = new, new
        p.rewire(p.scope.node[p.at :], p.y, new)
        p.scope.node.insert(p.at, copy)


def passed_by(p: Place) -> None:
    """Some of the nodes behind read what the node reads."""
    if p.node.input:
        p.rewire(p.scope.node[p.at + 1 :], p.y, p.pick(p.node.input))


def names_like_ours(p: Place) -> None:
    """The node, or what it makes, has a name that fuse may write."""
    name = p.pick(
        ("simam", "y/y", "y/c", f"{p.node.name}/c", f"{p.node.name}/mean", f"{p.node.name}/y", "/", " ", "")
    )
    if p.rng.random() < 0.5:
        p.node.name = p.node.name if name in {node.name for node in p.scope.node} else name
        return
    old = p.y
    if name and old and not any(name in (*node.input, *node.output) for node in p.scope.node):
        for node in p.scope.node:
            node.input[:] = [name if read == old else read for read in node.input]
            node.output[:] = [name if made == old else made for made in node.output]
        for at, value in enumerate(p.scope.output):
            if isinstance(value, str) and value == old:
                p.scope.output[at] = name
            elif not isinstance(value, str) and value.name == old:
                value.name = name


def dynamic(p: Place) -> None:
    if p.dims:
        p.pick(p.dims).dim_param = p.pick(("n", "h", "", "unk__1"))


def near_opset(p: Place) -> None:
    version = p.pick((17, 18, 19, 20, 21))
    for holder in (p.proto, *(p.proto.functions if p.rng.random() < 0.5 else ())):
        for entry in holder.opset_import:
            entry.version = entry.version if entry.domain else version


BREAKING = (
    *(other_name, other_name, other_operator, node_gone, node_twice, same_name, other_size, other_type),
    *(other_attribute, other_attribute, weight_damaged, weight_damaged, weight_name, any_version, signature),
)
EDITING = (
    *(seen, seen, inserted, swapped, operator_alike, scaled, exchanged, weight_is_input, attribute_alike),
    *(computed_twice, passed_by, names_like_ours, dynamic, near_opset),
)


def changed(whole: bytes, rng: Rng, kinds: Sequence[Callable[[Place], None]]) -> bytes:
    """One to three changes of fields."""
    proto = onnx.ModelProto.FromString(whole)
    for _ in range(rng.integers(1, 4)):
        scopes = [scope for scope in (*graphs(proto), *proto.functions) if scope.node]
        scope = scopes[rng.integers(len(scopes))] if scopes else proto.graph
        at = int(rng.integers(len(scope.node) or 1))
        node = scope.node[at] if scope.node else scope.node.add()
        kinds[int(rng.integers(len(kinds)))](Place(proto, scope, at, node, rng))
    return proto.SerializeToString()


def flipped(whole: bytes, rng: Rng) -> bytes:
    """One to four bytes are others."""
    made = bytearray(whole)
    for at in rng.integers(len(whole), size=rng.integers(1, 5)):
        made[at] = rng.integers(256)
    return bytes(made)


def broken(whole: bytes, rng: Rng) -> bytes:
    return changed(whole, rng, BREAKING)


def edited(whole: bytes, rng: Rng) -> bytes:
    return changed(whole, rng, EDITING)


CHANGES = (flipped, broken, edited, edited, edited)
