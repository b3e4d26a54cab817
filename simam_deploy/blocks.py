"""SimAM blocks in an ONNX model: found by what they compute, whatever their spelling or exporter.

A block is a piece of the graph from x to y = x * gate(x) that is closed and parameter-free (cut.py) and that,
run by itself in float64, is SimAM for one λ (proof.py). What is not is left alone; if it came close it is a
near miss, with the reasons.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from simam_deploy.cut import Cut, Runner, cuts_at, is_simam_node, reasons_against_body
from simam_deploy.proof import Shape, Verdict, prove
from simam_deploy.shapes import Dims, Shapes

HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@dataclass(frozen=True, eq=False)
class Block:
    """A proven SimAM block in an onnx_ir model."""

    node: str
    """Name of the node that makes y; names of new nodes start with it."""
    x: ir.Value
    y: ir.Value
    shape: Dims
    """(N, C, L), (N, C, H, W) or (N, C, D, H, W): a number where fixed, a name or None where dynamic."""
    dtype: ir.DataType
    e_lambda: float
    form: str
    """The form it has in the file; any spelling in primitive operators is `primitive`."""
    inside: tuple[ir.Node, ...]
    """The nodes from x to y, in graph order."""

    @property
    def map_size(self) -> int | None:
        """M, the product of all axes from 2 on, or None where one of them is dynamic."""
        fixed = [size for size in self.shape[2:] if isinstance(size, int)]
        return math.prod(fixed) if len(fixed) == len(self.shape) - 2 else None


@dataclass(frozen=True)
class NearMiss:
    """A piece that looks like SimAM and is not, or cannot be replaced."""

    node: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return "\n  ".join((f"{self.node}:", *self.reasons))


@dataclass(frozen=True)
class Found:
    """All blocks of a model, in graph order, and what came close."""

    blocks: tuple[Block, ...]
    near_misses: tuple[NearMiss, ...]


def find(model: ir.Model, on_progress: Callable[[str], None] | None = None) -> Found:
    """Find the SimAM blocks of `model`, sub-graphs included. The model is not changed.

    on_progress is called with a node's name before its piece is judged. A block on maps of 1x1, on x that is not
    4-D, or with an inner value used elsewhere is a near miss.
    """
    shapes = Shapes(model)
    blocks: list[Block] = []
    misses: list[NearMiss] = []
    for node in model.graph.all_nodes():
        for cut in cuts_at(node):
            if on_progress is not None:
                on_progress(node.name or "?")
            judged = _judge(cut, model, shapes)
            (blocks if isinstance(judged, Block) else misses).append(judged)  # type: ignore[arg-type]
    return Found(tuple(blocks), tuple(misses))


def _judge(cut: Cut, model: ir.Model, shapes: Shapes) -> Block | NearMiss:
    name = cut.inside[-1].name or str(cut.y.name)
    dims = shapes.declared(cut.x)
    if dims is not None and len(dims) != 4:
        return NearMiss(name, (f"x is {len(dims)}-D; SimAM takes (N, C, H, W)",))
    dims = dims or (None, None, None, None)
    if dims[2:] == (1, 1):
        return NearMiss(name, ("its map is 1x1, where SimAM is 0/0 (M - 1 = 0); take SimAM out there",))
    form = _form_of(cut, model)
    verdict = _declared_lambda(cut) if form == "custom_op" else _prove(cut, dims, model, shapes)
    reasons = cut.reasons
    if shapes.dtype(cut.x) not in HALF and any(_rounds_to_half(node) for node in cut.inside):
        reasons += ("it rounds to 16 bits inside, and x has more",)
    if form == "function":
        reasons += reasons_against_body(model.functions[cut.inside[-1].op_identifier()])
    if verdict.e_lambda is None or reasons:
        return NearMiss(name, verdict.reasons + reasons)
    e_lambda = float(str(np.float32(verdict.e_lambda)))
    x, y, inside = _with_casts(cut, shapes)
    return Block(inside[-1].name or name, x, y, dims, shapes.dtype(x), e_lambda, form, inside)


def _rounds_to_half(node: ir.Node) -> bool:
    return node.op_type == "Cast" and node.attributes["to"].as_int() in HALF


def _form_of(cut: Cut, model: ir.Model) -> str:
    last = cut.inside[-1]
    if is_simam_node(last):
        return "function" if last.op_identifier() in model.functions else "custom_op"
    return "instance_norm" if any(n.op_type == "InstanceNormalization" for n in cut.inside) else "primitive"


def _declared_lambda(cut: Cut) -> Verdict:
    """λ of a node without a body: there is nothing to run, so the attribute is all there is."""
    attribute = cut.inside[-1].attributes.get("e_lambda")
    if attribute is None or attribute.type != ir.AttributeType.FLOAT or not attribute.as_float() > 0:
        return Verdict(None, ("it has no body, and no attribute e_lambda > 0",))
    return Verdict(attribute.as_float())


def _prove(cut: Cut, dims: Dims, model: ir.Model, shapes: Shapes) -> Verdict:
    if cut.picks and not all(isinstance(d, int) for d in dims):
        return Verdict(
            None, ("it picks out a part of x, and the sizes of x are not fixed, so that cannot be judged",)
        )
    verdict = Verdict(None, ("the sizes of x could not be inferred for any input size tried",))
    e_lambda = None
    for shape, measured in _proof_sizes(cut, dims, shapes):
        verdict = _prove_at(shape, cut, model, measured)
        if verdict.e_lambda is None:
            guessed = f"it was judged at {shape[2]}x{shape[3]}, as the file does not tell the size of x"
            return Verdict(None, (*verdict.reasons, guessed)) if None in dims[2:] and not cut.sizes else verdict
        if e_lambda is not None and abs(verdict.e_lambda / e_lambda - 1) > 1e-6:
            return Verdict(None, (f"λ depends on the size of the map: {e_lambda:g} and {verdict.e_lambda:g}",))
        e_lambda = verdict.e_lambda
    return verdict


def _prove_at(shape: Shape, cut: Cut, model: ir.Model, measured: list[tuple[int, ...]]) -> Verdict:
    """Where all planes are treated alike, a few batch elements of three channels are enough, if they fit."""
    run = Runner(cut, model, measured)
    failure: Exception | None = None
    small = (min(shape[0], 5), 3, *shape[2:])
    for tried in (small, shape) if cut.uniform else (shape,):
        try:
            return prove(run, [tried])
        except Exception as error:  # whatever the evaluator says of a piece that does not fit
            failure = error
    return Verdict(None, (f"it does not run by itself: {failure}",))


def _proof_sizes(cut: Cut, dims: Dims, shapes: Shapes) -> Iterator[tuple[Shape, list[tuple[int, ...]]]]:
    """Sizes of x to judge at, each with the shapes of what the piece measures elsewhere."""
    fixed = [d if isinstance(d, int) else None for d in dims]
    if not cut.sizes:
        for n, c, h, w in ((2, 3, 6, 7), (5, 7, 9, 5), (3, 12, 60, 50)) if None in fixed else ((2, 2, 2, 2),):
            yield (fixed[0] or n, fixed[1] or c, fixed[2] or h, fixed[3] or w), []
        return
    for trial in shapes.trials:
        at = trial.get(str(cut.x.name), ())
        measured = [trial.get(str(node.inputs[0].name), ()) for node in cut.sizes if node.inputs[0] is not None]
        if len(at) == 4 and at[2] * at[3] > 1 and all(measured):
            yield (at[0], at[1], at[2], at[3]), measured


def _with_casts(cut: Cut, shapes: Shapes) -> tuple[ir.Value, ir.Value, tuple[ir.Node, ...]]:
    """A block in float32 between casts from and to a half type is a block of that type."""
    before = cut.x.producer()
    uses = list(cut.y.uses())
    if before is None or before.op_type != "Cast" or len(uses) != 1 or cut.y.is_graph_output():
        return cut.x, cut.y, cut.inside
    x, after = before.inputs[0], uses[0].node
    if x is None or shapes.dtype(x) not in HALF or shapes.dtype(cut.x) != ir.DataType.FLOAT:
        return cut.x, cut.y, cut.inside
    if after.op_type != "Cast" or after.attributes["to"].as_int() != shapes.dtype(x):
        return cut.x, cut.y, cut.inside
    return x, after.outputs[0], (*cut.inside, after)
