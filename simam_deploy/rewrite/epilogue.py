"""Fold the epilogue of a SimAM block into one operator: SimAM, BatchNormalization, add, activation.

From y on, the search follows the steps of `formula.OPS`, as long as no other node uses a value in between: affine
steps with constants per channel, in any number, then the addition of a residual, then an activation. The new scale
and bias are computed in float64 and rounded once. The result is checked against the original operators
(match/epilogue.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from simam_deploy.block import Block, Epilogue
from simam_deploy.formula import Float64, reference
from simam_deploy.graph.number_types import UP_TO_32_BITS
from simam_deploy.graph.shapes import Shapes, is_open
from simam_deploy.match.dataflow import Flow
from simam_deploy.match.epilogue import difference, steps

TYPES = UP_TO_32_BITS
"""Of x. Scale and bias become float32, so those of a 16-bit network keep the values that they have."""
MAP = (3, 5)
"""Map size of the probes. Positions behind SimAM are independent."""


def with_epilogues(model: ir.Model, blocks: list[Block]) -> tuple[list[Block], list[str]]:
    """Extend blocks by their epilogues. Returns the blocks, and notes on epilogues that stay.

    blocks : of `model`, in graph order. Extends blocks of TYPES on (N, C, H, W) with fixed C, outside functions.
    """
    search = _EpilogueSearch(model, blocks)
    return [search.grown(block) for block in blocks], search.notes


@dataclass
class _Path:
    """The epilogue found so far, and its end y."""

    y: ir.Value
    scale: Float64
    bias: Float64
    nodes: list[ir.Node] = field(default_factory=list)
    residual: ir.Value | None = None
    activation: str = "none"

    def take(self, *nodes: ir.Node) -> None:
        self.nodes += nodes
        self.y = nodes[-1].outputs[0]


class _EpilogueSearch:
    def __init__(self, model: ir.Model, blocks: Iterable[Block]) -> None:
        self.notes: list[str] = []
        self._flow = Flow(model)
        self._shapes = Shapes(model)
        self._taken = {node for block in blocks for node in block.inside}

    def grown(self, block: Block) -> Block:
        """The block extended by its epilogue, or the block itself."""
        channels = block.shape[1] if len(block.shape) == 4 else None
        if block.epilogue is not None or block.function is not None or not isinstance(channels, int):
            return block
        path = _Path(block.y, np.ones(channels), np.zeros(channels))
        reason = self._walk(path, block)
        epilogue = Epilogue(
            path.scale.astype(np.float32), path.bias.astype(np.float32), path.residual, path.activation
        )
        grows = epilogue.op != "SimAMAffine" or epilogue.affine
        if grows and block.dtype not in TYPES:
            grows, reason = False, f"it is {block.dtype.name}, and the operator takes FLOAT, FLOAT16 and BFLOAT16"
        elif grows and (differs := self._difference(path, epilogue, block)) is not None:
            grows, reason = False, differs
        if reason is not None:
            self.notes.append(f"{block.node}: {'a part of ' if grows else ''}its epilogue stays: {reason}")
        if not grows:
            return block
        self._taken.update(path.nodes)
        return replace(block, y=path.y, inside=(*block.inside, *path.nodes), epilogue=epilogue)

    def _walk(self, path: _Path, block: Block) -> str | None:
        """Follow the epilogue to its end. Returns a reason if a step nearly fits."""
        while (node := self._next(path.y)) is not None:
            step = self._affine(node, path.y, len(path.scale))
            if isinstance(step, str):
                return step
            if step is None:
                break
            with np.errstate(all="ignore"):
                scale, bias = path.scale * step[0], path.bias * step[0] + step[1]
                held = np.isfinite([v.astype(np.float32) for v in (scale, bias)]).all()
            if not held:
                return f"with {node.name!r} scale or bias would be NaN, inf or too large for float32"
            path.scale, path.bias = scale, bias
            path.take(node)
        if node is not None and node.op_type == "Add":
            residual = next(v for v in node.inputs if v is not path.y)
            if residual is None or not self._same_shape(residual, block):
                return f"it is not sure that {residual.name if residual else None!r} has the shape of x"
            path.residual = residual
            path.take(node)
        if (node := self._next(path.y)) is not None and node.op_type == "Relu":
            path.activation = "relu"
            path.take(node)
        elif silu := self._silu(path.y):
            path.activation = "silu"
            path.take(*silu)
        return None

    def _next(self, y: ir.Value) -> ir.Node | None:
        """The only user of y, if it may join the epilogue."""
        users = self._users(y)
        return users[0] if len(users) == 1 else None

    def _users(self, y: ir.Value) -> list[ir.Node]:
        """Users of y, once per use; none if y leaves its graph, or if a block holds one of them."""
        maker, users = y.producer(), [use.node for use in y.uses()]
        assert maker is not None
        free = all(node.graph is maker.graph and not node.domain and node not in self._taken for node in users)
        return users if free and not y.is_graph_output() else []

    def _silu(self, y: ir.Value) -> tuple[ir.Node, ...]:
        """The nodes that compute y * sigmoid(y), if y has no other use."""
        users = self._users(y)
        if len(users) == 1 and users[0].op_type == "Swish" and _number(users[0], "alpha", 1.0) == 1:
            return (users[0],)
        for gate in users if len(users) == 2 else ():
            product = self._next(gate.outputs[0]) if gate.op_type == "Sigmoid" else None
            if product in users and product is not None and product.op_type == "Mul":
                return gate, product
        return ()

    def _affine(self, node: ir.Node, y: ir.Value, channels: int) -> tuple[Float64, Float64] | str | None:
        """Scale and bias equivalent to `node` on y. None if there are none; a reason if the node nearly fits."""
        one, zero = np.ones(channels), np.zeros(channels)
        if node.op_type == "Identity" or (node.op_type == "Dropout" and self._flow.does_nothing(node)):
            return one, zero
        if node.op_type == "BatchNormalization" and node.inputs[0] is y:
            return self._batch_norm(node, channels)
        if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(node.inputs) != 2:
            return None
        first = node.inputs[0] is y
        c = self._per_channel(node.inputs[first], channels)
        if c is None or (node.op_type == "Div" and not (first and c.all())):
            return None
        if node.op_type in ("Mul", "Div"):
            return (c if node.op_type == "Mul" else 1 / c), zero
        return (one, c) if node.op_type == "Add" else (one, -c) if first else (-one, c)

    def _batch_norm(self, node: ir.Node, channels: int) -> tuple[Float64, Float64] | str:
        training, epsilon = _number(node, "training_mode", 0), _number(node, "epsilon", 1e-5)
        if training is None or epsilon is None:
            return f"an attribute of {node.name!r} is no number"
        if training or any(v.name for v in node.outputs[1:]):
            return f"{node.name!r} is in training mode"
        read = [self._per_channel(value, channels, flat=True) for value in node.inputs[1:]]
        gamma, beta, mean, variance = read if len(read) == 4 else [None] * 4
        if gamma is None or beta is None or mean is None or variance is None:
            return f"the parameters of {node.name!r} are not four constants of {channels} numbers"
        with np.errstate(all="ignore"):
            scale = gamma / np.sqrt(variance + epsilon)
            bias = beta - mean * scale
        return (scale, bias) if np.isfinite(scale).all() else f"{node.name!r} divides by 0"

    def _per_channel(self, value: ir.Value | None, channels: int, *, flat: bool = False) -> Float64 | None:
        """A constant as one number per channel of (N, C, H, W); None for other values.

        flat : expect the shape (C,); otherwise one that broadcasts to (1, C, 1, 1).
        """
        tensor = self._flow.held(value)
        if tensor is None or tensor.dtype not in TYPES or tensor.size not in (1, channels):
            return None
        sizes = tuple(tensor.shape.numpy())
        fitting = [(channels,)] if flat else [(1, channels, 1, 1), (channels, 1, 1)]
        if sizes not in fitting and (flat or tensor.size != 1 or len(sizes) > 4):
            return None
        return np.broadcast_to(np.asarray(tensor.numpy(), dtype=np.float64).reshape(-1), (channels,))

    def _same_shape(self, residual: ir.Value, block: Block) -> bool:
        """Whether a value has the shape of the block's x, as declared, or in every trial.

        Trials count with one dynamic input only: they do not vary two inputs independently.
        """
        dims = self._shapes.declared(residual)
        if dims == block.shape and not is_open(dims):
            return True
        given = (v.shape for v in self._flow.model.graph.inputs)
        free = [shape for shape in given if shape is None or not all(isinstance(d, int) for d in shape)]
        pairs = [(trial.get(str(residual.name)), trial.get(str(block.x.name))) for trial in self._shapes.trials]
        return len(free) == 1 and len(pairs) > 1 and all(a == b is not None for a, b in pairs)

    def _difference(self, path: _Path, epilogue: Epilogue, block: Block) -> str | None:
        """Difference between the epilogue and the original operators, or None."""
        inputs = [block.y, *([] if path.residual is None else [path.residual])]
        made = {v for node in path.nodes for v in node.outputs} | {*inputs}
        held = dict.fromkeys(v for node in path.nodes for v in node.inputs if v is not None and v not in made)

        def run(x: Float64, residual: Float64) -> Float64:
            return compute(*(reference(x, block.e_lambda), residual)[: len(inputs)])

        try:
            compute = steps(self._flow.model, path.nodes, inputs, list(held), path.y)
            return difference(run, epilogue, block.e_lambda, [(2, len(epilogue.scale), *MAP)])
        except Exception as error:  # the evaluator raises many types
            return f"they do not run by themselves: {error}"


def _number(node: ir.Node, name: str, default: float) -> float | None:
    """An attribute, or its default; None if it is no number, or refers to a function attribute."""
    attribute = node.attributes.get(name)
    if attribute is None:
        return default
    numbers = (ir.AttributeType.FLOAT, ir.AttributeType.INT)
    return float(attribute.value) if attribute.type in numbers and not attribute.is_ref() else None
