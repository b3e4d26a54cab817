"""The piece of an ONNX graph between x and y = x * gate(x): what belongs to it, and running it by itself.

Operators are looked at only far enough to know that the piece is parameter-free and closed; whether it is SimAM is
asked of its numbers (proof.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from simam_deploy.formula import OP_DOMAIN, OP_NAME, Float64
from simam_deploy.widen import widen

_STATISTICS = frozenset(
    [
        "AveragePool",
        "Einsum",
        "GlobalAveragePool",
        "InstanceNormalization",
        "ReduceL2",
        "ReduceMean",
        "ReduceSum",
        "ReduceSumSquare",
    ]
)
_ELEMENTWISE = "Abs Add Cast CastLike Div Exp Identity Mul Neg Pow Reciprocal Sigmoid Sqrt Sub Sum Tanh"
_SHAPING = "Constant ConstantOfShape Expand Flatten ReduceProd Reshape Shape Size Squeeze Tile Transpose Unsqueeze"
_PICKING = frozenset({"Concat", "Gather", "Slice", "Split"})
"""On data, these may treat one channel or position unlike another; on sizes they are ordinary."""
_REGROUPING = frozenset({"Flatten", "Reshape", "Tile", "Transpose"})
"""On data, these may mix channels or batch elements, in groups that a small probe does not have."""
_PIECEWISE = frozenset({"Clip", "Equal", "Floor", "Max", "Min", "Mod", "Where"})
"""On data, these may change what is computed where no probe looks."""
_KNOWN = _STATISTICS | _PICKING | _PIECEWISE | frozenset(f"{_ELEMENTWISE} {_SHAPING}".split())
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
_INTEGERS = (ir.DataType.INT64, ir.DataType.INT32)
_GATES = frozenset({"Sigmoid", "Exp", "Tanh"})
_MOST_NODES = 100
"""A SimAM block has 5 to 40 nodes; a walk that needs more is not inside one."""


@dataclass(frozen=True, eq=False)
class Cut:
    """A closed piece of a graph with one way in, `x`, and one way out, `y`."""

    x: ir.Value
    y: ir.Value
    inside: tuple[ir.Node, ...]
    """Nodes that depend on x, the one that makes y last."""
    sizes: tuple[ir.Node, ...]
    """Shape nodes that measure something other than the piece itself, such as a graph input."""
    reasons: tuple[str, ...] = ()
    """Why it cannot be replaced whatever it computes: inner values used outside, operators that no probe covers."""

    @property
    def picks(self) -> bool:
        """Whether an operator inside picks out a part of the data."""
        return any(node.op_type in _PICKING for node in self.inside)

    @property
    def uniform(self) -> bool:
        """Whether each plane is surely treated as the others: no channel is picked out, no constant has channels.

        Then a few channels prove it for all; otherwise it must be run at its real size.
        """
        if any(node.op_type in _PICKING | _REGROUPING for node in self.inside):
            return False
        constants = (ir.convenience.get_const_tensor(v) for node in self.inside for v in node.inputs if v is not None)
        return all(c is None or c.size == 1 or c.dtype in _INTEGERS for c in constants)


def is_simam_node(node: ir.Node) -> bool:
    """Whether `node` is the op of this package."""
    return node.domain == OP_DOMAIN and node.op_type == OP_NAME


def cuts_at(node: ir.Node) -> list[Cut]:
    """The pieces that end in `node` and look like x * gate(x) with a statistic of x inside; mostly none or one."""
    if is_simam_node(node):
        x = node.inputs[0] if len(node.inputs) == len(node.outputs) == 1 else None
        return [] if x is None else [Cut(x, node.outputs[0], (node,), ())]
    if node.domain or node.op_type not in ("Mul", "Div") or len(node.inputs) != 2:
        return []
    a, b = node.inputs
    if a is None or b is None or a is b:
        return []
    ways = ((a, b), (b, a)) if node.op_type == "Mul" else ((a, b),)  # x / (1 + exp(-z)) is a gate too
    found = (_walk(node, x, gate) for x, gate in ways)
    return [cut for cut in found if cut is not None]


def _walk(anchor: ir.Node, x: ir.Value, gate: ir.Value) -> Cut | None:
    """Follow `gate` back to x; None if it leads elsewhere, or is no gate made of a statistic of x."""
    reached: set[ir.Node] = set()
    measures: list[ir.Node] = []
    queue = [gate]
    while queue:
        value = queue.pop()
        node = value.producer()
        if value is x or node in reached or ir.convenience.get_const_tensor(value) is not None:
            continue
        if node is None or node.domain or node.op_type not in _KNOWN or len(reached) > _MOST_NODES:
            return None
        reached.add(node)
        if node.op_type in ("Shape", "Size"):
            measures.append(node)
        else:
            queue.extend(v for v in node.inputs if v is not None)
    graph = anchor.graph
    inside = _depending_on(x, reached, graph) if graph is not None else []
    operators = {node.op_type for node in inside}
    if not operators & _STATISTICS or not operators & _GATES:
        return None
    closed = {*inside, anchor}
    sizes = [m for m in measures if m.inputs[0] is not x and _producer(m) not in closed]
    return Cut(x, anchor.outputs[0], (*inside, anchor), tuple(sizes), (*_leaks(inside, closed), *_unprovable(inside)))


def _producer(measure: ir.Node) -> ir.Node | None:
    """The node whose output a Shape node measures."""
    measured = measure.inputs[0]
    return None if measured is None else measured.producer()


def _depending_on(x: ir.Value, nodes: set[ir.Node], order: Iterable[ir.Node]) -> list[ir.Node]:
    """Those of `nodes` that use x's values, in the order of the graph or function that `order` is."""
    depending: set[ir.Node] = set()
    queue = [x]
    while queue:
        for use in queue.pop().uses():
            if use.node in nodes and use.node not in depending and use.node.op_type not in ("Shape", "Size"):
                depending.add(use.node)
                queue.extend(use.node.outputs)
    return [node for node in order if node in depending] if depending else []


