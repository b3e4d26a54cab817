"""Results of the search in an ONNX model: SimAM blocks, near misses, epilogues."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from simam_deploy.formula import OP_NAME, OPS, Op
from simam_deploy.graph.shapes import Dims
from simam_deploy.text import as_table, counted, on_one_line, shape


@dataclass(frozen=True, eq=False)
class Epilogue:
    """The operators between SimAM and y: activation(scale * y + bias + residual).

    scale, bias : (C,) float32.  activation : a name of formula.ACTIVATIONS.
    """

    scale: NDArray[np.float32]
    bias: NDArray[np.float32]
    residual: ir.Value | None = None
    activation: str = "none"

    @property
    def op(self) -> str:
        """Name of our operator for SimAM with this epilogue."""
        wanted = Op(True, self.residual is not None, self.activation)
        return next(name for name, op in OPS.items() if op == wanted)

    @property
    def affine(self) -> bool:
        """Whether scale and bias have an effect."""
        return bool((self.scale != 1).any() or (self.bias != 0).any())


@dataclass(frozen=True, eq=False, repr=False)
class Block:
    """A SimAM block in an onnx_ir model that passed the equivalence check."""

    node: str
    """Name of the node that makes y. Names of new nodes start with it."""
    x: ir.Value
    y: ir.Value
    shape: Dims
    """(N, C, H, W), (N, C, L) or (N, C, D, H, W). A fixed axis is a number, a dynamic one a name or None."""
    dtype: ir.DataType
    e_lambda: float
    form: str
    """Its form in the file. Any spelling in primitive operators is `primitive`."""
    inside: tuple[ir.Node, ...]
    """The nodes from x to y, in graph order."""
    shared: tuple[str, ...] = ()
    """Inner values with uses outside the block, in words. They stay after replacement, and are computed twice."""
    defaults: tuple[str, ...] = ()
    """Graph inputs whose defaults are its constants. It is SimAM as long as callers do not replace them."""
    function: ir.Function | None = None
    """The model-local function whose body holds it; None in the graph and in the bodies of If and Loop."""
    epilogue: Epilogue | None = None
    """The epilogue between SimAM and y, if one of our operators holds both."""

    def __repr__(self) -> str:
        words = f"x {shape(self.shape)} {self.dtype.name}, λ = {self.e_lambda:g}, {self.form}, {self.op}"
        return f"<SimAM block at {on_one_line(self.node)}: {words}>"

    @property
    def op(self) -> str:
        """Name of our operator that computes y from x."""
        return OP_NAME if self.epilogue is None else self.epilogue.op

    @property
    def map_size(self) -> int | None:
        """M, the number of values in a plane (H*W); None if an axis is dynamic."""
        spatial = [d for d in self.shape[2:] if isinstance(d, int)]
        return math.prod(spatial) if len(spatial) == len(self.shape) - 2 else None


@dataclass(frozen=True)
class NearMiss:
    """A subgraph that resembles SimAM but fails the check, or cannot be replaced."""

    node: str
    reasons: tuple[str, ...]
    repaired: Block | None = field(default=None, compare=False)
    """The block that `fuse --repair` makes of it by computing M - 1 from the shape of x."""

    def __str__(self) -> str:
        return "\n  ".join((f"{on_one_line(self.node)}:", *map(on_one_line, self.reasons)))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"node": self.node, "reasons": list(self.reasons), "repairable": self.repaired is not None}


@dataclass(frozen=True, repr=False)
class Found:
    """All blocks of a model, in graph order, and the near misses."""

    blocks: tuple[Block, ...]
    near_misses: tuple[NearMiss, ...]

    @property
    def table(self) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """Column names, and a row for each block."""
        rows = [(b.node, shape(b.shape), b.dtype.name, f"{b.e_lambda:g}", b.form, b.op) for b in self.blocks]
        return ("node", "x", "type", "λ", "form", "operator"), rows

    @property
    def verdict(self) -> str:
        """Numbers of blocks and near misses, in one line."""
        return f"found: {counted(len(self.blocks), 'SimAM block')}, {counted(len(self.near_misses), 'near miss')}"

    def __repr__(self) -> str:
        """The table, the near misses with their reasons, and the verdict."""
        blocks = [as_table(*self.table, right=("λ",))] if self.blocks else []
        return "\n".join((*blocks, *map(str, self.near_misses), self.verdict))

    def in_clone(self, model: ir.Model, clone: ir.Model) -> Found:
        """The same blocks and near misses in `clone`, an unchanged clone of `model`."""
        nodes: dict[ir.Node, ir.Node] = {}
        values: dict[ir.Value, ir.Value] = {}
        functions = dict(zip(model.functions.values(), clone.functions.values(), strict=True))
        pairs: list[tuple[ir.Graph | ir.Function, ir.Graph | ir.Function]] = [(model.graph, clone.graph)]
        for one, other in [*pairs, *functions.items()]:
            nodes.update(zip(one.all_nodes(), other.all_nodes(), strict=True))
            for graph, copy in zip((one, *one.subgraphs()), (other, *other.subgraphs()), strict=True):
                values.update(zip(graph.inputs, copy.inputs, strict=True))
                if isinstance(graph, ir.Graph) and isinstance(copy, ir.Graph):
                    values.update((v, copy.initializers[name]) for name, v in graph.initializers.items())
        for node, twin in nodes.items():
            values.update(zip(node.outputs, twin.outputs, strict=True))

        def moved(block: Block) -> Block:
            epilogue = block.epilogue
            if epilogue is not None and epilogue.residual is not None:
                epilogue = replace(epilogue, residual=values[epilogue.residual])
            return replace(
                block,
                x=values[block.x],
                y=values[block.y],
                inside=tuple(nodes[node] for node in block.inside),
                function=None if block.function is None else functions[block.function],
                epilogue=epilogue,
            )

        misses = (replace(m, repaired=m.repaired and moved(m.repaired)) for m in self.near_misses)
        return Found(tuple(map(moved, self.blocks)), tuple(misses))
