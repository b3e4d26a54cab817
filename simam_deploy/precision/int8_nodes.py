"""SimAM between integer layers as one node on integers: DequantizeLinear, SimAM with its epilogue, QuantizeLinear.

Without it, ONNX Runtime transposes, dequantises, quantises and transposes around each SimAM node, which takes several
times as long as SimAM itself. The operators are those of match/int8_nodes.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from simam_deploy.formula import DEFAULT_LAMBDA, INT8_DOMAIN, OP_DOMAIN, OP_VERSION, OPS
from simam_deploy.match import int8_nodes
from simam_deploy.precision.quantised import DQ, Q
from simam_deploy.text import counted

TYPES = (ir.DataType.UINT8, ir.DataType.INT8)


@dataclass(frozen=True)
class _Rounded:
    """An integer tensor, its scale and its zero point: one number each, constants."""

    integers: ir.Value
    scale: ir.Value
    zero: ir.Value

    @property
    def inputs(self) -> tuple[ir.Value, ir.Value]:
        return self.scale, self.zero


@dataclass(frozen=True)
class _Between:
    """A SimAM node with rounding around it. closings : the QuantizeLinear nodes behind it, all alike."""

    node: ir.Node
    x: _Rounded
    residual: _Rounded | None
    y: _Rounded
    closings: tuple[ir.Node, ...]


def with_int8_nodes(model: ir.Model) -> list[str]:
    """Replace the SimAM nodes of the graph that stand between integers, in place. Returns notes.

    Other readers of y get the rounded y. With a residual, both x and it must be integers.
    """
    stay: Counter[str] = Counter()
    used: list[str] = []
    for node in list(model.graph):
        if node.domain != OP_DOMAIN or node.op_type not in OPS or node.op_identifier() not in model.functions:
            continue
        place = _place(node)
        if isinstance(place, str):
            stay[place] += 1
        else:
            _replace(model.graph, place)
            used.append(node.op_type)
    for name in dict.fromkeys(used):
        function = int8_nodes.definition(name, model.opset_imports[""])
        model.functions[function.identifier()] = function
    if used:
        model.graph.opset_imports[INT8_DOMAIN] = OP_VERSION
    made = [f"{counted(len(used), 'SimAM node')} on integers, from layer to layer"] if used else []
    return [*made, *(f"{counted(count, 'SimAM node')} in float32: {reason}" for reason, count in stay.items())]


def _place(node: ir.Node) -> _Between | str:
    """The rounding around a SimAM node, or why it stays."""
    y = node.outputs[0]
    x = _opened(node.inputs[0])
    residual = _opened(node.inputs[3]) if OPS[node.op_type].residual else None
    closings = tuple(use.node for use in y.uses() if _is(use.node, Q))
    rounded = [_of(closing.outputs[0], closing.inputs[1:]) for closing in closings]
    if x is None:
        return "no integer layer makes its x"
    if OPS[node.op_type].residual and residual is None:
        return "no integer layer makes its residual"
    if not rounded or rounded[0] is None:
        return "no integer layer reads its result"
    if y.is_graph_output() or any(other is None or other.inputs != rounded[0].inputs for other in rounded):
        return "its result has several uses"
    types = {held.zero.dtype for held in (x, residual, rounded[0]) if held is not None}
    if len(types) > 1 or not types <= {*TYPES}:
        return "the integers around it are of two types"
    return _Between(node, x, residual, rounded[0], closings)


def _opened(value: ir.Value | None) -> _Rounded | None:
    """What DequantizeLinear makes `value` of."""
    node = None if value is None else value.producer()
    if node is None or not _is(node, DQ) or node.inputs[0] is None:
        return None
    return _of(node.inputs[0], node.inputs[1:])


def _of(integers: ir.Value, rounding: Sequence[ir.Value | None]) -> _Rounded | None:
    held = [value for value in rounding if value is not None and value.const_value is not None]
    if len(held) != 2 or any(value.const_value is None or value.const_value.size != 1 for value in held):
        return None
    return _Rounded(integers, *held)


def _is(node: ir.Node, op_type: str) -> bool:
    return node.op_type == op_type and not node.domain


def _replace(graph: ir.Graph, place: _Between) -> None:
    node, y = place.node, place.node.outputs[0]
    made: list[ir.Node] = []

    def transposed(value: ir.Value, name: str, perm: Sequence[int]) -> ir.Value:
        made.append(ir.Node("", "Transpose", [value], [ir.AttrInt64s("perm", [*perm])], name=name))
        made[-1].outputs[0].name = name
        return made[-1].outputs[0]

    def last(held: str, rounded: _Rounded) -> list[ir.Value]:
        name = f"{node.name}/{held}{int8_nodes.LAST}"
        return [transposed(rounded.integers, name, int8_nodes.CHANNELS_LAST), *rounded.inputs]

    given = [*last("x", place.x), *node.inputs[1:3]]
    if place.residual is not None:
        given += last("residual", place.residual)
    e_lambda = node.attributes.get_float("e_lambda", DEFAULT_LAMBDA)
    attributes = [ir.AttrFloat32("e_lambda", e_lambda)]
    ours = ir.Node(INT8_DOMAIN, node.op_type, [*given, *place.y.inputs], attributes, name=node.name)
    ours.outputs[0].name = f"{y.name}{int8_nodes.LAST}"
    made.append(ours)
    integers = transposed(ours.outputs[0], f"{node.name}/y", int8_nodes.CHANNELS_FIRST)
    integers.name = place.y.integers.name
    graph.insert_before(node, made)
    for closing in place.closings:
        closing.outputs[0].replace_all_uses_with(integers, replace_graph_outputs=True)
        graph.remove(closing, safe=True)
    if y.uses():
        floats = ir.Node("", DQ, [integers, *place.y.inputs], name=f"{node.name}/float")
        floats.outputs[0].name, floats.outputs[0].type, floats.outputs[0].shape = y.name, y.type, y.shape
        graph.insert_before(node, [floats])
        y.replace_all_uses_with(floats.outputs[0])
    openings = {value.producer() for value in node.inputs if value is not None}
    graph.remove(node, safe=True)
    for opening in openings:
        used = opening is None or any(v.uses() or v.is_graph_output() for v in opening.outputs)
        if opening is not None and _is(opening, DQ) and not used:
            graph.remove(opening, safe=True)
