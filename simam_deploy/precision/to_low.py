"""Conversion of a float32 model to float16 or bfloat16, node by node.

A node is low or stays in float32. It stays if `keep` gives a reason, if its operator does not take the type, or for
its constants, or sizes (unfit.py): no constant is ever clipped. Casts stand where the types of two nodes meet.
Values that enter or leave an If, a Loop or a Scan stay float32; the nodes inside are judged like all others.
Our operators take x and the residual in the low type, scale and bias in float32, and compute in float32 inside: the
fallback definitions are written anew for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from simam_deploy.formula import OP_DOMAIN, OPS
from simam_deploy.graph.round_low import is_tensor
from simam_deploy.match.op_sets import MEASURES
from simam_deploy.match.quantised import is_quantised
from simam_deploy.precision.flat import flatten
from simam_deploy.precision.low_types import LowType
from simam_deploy.precision.raise_opset import raise_opset
from simam_deploy.precision.slots import FLOAT, Slots, low_slots
from simam_deploy.precision.unfit import reasons
from simam_deploy.rewrite.forms import function as form
from simam_deploy.text import counted

Keep = Callable[[ir.Node], str]
QUANTISED_OPSET = 19
"""The first opset whose DequantizeLinear gives 16 bits. With a cast behind it, layers do not become integer ones."""


@dataclass(frozen=True)
class KeptRow:
    """A node that stays in float32."""

    node: str
    op: str
    reason: str


@dataclass
class InLow:
    """The converted model.

    kept : the nodes with float32 inputs or outputs that stay so.  low : number of nodes of the low type.
    """

    model: ir.Model
    kept: list[KeptRow] = field(default_factory=list)
    low: int = 0
    casts: int = 0
    notes: list[str] = field(default_factory=list)


def to_low(
    model: ir.Model,
    low: LowType,
    *,
    keep: Keep = lambda _: "",
    unfit: Mapping[str, str] | None = None,
    keep_io: bool = False,
    blunt: bool = False,
) -> InLow:
    """Convert a copy of `model`, whose SimAM blocks are nodes of ours or primitive operators.

    keep : node -> reason why it stays in float32, or "".
    unfit : name of a value that is beyond the type -> reason. Its producer and its users stay in float32.
    blunt : round every constant, as a converter that knows no limits; what does not fit becomes infinite or 0.
    keep_io : keep inputs and outputs float32, with casts behind and before them.
    Functions of the user are inlined, and an opset without the type is raised, each with a note.
    Raises InputError if that cannot be done.
    """
    result = InLow(model.clone())
    work = _Conversion(result, low, keep, unfit or {}, blunt=blunt)
    work.prepare()
    work.choose()
    work.convert(keep_io=keep_io)
    return result


class _Conversion:
    def __init__(self, result: InLow, low: LowType, keep: Keep, unfit: Mapping[str, str], *, blunt: bool) -> None:
        self._result, self._model, self._low = result, result.model, low
        self._keep, self._unfit, self._blunt = keep, unfit, blunt
        self._slots: dict[ir.Node, Slots] = {}
        self._casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self._names: set[str] = set()
        self._native: set[ir.Value] = set()
        """Values that are of the low type already."""

    def prepare(self) -> None:
        """Flatten the model, and raise its opset to one with the type."""
        self._result.notes += flatten(self._model)
        quantised = is_quantised(self._model)
        opset = max(self._low.opset, QUANTISED_OPSET if quantised else 0)
        raised = raise_opset(self._model, opset)
        if raised is not self._model:
            before, where = self._model.opset_imports[""], " around int8" if quantised else ""
            self._result.notes.append(f"opset raised from {before} to {opset}, the first for {self._low.name}{where}")
            self._result.model = self._model = raised
            flatten(raised)
        if open_ := [v.name for v in self._model.graph.inputs if v.const_value is not None and _is_float(v)]:
            self._result.notes.append(
                f"{counted(len(open_), 'weight')} may be replaced by callers and stay float32, with a cast behind: "
                f"the first is {open_[0]!r}"
            )
        for graph in self._model.graphs():
            values = [*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)]
            self._names.update(str(value.name) for value in values)
            self._native.update(value for value in values if value.dtype == self._low.dtype)

    def choose(self) -> None:
        """Decide for each node whether it is low."""
        nodes, opset = self._nodes(), self._model.opset_imports.get("", 0)
        touched = [node for node in nodes if _has_floats(node)]
        slots = {node: low_slots(node, opset, self._low) for node in touched}
        known = {node: found for node, found in slots.items() if not isinstance(found, str)}
        unfit = {} if self._blunt else reasons(nodes, known, self._low)
        for node, found in slots.items():
            reason = self._keep(node) or (found if isinstance(found, str) else self._against(node, found))
            if reason := reason or unfit.get(node, ""):
                self._result.kept.append(KeptRow(_name(node), node.op_type, reason))
            elif not isinstance(found, str):
                self._slots[node] = found
        self._result.low = len(self._slots)

    def _against(self, node: ir.Node, slots: Slots) -> str:
        """Reason why `node` stays in float32, or "", from the types and ranges of its values."""
        takes, gives = slots
        inputs = [(at, v) for at, v in enumerate(node.inputs) if v is not None]
        outputs = [(at, v) for at, v in enumerate(node.outputs) if v.name]
        for value in (*(v for _, v in inputs), *(v for _, v in outputs)):
            if value.dtype is None:
                return f"the type of {value.name!r} is unknown"
        reads, writes = ([at for at, v in values if _is_float(v)] for values in (inputs, outputs))
        if (writes and not gives.intersection(writes)) or (reads and not takes.intersection(reads)):
            return f"{node.op_type} takes no {self._low.name} in opset {self._model.opset_imports['']}"
        named = (str(v.name) for _, v in (*inputs, *outputs) if _is_float(v))
        return next((self._unfit[name] for name in named if name in self._unfit), "")

    def convert(self, *, keep_io: bool) -> None:
        """Give every value its type, and insert the casts."""
        graph = self._model.graph
        given = [value for value in graph.inputs if _is_float(value) and value.const_value is None]
        for value in given:
            if not keep_io and value.name not in self._unfit:
                value.type = ir.TensorType(self._low.dtype)
        for node, (_, gives) in self._slots.items():
            for at, value in enumerate(node.outputs):
                if at in gives and value.dtype == FLOAT:
                    value.type = ir.TensorType(self._low.dtype)
            if node.op_type == "Cast" and node.attributes.get_int("to") == FLOAT:
                node.attributes["to"] = ir.AttrInt64("to", self._low.dtype)
        for node in self._nodes():
            takes = self._slots.get(node, (set(), set()))[0]
            for at, entering in enumerate(node.inputs):
                if (
                    entering is not None
                    and entering not in self._native
                    and entering.dtype in (FLOAT, self._low.dtype)
                ):
                    wanted = self._low.dtype if at in takes else FLOAT
                    self._feed(node, at, entering, wanted)
        self._leave(keep_io=keep_io)
        self._forget_shapes()
        self._drop_unused_constants()
        self._define()
        self._result.casts = sum(node.op_type == "Cast" for node in self._nodes())

    def _feed(self, node: ir.Node, at: int, value: ir.Value, wanted: ir.DataType) -> None:
        """Let input `at` of `node` be `value` in the type `wanted`."""
        if value.dtype == wanted:
            return
        if node.op_type in MEASURES | {"Cast"} and not node.domain:
            return  # they take either
        node.replace_input_with(at, self._as(value, wanted))

    def _as(self, value: ir.Value, wanted: ir.DataType) -> ir.Value:
        """`value` in another type: a rounded constant, or the result of a cast, made once."""
        key = (value, wanted)
        if key not in self._casts:
            name = self._unique(f"{value.name}/{self._low.name if wanted != FLOAT else 'fp32'}")
            graph = value.graph
            if value.const_value is not None and not value.is_graph_input() and isinstance(graph, ir.Graph):
                array = value.const_value.numpy()
                with np.errstate(over="ignore"):
                    made = ir.Value(
                        name=name,
                        type=ir.TensorType(wanted),
                        shape=value.shape,
                        const_value=ir.Tensor(array.astype(wanted.numpy()), dtype=wanted, name=name),
                    )
                graph.register_initializer(made)
            else:
                cast = ir.node("Cast", [value], {"to": wanted}, name=f"{name}/cast")
                made = cast.outputs[0]
                made.name, made.shape, made.type = name, value.shape, ir.TensorType(wanted)
                self._insert(cast, value)
            self._casts[key] = made
        return self._casts[key]

    def _insert(self, cast: ir.Node, value: ir.Value) -> None:
        """Behind the producer of `value`, or at the start of the graph that it enters."""
        producer, graph = value.producer(), value.graph
        if producer is not None and producer.graph is not None:
            producer.graph.insert_after(producer, [cast])
        elif graph is not None and len(graph):
            graph.insert_before(graph[0], [cast])

    def _leave(self, *, keep_io: bool) -> None:
        """Cast what leaves a graph: of subgraphs always to float32, of the main graph with `keep_io`."""
        for graph in self._model.graphs():
            if graph is self._model.graph and not keep_io:
                continue
            for value in dict.fromkeys(graph.outputs):
                if value.dtype != self._low.dtype or value.is_graph_input() or value in self._native:
                    continue
                back = self._as(value, FLOAT)
                back.name, value.name = value.name, self._unique(f"{value.name}/{self._low.name}")
                graph.outputs[:] = [back if output is value else output for output in graph.outputs]

    def _unique(self, name: str) -> str:
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name

    def _drop_unused_constants(self) -> None:
        for graph in self._model.graphs():
            for name, value in list(graph.initializers.items()):
                if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
                    del graph.initializers[name]

    def _forget_shapes(self) -> None:
        """Drop the declared shapes of inner values. Those of a file may be of one size, and runtimes infer them."""
        for node in self._nodes():
            for value in node.outputs if not node.domain or node.domain == OP_DOMAIN else ():
                if not value.is_graph_output():
                    value.shape = None

    def _define(self) -> None:
        """Write the fallback definitions of our operators for the types that they now take."""
        ours = [node for node in self._nodes() if node.domain == OP_DOMAIN and node.op_type in OPS]
        ours = [node for node in ours if node.op_identifier() in self._model.functions]
        types: Collection[ir.DataType] = {v.dtype for node in ours if (v := node.inputs[0]) is not None and v.dtype}
        for function in form.functions(self._model.opset_imports[""], sorted({node.op_type for node in ours}), types):
            self._model.functions[function.identifier()] = function

    def _nodes(self) -> list[ir.Node]:
        return [node for graph in self._model.graphs() for node in graph]


def _name(node: ir.Node) -> str:
    return node.name or str(node.outputs[0].name)


def _is_float(value: ir.Value) -> bool:
    return value.dtype == FLOAT and is_tensor(value)


def _has_floats(node: ir.Node) -> bool:
    """Whether the node reads or writes float32, holds no graph, and does not only measure."""
    if node.op_type in MEASURES or any(
        attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values()
    ):
        return False
    return any(v is not None and _is_float(v) for v in (*node.inputs, *node.outputs))
