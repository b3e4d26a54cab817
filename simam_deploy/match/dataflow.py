"""Data flow in an ONNX model: the values that depend on data, their order, and candidates for the end of a block."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from simam_deploy.graph.shapes.types import Identifier
from simam_deploy.match.op_sets import GATES, IN_INFERENCE, KNOWN, MEASURES, NORMALIZATIONS, ON_SIZES, STATISTICS

MOST_NODES = 100
"""Upper bound on the size of a candidate subgraph. Known variants have 5 to 40 nodes."""
ENDS = ("Mul", "Div", "Add", "Sub", "Sum", "Einsum")
"""Operators that may end a block: mostly x * gate, also x / (1 + exp(-z)) and x/2 + x/2 * tanh(z/2)."""
MOST_STEPS = 10
"""Upper bound on the operators between the sigmoid and y."""
MOST_BYTES = 2**20
"""Upper bound on a constant whose values are read."""
MOST_DEFAULTS = 16
"""Upper bound on the numbers in a graph input with a default that counts as a constant: λ, axes, no image."""
MOST_NAMES = 16
"""Upper bound on a chain of Identity nodes."""


@dataclass(frozen=True)
class FunctionBody:
    """Summary of the body of a model-local function, with the bodies of the functions that it calls."""

    operators: frozenset[str]
    size: int
    known: bool
    """Whether a block may hold every operator on data in it."""


class Flow:
    """Data flow of one model, read once. Does not change the model."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.order: dict[ir.Node, int] = {}
        """Topological order over all graphs: the producers of a node's inputs come first."""
        self.fixed: set[ir.Value] = set()
        """Values that do not depend on data: constants, sizes, and results computed from them."""
        self.defaults: set[ir.Value] = set()
        """Graph inputs among `fixed`: their default is a constant that callers may replace."""
        self._statistic: set[ir.Value] = set()
        self._gates: dict[ir.Value, tuple[int, ir.Node]] = {}
        """Distance to the nearest gate, in operators, and that gate."""
        self._bodies: dict[Identifier, FunctionBody] = {}
        self._known: dict[ir.Node, bool] = {}
        self.steps = 0
        """Nodes visited in the search for blocks."""
        for function in _callees_first(model):
            self._read(function)
            self._bodies[function.identifier()] = self._body_of(function)
        self._read(model.graph)

    def body(self, node: ir.Node) -> FunctionBody | None:
        """The body of the function that `node` calls; None without such a function, or if it calls itself."""
        return self._bodies.get(node.op_identifier())

    def known(self, node: ir.Node) -> bool:
        """Whether a block may hold `node`. Call it once its inputs are classified."""
        if node not in self._known:
            self._known[node] = self._may_stand(node)
        return self._known[node]

    def _may_stand(self, node: ir.Node) -> bool:
        if len(node.inputs) > MOST_NODES:
            return False
        body = self.body(node)
        if body is not None:
            return body.known and body.size <= MOST_NODES
        if node.domain or node.op_type not in KNOWN:
            return False
        if node.op_type in IN_INFERENCE:
            return self.does_nothing(node)
        if node.op_type in NORMALIZATIONS:
            return all(v in self.fixed and _may_be_uniform(v) for v in node.inputs[1:] if v is not None)
        return node.op_type not in ("MatMul", "Einsum") or len(self.data(node)) == len(node.inputs)

    def does_nothing(self, node: ir.Node) -> bool:
        """Whether a Dropout is idle: in inference, and nothing uses its mask."""
        _, ratio, training = (*node.inputs, None, None, None)[:3]
        mode = self.held(training)
        in_inference = training is None or (mode is not None and not mode.numpy().any())
        masks = [value for value in node.outputs[1:] if value.uses() or value.is_graph_output()]
        return in_inference and not masks and (ratio is None or ratio in self.fixed)

    def held(self, value: ir.Value | None) -> ir.TensorProtocol | None:
        """The constant tensor of `value`; None if it has none, or if callers may replace it."""
        if value is None or value not in self.fixed or origin(value) in self.defaults:
            return None
        return constant(value)

    def gate(self, node: ir.Node) -> ir.Node | None:
        """The sigmoid of a statistic that may gate the result of `node`. A call of a function may be its own gate."""
        body = self.body(node)
        if body is not None:
            return node if self.known(node) and body.operators & GATES and body.operators & STATISTICS else None
        nearest = self._nearest_gate(node)
        return nearest[1] if nearest is not None and node.domain == "" and node.op_type in ENDS else None

    def _nearest_gate(self, node: ir.Node) -> tuple[int, ir.Node] | None:
        gates = [self._gates[v] for v in node.inputs if v in self._gates]
        return min(gates, key=lambda gate: gate[0], default=None)

    def unused_gates(self) -> list[ir.Node]:
        """Gates of the main graph that no candidate for the end of a block uses."""
        gates = [node for node in self.model.graph if (0, node) in {self._gates.get(v) for v in node.outputs}]
        ended = {self.gate(node) for node in self.order}
        return [node for node in gates if node not in ended and self.body(node) is None]

    def data(self, node: ir.Node) -> list[ir.Value]:
        """The inputs of `node` that depend on data."""
        return [v for v in node.inputs if v is not None and v not in self.fixed]

    def _read(self, graph: ir.Graph | ir.Function) -> None:
        for scope in (graph, *graph.subgraphs()):
            for value in scope.initializers.values() if isinstance(scope, ir.Graph) else ():
                if value.const_value is None:
                    continue
                if self.model.ir_version < 4 or not value.is_graph_input():
                    self.fixed.add(value)
                elif value.const_value.size <= MOST_DEFAULTS:
                    self.fixed.add(value)
                    self.defaults.add(value)
        for node in graph.all_nodes():
            self.order[node] = len(self.order)
            if self._is_fixed(node):
                self.fixed.update(node.outputs)
            elif self.known(node):
                self._pass_on(node)

    def _is_fixed(self, node: ir.Node) -> bool:
        if node.domain:
            return False
        return node.op_type in MEASURES or (node.op_type in ON_SIZES and not self.data(node))

    def _pass_on(self, node: ir.Node) -> None:
        body = self.body(node)
        operators = body.operators if body is not None else {node.op_type}
        statistic = bool(operators & STATISTICS) or any(v in self._statistic for v in node.inputs)
        nearest = self._nearest_gate(node)
        if statistic and operators & GATES:
            nearest = (-1, node)
        for value in node.outputs:
            if statistic:
                self._statistic.add(value)
            if nearest is not None and nearest[0] + 1 < MOST_STEPS:
                self._gates[value] = (nearest[0] + 1, nearest[1])

    def _body_of(self, function: ir.Function) -> FunctionBody:
        operators: set[str] = set()
        size, known = 0, True
        for node in function.all_nodes():
            inner = self.body(node)
            size += inner.size if inner is not None else 1
            operators |= inner.operators if inner is not None else {node.op_type}
            known &= self._is_fixed(node) or self.known(node)
        return FunctionBody(frozenset(operators), size, known)


