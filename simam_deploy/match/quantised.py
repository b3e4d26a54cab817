"""A quantised model without its rounding, to report the blocks that were SimAM before quantisation.

A quantiser rounds inside a block: it puts QuantizeLinear and DequantizeLinear between the nodes, or replaces them by
QLinearMul and the like. With 8 bits the block no longer computes SimAM; the near miss then names the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from simam_deploy.match.dataflow import constant

_FLOAT_OPERATORS = {
    "QLinearAdd": ("Add", 2),
    "QLinearMul": ("Mul", 2),
    "QLinearSigmoid": ("Sigmoid", 1),
    "QLinearReduceMean": ("ReduceMean", 1),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", 1),
}
"""Float operator and its number of inputs, by quantised operator. Each input has a scale and a zero point."""
_HANDING_ON = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_ROUNDING = ("QuantizeLinear", "DequantizeLinear")
_DOMAINS = ("", "com.microsoft")
MOST_NUMBERS = 64
"""Upper bound on a constant that is dequantised. SimAM has constants of a few numbers; weights stay."""


def is_quantised(model: ir.Model) -> bool:
    """Whether an operator in the graph rounds to integers."""
    return any(_rounds(node) for node in model.graph.all_nodes())


@dataclass
class Unrounded:
    """model : a copy without the rounding, with the names of the original."""

    model: ir.Model
    _rounded: dict[str, set[str]] = field(default_factory=dict)
    _floats: dict[ir.Value, ir.Value] = field(default_factory=dict)
    """Integer values -> the float values before rounding."""

    @classmethod
    def of(cls, model: ir.Model) -> Unrounded:
        """Copy `model` and remove its rounding. Does not change `model`."""
        made = cls(model.clone())
        for graph in made.model.graphs():
            for node in list(graph):
                made._take_out(node, graph)
            for node in reversed(list(graph)):
                if _rounds(node) and not any(v.uses() or v.is_graph_output() for v in node.outputs):
                    graph.remove(node, safe=True)
        return made

    def inside(self, nodes: tuple[ir.Node, ...], x: ir.Value) -> list[str]:
        """Names of the rounding operators between `x` and the result of `nodes`."""
        found: set[str] = set()
        for node in nodes:
            for value in (v for v in node.inputs if v is not None and v is not x):
                found |= self._rounded.get(str(value.name), set())
            found |= {op for v in node.outputs for op in self._rounded.get(str(v.name), set()) if op not in _ROUNDING}
        return sorted(found)

    def _take_out(self, node: ir.Node, graph: ir.Graph) -> None:
        first = node.inputs[0] if node.inputs else None
        if first is None or node.domain not in _DOMAINS:
            return
        if node.op_type == "QuantizeLinear":
            self._floats[node.outputs[0]] = first
            self._rounded.setdefault(str(first.name), set()).update(_ROUNDING)
        elif node.op_type == "DequantizeLinear":
            value = self._float_of(node.inputs[:3], graph)
            if value is None:  # of an operator that stays, as QLinearConv
                self._floats[first] = node.outputs[0]
            elif value.producer() is not None or not node.outputs[0].is_graph_output():
                node.outputs[0].replace_all_uses_with(value, replace_graph_outputs=True)
        elif node.op_type in _FLOAT_OPERATORS:
            op_type, count = _FLOAT_OPERATORS[node.op_type]
            given = [self._float_of(node.inputs[3 * i : 3 * i + 3], graph) for i in range(count)]
            for i in (i for i, value in enumerate(given) if value is None):
                opened = ir.Node("", "DequantizeLinear", node.inputs[3 * i : 3 * i + 3])
                graph.insert_before(node, [opened])
                opened.outputs[0].name = f"{node.outputs[0].name}/input {i}"
                given[i] = opened.outputs[0]
            self._put(node, op_type, given, graph)
            self._rounded[str(self._floats[node.outputs[0]].name)] = {node.op_type}
            self._round_again(node, node.inputs[3 * count : 3 * count + 2], graph)
        elif node.op_type in _HANDING_ON and first in self._floats:
            self._put(node, node.op_type, [self._floats[first], *node.inputs[1:]], graph)

    def _put(self, node: ir.Node, op_type: str, inputs: list[ir.Value | None], graph: ir.Graph) -> None:
        """Insert the float operator in front of the integer one."""
        attributes = [a for a in node.attributes.values() if a.name != "channels_last"]
        made = ir.Node("", op_type, inputs, attributes, name=node.name)
        graph.insert_before(node, [made])
        made.outputs[0].name = f"{node.outputs[0].name}/unrounded"
        self._floats[node.outputs[0]] = made.outputs[0]

    def _round_again(self, node: ir.Node, scale: Sequence[ir.Value | None], graph: ir.Graph) -> None:
        """Quantise the float result again, for operators that stay on integers, such as QLinearConv."""
        integers = node.outputs[0]
        made = ir.Node("", "QuantizeLinear", [self._floats[integers], *scale])
        graph.insert_before(node, [made])
        made.outputs[0].name = f"{integers.name}/again"
        integers.replace_all_uses_with(made.outputs[0], replace_graph_outputs=True)
        self._floats[made.outputs[0]] = self._floats[integers]

    def _float_of(self, given: Sequence[ir.Value | None], graph: ir.Graph) -> ir.Value | None:
        """The float value of (integers, scale, zero point); None if unknown."""
        value, *others = given or [None]
        if value is None or value in self._floats:
            return None if value is None else self._floats[value]
        held = [None if v is None else constant(v) for v in (value, *others)]
        integers, scale, zero = (*held, None, None)[:3]
        if integers is None or scale is None or integers.size > MOST_NUMBERS or scale.size != 1:
            return None
        if zero is not None and zero.size != 1:
            return None
        point = np.int64(0) if zero is None else zero.numpy().astype(np.int64)
        array = (integers.numpy().astype(np.int64) - point) * scale.numpy().astype(np.float32)
        name = f"{value.name}/unrounded"
        if name not in graph.initializers:
            tensor = ir.tensor(array.astype(scale.numpy().dtype).reshape(tuple(integers.shape.numpy())), name=name)
            graph.register_initializer(ir.Value(name=name, const_value=tensor))
        return graph.initializers[name]


def _rounds(node: ir.Node) -> bool:
    return node.domain in _DOMAINS and (node.op_type in _ROUNDING or node.op_type in _FLOAT_OPERATORS)
