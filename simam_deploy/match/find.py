"""Find SimAM blocks in an ONNX model by the function that they compute, for any spelling and any exporter.

A block is a closed, parameter-free subgraph from x to y = x * gate(x) (subgraph.py). Run by itself in float64, it
computes SimAM for one λ at every size that it may meet (judge.py). Any other subgraph stays unchanged. One that comes
close is reported as a near miss, with the reasons.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from simam_deploy.block import Block, Found, NearMiss
from simam_deploy.equivalence import NO_GATE
from simam_deploy.formula import shortest
from simam_deploy.graph.shapes import Dims, Shapes
from simam_deploy.match.candidates import DeadEnd, candidates_at, gates_at, same_numbers
from simam_deploy.match.dataflow import Flow
from simam_deploy.match.epilogue_nodes import EpilogueNodes, has_epilogue
from simam_deploy.match.int8_nodes import opened
from simam_deploy.match.judge import Judge, Judgement
from simam_deploy.match.operand import Operands, alike, unfit
from simam_deploy.match.quantised import Unrounded, is_quantised
from simam_deploy.match.subgraph import Subgraph, is_simam_node
from simam_deploy.match.unverifiable import doubts

MOST_TRIES = 16
"""Candidate subgraphs that are checked for one gate."""
MOST_STEPS = 500_000
"""Nodes visited in one search. Networks have up to some ten thousand."""
MOST_LETTERS = 1000
"""Length of a name."""
MOST_NAMED = 2
"""Failed candidates of one gate for which the search names the value that the gate belongs to."""


def find(model: ir.Model, on_progress: Callable[[str], None] | None = None) -> Found:
    """Find the SimAM blocks of `model`: in its graph, in bodies of If and Loop, in functions that it calls.

    x : (N, C, H, W), (N, C, L) or (N, C, D, H, W). A block on maps of one value is a near miss.
    on_progress : called with the name of a node before the candidate subgraph that ends there is checked.
    Does not change the model. Blocks of nodes on 8-bit integers are those of `int8_nodes.opened(model)`.
    """
    model = opened(model)
    search = _BlockSearch(model, on_progress or (lambda _: None))
    search.through(model.graph.all_nodes())
    for function in search.called_functions():
        search.through(function.all_nodes(), function)
    search.gates_alone()
    found = search.found()
    return _with_quantised(found, model) if is_quantised(model) else found


def _with_quantised(found: Found, model: ir.Model) -> Found:
    """Add near misses for the blocks that are SimAM once quantisation is removed."""
    unrounded = Unrounded.of(model)
    search = _BlockSearch(unrounded.model, lambda _: None)
    search.through(unrounded.model.graph.all_nodes())
    known = {block.node for block in found.blocks}
    more: dict[str, NearMiss] = {}
    covered: set[str] = set()
    for block in search.found().blocks:
        operators = unrounded.inside(block.inside, block.x)
        if operators and block.node not in known:
            covered.update(map(_name, block.inside))
            more[block.node] = NearMiss(
                block.node,
                (
                    f"it is SimAM, λ = {block.e_lambda:g}, but for {', '.join(operators)} inside: it was quantised",
                    "fuse the float model first, then quantise: its SimAM nodes stay whole",
                    "ONNX Runtime's quant_pre_process takes them apart, unless with skip_optimization=True",
                ),
            )
    return Found(found.blocks, (*(miss for miss in found.near_misses if miss.node not in covered), *more.values()))


@dataclass(eq=False)
class _Miss:
    near_miss: NearMiss
    nodes: frozenset[ir.Node]
    end: ir.Node
    function: ir.Function | None
    """The function that holds the near miss."""


class _BlockSearch:
    def __init__(self, model: ir.Model, say: Callable[[str], None]) -> None:
        self._model = model
        self._say = say
        self._flow = Flow(model)
        self._shapes = Shapes(model)
        self._operands = Operands(self._shapes)
        self._judge = Judge(self._flow, self._shapes)
        self._epilogue_nodes = EpilogueNodes(self._flow)
        self._blocks: list[Block] = []
        self._covered: set[ir.Node] = set()
        self._misses: list[_Miss] = []
        self._failed: Counter[ir.Node | None] = Counter()

    def through(self, nodes: Iterable[ir.Node], function: ir.Function | None = None) -> None:
        """Check every node as the end of a block."""
        ends: set[ir.Value] = set()
        for node in nodes:
            if has_epilogue(node):
                self._say(_name(node))
                self._take(self._of_node(node, function), ends)
                continue
            if self._flow.steps > MOST_STEPS:
                reason = f"the search ended here, after {MOST_STEPS:,} steps; no network needs so many"
                self._take(_Miss(NearMiss(_name(node), (reason,)), frozenset({node}), node, function), ends)
                return
            gate = self._flow.gate(node)
            candidates = [] if self._failed[gate] >= MOST_TRIES else candidates_at(node, self._flow, ends)
            if not candidates:
                continue
            self._say(_name(node))
            judged = (
                _Miss(NearMiss(_name(node), (candidates.reason,)), frozenset({node}), node, function)
                if isinstance(candidates, DeadEnd)
                else self._of(candidates, function)
            )
            if isinstance(judged, Block):
                ends.add(node.outputs[0])
            else:
                judged = self._named(judged) if self._failed[gate] < MOST_NAMED else judged
                self._failed[gate] += gate is not None
            self._take(judged, ends)

    def _named(self, miss: _Miss) -> _Miss:
        """Replace the reasons where the gate of one value multiplies another value."""
        node = miss.end
        data = self._flow.data(node) if node.op_type == "Mul" and not node.domain else []
        for gate, other in zip(data, reversed(data), strict=True) if len(data) == 2 else ():
            if (x := self._gated(gate, miss.function, other)) is not None:
                reason = f"it multiplies {other.name!r} by the gate of {x.name!r}; SimAM takes both of one x"
                return replace(miss, near_miss=NearMiss(_name(node), (reason,)))
        return miss

    def _gated(self, gate: ir.Value, function: ir.Function | None, other: ir.Value | None = None) -> ir.Value | None:
        """The x whose SimAM gate `gate` is; None if there is none, or if it is `other`."""
        for subgraph in gates_at(gate, self._flow):
            if same_numbers(subgraph.x, self._flow) is same_numbers(other, self._flow):
                return None
            dtype, variants = self._operands.given(subgraph, function)
            if self._judgement(subgraph, dtype, variants, function).e_lambda is not None:
                return subgraph.x
        return None

    def gates_alone(self) -> None:
        """Report the gates that no multiplication uses."""
        for gate in self._flow.unused_gates()[:MOST_TRIES]:
            if (x := self._gated(gate.outputs[0], None)) is not None:
                reason = f"it is the gate of {x.name!r} alone: nothing is multiplied by it"
                self._misses.append(_Miss(NearMiss(_name(gate), (reason,)), frozenset({gate}), gate, None))

    def _take(self, judged: Block | _Miss, ends: set[ir.Value]) -> None:
        if isinstance(judged, Block):
            ends.add(judged.y)
            self._blocks.append(judged)
            self._covered.update(judged.inside)
        else:
            self._misses.append(judged)

    def called_functions(self) -> Iterator[ir.Function]:
        """Each function with a call outside the blocks. Lazy: search one function before the next is requested."""
        seen = set()
        queue: list[ir.Node] = list(self._model.graph.all_nodes())
        while queue:
            node = queue.pop()
            identifier = node.op_identifier()
            if (
                identifier in seen
                or identifier not in self._model.functions
                or is_simam_node(node)
                or has_epilogue(node)
            ):
                continue
            if node in self._covered:
                continue
            seen.add(identifier)
            function = self._model.functions[identifier]
            yield function
            queue.extend(function.all_nodes())

    def found(self) -> Found:
        """Blocks and near misses, without redundant near misses.

        Redundant: inside a block, around another near miss, or a call of a function besides its body.
        """
        named = [block.function for block in self._blocks] + [miss.function for miss in self._misses]
        kept: dict[ir.Node, _Miss] = {}  # by its end
        called_from = Counter[ir.Function | None]()
        for miss in self._misses:
            called = self._model.functions.get(miss.end.op_identifier())
            vague = miss.near_miss.reasons[:1] == (NO_GATE,)
            if miss.end in self._covered or (vague and called is not None and called in named):
                continue
            if miss.function is not None and called_from[miss.function] > 0:
                continue
            inner = [kept[node] for node in miss.nodes if node in kept and kept[node].nodes < miss.nodes]
            if any(other.near_miss.reasons != (NO_GATE,) for other in inner) and miss.near_miss.repaired is None:
                continue
            for other in inner:
                del kept[other.end]
                called_from[self._called_by(other)] -= 1
            kept[miss.end] = miss
            called_from[self._called_by(miss)] += 1
        return Found(tuple(self._blocks), tuple(miss.near_miss for miss in kept.values()))

    def _called_by(self, miss: _Miss) -> ir.Function | None:
        return self._model.functions.get(miss.end.op_identifier())

    def _of(self, candidates: list[Subgraph], function: ir.Function | None) -> Block | _Miss:
        """The widest candidate that is SimAM, or the reasons against the narrowest."""
        judgement = Judgement(None)
        for subgraph in (
            *reversed([c for c in candidates[1:] if self._operands.same_type(c, function)]),
            candidates[0],
        ):
            dtype, variants = self._operands.given(subgraph, function)
            judgement = self._judgement(subgraph, dtype, variants, function)
            found = judgement.e_lambda or judgement.once_n_is_right
            form = _form_of(subgraph, self._model)
            block = (
                None
                if found is None or dtype is None
                else Block(
                    _name(subgraph.inside[-1]),
                    subgraph.x,
                    subgraph.y,
                    alike(variants),
                    dtype,
                    shortest(found) if form == "instance_norm" else float(str(np.float32(found))),
                    form,
                    subgraph.inside,
                    tuple(subgraph.shared()),
                    subgraph.defaults,
                    function,
                )
            )
            if block is not None and judgement.e_lambda is not None:
                return block
        end = candidates[0].inside[-1]
        near_miss = NearMiss(_name(end), judgement.reasons, block)
        return _Miss(near_miss, frozenset(candidates[0].inside), end, function)

    def _of_node(self, node: ir.Node, function: ir.Function | None) -> Block | _Miss:
        """Block of one of our operators with an epilogue, if it computes what its name says."""
        x, y = next(iter(node.inputs), None), node.outputs[0]
        epilogue, e_lambda, reasons = None, 0.0, ["it takes nothing"]
        if x is not None:
            subgraph = Subgraph(x, y, (node,), (), (), (), (), (node,))
            dtype, variants = self._operands.given(subgraph, function)
            misfit = unfit(dtype, variants)
            if misfit is not None or dtype is None:
                reasons = [misfit or ""]
            else:
                epilogue, e_lambda, reasons = self._epilogue_nodes.read(node, dtype, variants)
            if epilogue is not None and dtype is not None:
                form = _form_of(subgraph, self._model)
                return Block(
                    _name(node), x, y, alike(variants), dtype, e_lambda, form, (node,), (), (), function, epilogue
                )
        return _Miss(NearMiss(_name(node), tuple(reasons)), frozenset({node}), node, function)

    def _judgement(
        self, subgraph: Subgraph, dtype: ir.DataType | None, variants: list[Dims], function: ir.Function | None
    ) -> Judgement:
        misfit = unfit(dtype, variants)
        if misfit is not None or dtype is None:
            return Judgement(None, (misfit or "",))
        reasons = doubts(subgraph)
        if len(types := self._operands.types(subgraph, function)) > 1:
            reasons += (f"x and y have two types: {', '.join(sorted(t.name for t in types))}",)
        if subgraph.narrowest < dtype.bitwidth:
            reasons += (f"it rounds to {subgraph.narrowest} bits inside, and x has {dtype.bitwidth}",)
        if _form_of(subgraph, self._model) == "custom_op":
            attribute = next(node for node in subgraph.inside if is_simam_node(node)).attributes.get("e_lambda")
            if attribute is None or attribute.type != ir.AttributeType.FLOAT or not attribute.as_float() > 0:
                reasons += ("it has no fallback definition, and no attribute e_lambda > 0",)
        judged = self._judge.judge(subgraph, variants)
        return Judgement(None, (*judged.reasons, *reasons)) if reasons else judged


def _name(node: ir.Node) -> str:
    """Name of a node. Long names are shortened to MOST_LETTERS and a hash: new nodes repeat them."""
    name = node.name or str(node.outputs[0].name)
    if len(name) <= MOST_LETTERS:
        return name
    return f"{name[:MOST_LETTERS]}...{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:12]}"


def _form_of(subgraph: Subgraph, model: ir.Model) -> str:
    ours = next((node for node in subgraph.inside if is_simam_node(node) or has_epilogue(node)), None)
    if ours is not None:
        return "function" if ours.op_identifier() in model.functions else "custom_op"
    return "instance_norm" if any(n.op_type == "InstanceNormalization" for n in subgraph.flat) else "primitive"