def reasons_against_body(function: ir.Function) -> tuple[str, ...]:
    """Why a body that comes with a file cannot be trusted whatever its numbers say, as for a piece of a graph."""
    if len(function.inputs) != 1:
        return (f"its body takes {len(function.inputs)} inputs",)
    inside = _depending_on(function.inputs[0], set(function), function)
    picked = [f"{n.op_type} {n.name!r} picks out a part of x" for n in inside if n.op_type in _PICKING]
    foreign = [f"{n.op_type} {n.name!r} is not known" for n in inside if n.domain or n.op_type not in _KNOWN]
    return tuple(f"in its body, {reason}" for reason in (*_unprovable(inside), *picked, *foreign))


def _leaks(inside: Sequence[ir.Node], closed: set[ir.Node]) -> list[str]:
    leaks = []
    for value in (v for node in inside for v in node.outputs):
        if value.is_graph_output():
            leaks.append(f"{value.name!r} inside the block is also an output of the graph")
        leaks += [
            f"{value.name!r} inside the block is also used by {use.node.op_type} {use.node.name!r}"
            for use in value.uses()
            if use.node not in closed and use.node.op_type not in ("Shape", "Size")
        ]
    return leaks


def _unprovable(inside: Sequence[ir.Node]) -> list[str]:
    """Operators on data that may act only where no probe looks, such as a bound that no probe reaches."""
    found = []
    for node in inside:
        to = node.attributes.get("to") if node.op_type == "Cast" else None
        target = ir.DataType.FLOAT if to is None or to.is_ref() else to.as_int()
        if node.op_type in _PIECEWISE or target not in _FLOATS:
            found.append(f"{node.op_type} {node.name!r} may change values that no probe has")
    return found


class Runner:
    """A cut as a function of float64 arrays, on the onnx reference evaluator.

    measured : the shapes of what `cut.sizes` measure, in their order, for the size of x that it will be run on.
    """

    def __init__(self, cut: Cut, model: ir.Model, measured: Sequence[tuple[int, ...]] = ()) -> None:
        graph = cut.inside[-1].graph
        assert graph is not None
        leaves = [node.outputs[0] for node in cut.sizes]
        piece = ir.convenience.extract(graph, inputs=[cut.x, *leaves], outputs=[cut.y])
        piece.opset_imports.update(model.opset_imports)
        for value in (*piece.inputs, *piece.outputs):
            value.shape = None
        for value, leaf in zip(piece.inputs[1:], leaves, strict=True):
            value.type = leaf.type or ir.TensorType(ir.DataType.INT64)
        for value in (piece.inputs[0], piece.outputs[0]):
            value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
        functions = [f for f in model.functions.values() if f.domain == OP_DOMAIN]
        alone = ir.Model(piece, ir_version=min(model.ir_version, 10), functions=functions)
        proto = ir.to_proto(ir.external_data.load_to_model(alone))  # constants may be kept in a file beside
        self._evaluator = ReferenceEvaluator(widen(proto))
        self._x, *names = (str(value.name) for value in piece.inputs)
        self._sizes = {
            name: _measure(node, shape) for name, node, shape in zip(names, cut.sizes, measured, strict=True)
        }

    def __call__(self, x: Float64) -> Float64:
        """y of x : (N, C, H, W)."""
        with np.errstate(all="ignore"):  # a piece that is not SimAM may divide by zero
            (y,) = self._evaluator.run(None, {self._x: x, **self._sizes})
        return np.asarray(y, dtype=np.float64)


def _measure(node: ir.Node, shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    if node.op_type == "Size":
        return np.array(np.prod(shape), dtype=np.int64)
    start, end = (node.attributes[k].as_int() if k in node.attributes else None for k in ("start", "end"))
    return np.array(shape[start:end], dtype=np.int64)
