"""SimAM blocks in an ONNX model: found by what they compute, whatever their spelling or exporter.

A block is a piece of the graph from x to y = x * gate(x) that is closed and parameter-free (subgraph.py) and that,
run by itself in float64, is SimAM for one λ at every size it may meet (judge.py). What is not is left alone; if it
came close it is a near miss, with the reasons.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from simam_deploy.block import Block, Found, NearMiss
from simam_deploy.equivalence import NO_GATE
from simam_deploy.graph.shapes import Dims, Shapes
from simam_deploy.match.dataflow import Flow
from simam_deploy.match.epilogue_nodes import Ops, has_epilogue
from simam_deploy.match.infer_rank import rank_near
from simam_deploy.match.judge import Judge, Judgement
from simam_deploy.match.op_sets import FLOATS
from simam_deploy.match.quantised import Unrounded, is_quantised
from simam_deploy.match.subgraph import Cut, DeadEnd, cuts_at, gates_at, is_simam_node, same_numbers
from simam_deploy.match.unverifiable import doubts

RANKS = (3, 4, 5)
MOST_TRIES = 16
"""How many values that one gate may have made are judged before it is left."""
MOST_STEPS = 500_000
"""Nodes walked through in search of blocks; networks have up to some ten thousand."""
MOST_LETTERS = 1000
"""Of a name."""
MOST_CHANNELS = 2**20
"""Of x: some forms hold a number for each. Networks have up to some thousands."""
MOST_NAMED = 2
"""Of MOST_TRIES, how many are asked whether they are a gate's at all, and of what."""


def find(model: ir.Model, on_progress: Callable[[str], None] | None = None) -> Found:
    """Find the SimAM blocks of `model`, in its graph, in the bodies of If and Loop, and of functions that it calls.

    x is (N, C, H, W), (N, C, L) or (N, C, D, H, W). The model is not changed. on_progress is called with a node's
    name before its piece is judged. A block on maps of one value is a near miss.
    """
    search = _Search(model, on_progress or (lambda _: None))
    search.through(model.graph.all_nodes())
    for function in search.called_functions():
        search.through(function.all_nodes(), function)
    search.gates_alone()
    found = search.found()
    return _with_quantised(found, model) if is_quantised(model) else found


def _with_quantised(found: Found, model: ir.Model) -> Found:
    """With near misses for what would be SimAM without the rounding inside."""
    unrounded = Unrounded.of(model)
    search = _Search(unrounded.model, lambda _: None)
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


def shortest(e_lambda: float) -> float:
    """The shortest number near λ. An epsilon is a multiple of λ, rounded: written and read off like this, λ is not
    another one each time."""
    rounded = (float(f"{e_lambda:.{digits}g}") for digits in range(1, 10))
    return next(near for near in rounded if abs(near - e_lambda) <= 2e-7 * e_lambda)


@dataclass(eq=False)
class _Miss:
    near_miss: NearMiss
    nodes: frozenset[ir.Node]
    end: ir.Node
    function: ir.Function | None
    """The one that it is in."""