def _callees_first(model: ir.Model) -> list[ir.Function]:
    """The functions in topological order, callees first, without recursive ones."""
    calls: dict[Identifier, set[Identifier]] = {}
    callers: dict[Identifier, set[Identifier]] = {}
    for identifier, function in model.functions.items():
        calls[identifier] = {n.op_identifier() for n in function.all_nodes()} & model.functions.keys()
        for callee in calls[identifier]:
            callers.setdefault(callee, set()).add(identifier)
    ready = deque(identifier for identifier, called in calls.items() if not called)
    order = []
    while ready:
        callee = ready.popleft()
        order.append(model.functions[callee])
        for caller in callers.get(callee, ()):
            calls[caller].discard(callee)
            if not calls[caller]:
                ready.append(caller)
    return order


def _may_be_uniform(value: ir.Value) -> bool:
    """Whether all numbers in a constant are equal, or it is computed from sizes. A learned parameter is neither."""
    tensor = constant(value)
    if tensor is None:
        return True
    array = tensor.numpy() if tensor.nbytes <= MOST_BYTES else None
    return array is not None and array.size > 0 and bool((array == array.flat[0]).all())


def origin(value: ir.Value) -> ir.Value:
    """The value in front of a chain of Identity nodes."""
    for _ in range(MOST_NAMES):
        node = value.producer()
        if node is None or node.domain or node.op_type != "Identity" or node.inputs[0] is None:
            break
        value = node.inputs[0]
    return value


def constant(value: ir.Value) -> ir.TensorProtocol | None:
    """The tensor of an initialiser or a Constant node, through Identity nodes; None for other values."""
    value = origin(value)
    if value.const_value is not None:
        return value.const_value
    node = value.producer()
    if node is None or node.domain or node.op_type != "Constant" or len(node.attributes) != 1:
        return None
    (attribute,) = node.attributes.values()
    if attribute.is_ref():
        return None
    if attribute.type == ir.AttributeType.TENSOR:
        return attribute.as_tensor()
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    kind = kinds.get(attribute.name)
    return None if kind is None else ir.tensor(np.array(attribute.value, dtype=kind))