class _Search:
    def __init__(self, model: ir.Model, say: Callable[[str], None]) -> None:
        self._model = model
        self._say = say
        self._flow = Flow(model)
        self._shapes = Shapes(model)
        self._judge = Judge(self._flow, self._shapes)
        self._ops = Ops(self._flow)
        self._blocks: list[Block] = []
        self._covered: set[ir.Node] = set()
        self._misses: list[_Miss] = []
        self._failed: Counter[ir.Node | None] = Counter()

    def through(self, nodes: Iterable[ir.Node], function: ir.Function | None = None) -> None:
        """Look at every node as the end of a block."""
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
            cuts = [] if self._failed[gate] >= MOST_TRIES else cuts_at(node, self._flow, ends)
            if not cuts:
                continue
            self._say(_name(node))
            judged = (
                _Miss(NearMiss(_name(node), (cuts.reason,)), frozenset({node}), node, function)
                if isinstance(cuts, DeadEnd)
                else self._of(cuts, function)
            )
            if isinstance(judged, Block):
                ends.add(node.outputs[0])
            else:
                judged = self._named(judged) if self._failed[gate] < MOST_NAMED else judged
                self._failed[gate] += gate is not None
            self._take(judged, ends)

    def _named(self, miss: _Miss) -> _Miss:
        """With a word on the gate of one value that is multiplied with another, where it is that."""
        node = miss.end
        data = self._flow.data(node) if node.op_type == "Mul" and not node.domain else []
        for gate, other in zip(data, reversed(data), strict=True) if len(data) == 2 else ():
            if (x := self._gated(gate, miss.function, other)) is not None:
                reason = f"it multiplies {other.name!r} by the gate of {x.name!r}; SimAM takes both of one x"
                return replace(miss, near_miss=NearMiss(_name(node), (reason,)))
        return miss

    def _gated(self, gate: ir.Value, function: ir.Function | None, other: ir.Value | None = None) -> ir.Value | None:
        """The value of which it is the gate that SimAM multiplies it by; made behind `other`, if that is given."""
        for cut in gates_at(gate, self._flow):
            if same_numbers(cut.x, self._flow) is same_numbers(other, self._flow):
                return None
            dtype, variants = self._given(cut, function)
            if self._judgement(cut, dtype, variants, function).e_lambda is not None:
                return cut.x
        return None

    def gates_alone(self) -> None:
        """Gates that multiply nothing."""
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
        """Each function that is called from outside the blocks; ask for the next when the last has been searched."""
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
        """What there is, without near misses that are no news: inside a block, around another near miss, or a call of
        a function and again its body."""
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

    def _of(self, cuts: list[Cut], function: ir.Function | None) -> Block | _Miss:
        """The widest of the pieces that is SimAM, or why the narrowest is none."""
        judgement = Judgement(None)
        for cut in (*reversed([c for c in cuts[1:] if self._same_type(c, function)]), cuts[0]):
            dtype, variants = self._given(cut, function)
            judgement = self._judgement(cut, dtype, variants, function)
            found = judgement.e_lambda or judgement.once_n_is_right
            form = _form_of(cut, self._model)
            block = (
                None
                if found is None or dtype is None
                else Block(
                    _name(cut.inside[-1]),
                    cut.x,
                    cut.y,
                    _alike(variants),
                    dtype,
                    shortest(found) if form == "instance_norm" else float(str(np.float32(found))),
                    form,
                    cut.inside,
                    tuple(cut.shared()),
                    cut.defaults,
                    function,
                )
            )
            if block is not None and judgement.e_lambda is not None:
                return block
        end = cuts[0].inside[-1]
        near_miss = NearMiss(_name(end), judgement.reasons, block)
        return _Miss(near_miss, frozenset(cuts[0].inside), end, function)

    def _of_node(self, node: ir.Node, function: ir.Function | None) -> Block | _Miss:
        """An operator of ours with an epilogue, if it is what it is called."""
        x, y = next(iter(node.inputs), None), node.outputs[0]
        epilogue, e_lambda, reasons = None, 0.0, ["it takes nothing"]
        if x is not None:
            cut = Cut(x, y, (node,), (), (), (), (), (node,))
            dtype, variants = self._given(cut, function)
            unfit = _unfit(dtype, variants)
            if unfit is not None or dtype is None:
                reasons = [unfit or ""]
            else:
                epilogue, e_lambda, reasons = self._ops.read(node, dtype, variants)
            if epilogue is not None and dtype is not None:
                form = _form_of(cut, self._model)
                return Block(
                    _name(node), x, y, _alike(variants), dtype, e_lambda, form, (node,), (), (), function, epilogue
                )
        return _Miss(NearMiss(_name(node), tuple(reasons)), frozenset({node}), node, function)

    def _judgement(
        self, cut: Cut, dtype: ir.DataType | None, variants: list[Dims], function: ir.Function | None
    ) -> Judgement:
        unfit = _unfit(dtype, variants)
        if unfit is not None or dtype is None:
            return Judgement(None, (unfit or "",))
        reasons = doubts(cut)
        if len(types := self._types(cut, function)) > 1:
            reasons += (f"x and y have two types: {', '.join(sorted(t.name for t in types))}",)
        if cut.narrowest < dtype.bitwidth:
            reasons += (f"it rounds to {cut.narrowest} bits inside, and x has {dtype.bitwidth}",)
        if _form_of(cut, self._model) == "custom_op":
            attribute = next(node for node in cut.inside if is_simam_node(node)).attributes.get("e_lambda")
            if attribute is None or attribute.type != ir.AttributeType.FLOAT or not attribute.as_float() > 0:
                reasons += ("it has no body, and no attribute e_lambda > 0",)
        judged = self._judge.judge(cut, variants)
        return Judgement(None, (*judged.reasons, *reasons)) if reasons else judged

    def _given(self, cut: Cut, function: ir.Function | None) -> tuple[ir.DataType | None, list[Dims]]:
        """The type of x, and its shapes: one for each call of the function that it is in. No type if they differ.

        y has the shape of x, where it is SimAM. A shape without axes is unknown.
        """
        near = rank_near(cut.x, self._shapes) or rank_near(cut.y, self._shapes) or 0
        dtype = self._shapes.known_dtype(cut.x) or self._shapes.known_dtype(cut.y) or cut.type_of_constants
        unknown = (dtype or ir.DataType.UNDEFINED, (None,) * (4 if is_simam_node(cut.inside[0]) else near))
        if function is None:
            dims = self._shapes.declared(cut.x) or self._shapes.declared(cut.y) or unknown[1]
            return unknown[0], [dims]
        called = self._shapes.inside(function) or [{}]
        calls = {values.get(str(cut.x.name), values.get(str(cut.y.name), unknown)) for values in called}
        alike = len({(dtype, len(dims)) for dtype, dims in calls}) == 1
        return (next(iter(calls))[0] if alike else None), sorted((dims for _, dims in calls), key=str)

    def _types(self, cut: Cut, function: ir.Function | None) -> set[ir.DataType]:
        """The types that x and y are known to have; those of a function, in its calls."""
        ends = (cut.x, cut.y)
        if function is None:
            return {dtype for dtype in map(self._shapes.known_dtype, ends) if dtype is not None}
        called = self._shapes.inside(function)
        return {values[str(v.name)][0] for values in called for v in ends if str(v.name) in values}

    def _same_type(self, cut: Cut, function: ir.Function | None) -> bool:
        """Whether x and y may have one shape and type."""
        a, b = self._shapes.declared(cut.x), self._shapes.declared(cut.y)
        if len(self._types(cut, function)) > 1:
            return False
        if a is None or b is None:
            return True
        fixed = [(i, j) for i, j in zip(a, b, strict=False) if isinstance(i, int) and isinstance(j, int)]
        return len(a) == len(b) and len(a) in RANKS and all(i == j for i, j in fixed)


def _unfit(dtype: ir.DataType | None, variants: list[Dims]) -> str | None:
    """Why no form of SimAM takes such an x; None if one does."""
    dims = variants[0]
    sizes = [[d if isinstance(d, int) else 2 for d in dims] for dims in variants]
    channels = max((size[1] for size in sizes if len(size) > 1), default=0)
    reasons = {
        "the function that it is in is called with more than one type or rank of x": dtype is None,
        "the file does not tell how many axes x has; infer its shapes before": not dims,
        "the file does not tell the type of x; infer its types before": dtype == ir.DataType.UNDEFINED,
        f"x is {dtype.name if dtype else '?'}; SimAM takes {', '.join(t.name for t in FLOATS)}": dtype not in FLOATS,
        f"x is {len(dims)}-D; SimAM takes (N, C, H, W), (N, C, L) or (N, C, D, H, W)": len(dims) not in RANKS,
        f"x has {channels:,} channels; up to {MOST_CHANNELS:,} are taken": channels > MOST_CHANNELS,
        f"x is empty: {'x'.join(map(str, dims))}": any(d < 1 for size in sizes for d in size),
        "its map is 1x1, where SimAM is 0/0 (M - 1 = 0); take SimAM out there": any(
            math.prod(size[2:]) == 1 for size in sizes
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _alike(variants: list[Dims]) -> Dims:
    """The sizes that are the same in all."""
    return tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*variants, strict=True))


def _name(node: ir.Node) -> str:
    """Of megabytes, the beginning and a hash: it is shown, and the names of twenty new nodes start with it."""
    name = node.name or str(node.outputs[0].name)
    if len(name) <= MOST_LETTERS:
        return name
    return f"{name[:MOST_LETTERS]}...{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:12]}"


def _form_of(cut: Cut, model: ir.Model) -> str:
    ours = next((node for node in cut.inside if is_simam_node(node) or has_epilogue(node)), None)
    if ours is not None:
        return "function" if ours.op_identifier() in model.functions else "custom_op"
    return "instance_norm" if any(n.op_type == "InstanceNormalization" for n in cut.flat) else "primitive"
