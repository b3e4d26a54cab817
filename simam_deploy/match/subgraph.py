"""A closed subgraph of an ONNX graph with one data input and one output, and what stands in it."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from simam_deploy.formula import OP_DOMAIN, OP_NAME
from simam_deploy.match.dataflow import constant
from simam_deploy.match.op_sets import (
    FLOATS,
    PASSING,
    PICKING,
    REGROUPING,
    TWO_SIDED,
    cast_to,
)

MOST_NAMED = 8
"""Upper bound on the values that a near miss names."""
MOST_AROUND = 500
"""Upper bound on the nodes that compute sizes and constants of a block. Code for dynamic sizes has up to 50."""


@dataclass(frozen=True, eq=False)
class Subgraph:
    """A closed subgraph with one data input, `x`, and one output, `y`."""

    x: ir.Value
    y: ir.Value
    inside: tuple[ir.Node, ...]
    """Nodes that depend on the values of x, in order. The last makes y."""
    around: tuple[ir.Node, ...]
    """Nodes that compute sizes and constants for `inside`, in order. Incomplete if more than MOST_AROUND."""
    sizes: tuple[ir.Node, ...]
    """Shape nodes that measure a value outside the subgraph, such as a graph input."""
    constants: tuple[ir.Value, ...]
    defaults: tuple[str, ...]
    """Names of graph inputs among `constants`: callers may replace their values."""
    flat: tuple[ir.Node, ...]
    """`inside` with each function call replaced by the data nodes of the function body."""
    is_gate: bool = False
    """Whether y is a gate alone. The check then takes x * y."""

    @property
    def picks(self) -> bool:
        """Whether an operator inside selects a part of the data."""
        return any(node.op_type in PICKING for node in self.flat)

    @property
    def uniform(self) -> bool:
        """Whether all planes are treated alike: no operator selects a channel, no constant has a channel axis.

        Then a few channels represent all. Otherwise the check must run at the real size.
        """
        return self.batched and all(t.size == 1 for t in self._floats())

    @property
    def batched(self) -> bool:
        """Whether all batch elements are treated alike. Channels may differ."""
        if any(node.op_type in PICKING | REGROUPING for node in self.flat):
            return False
        axes = len(self.x.shape or ()) or 3
        return all(t.size == 1 or len(t.shape) < axes or t.shape[0] == 1 for t in self._floats())

    def _floats(self) -> list[ir.TensorProtocol]:
        inner = [v for node in self.flat for v in node.inputs if v is not None]
        found = (constant(v) for v in (*self.constants, *inner))
        return [t for t in found if t is not None and t.dtype in FLOATS]

    @property
    def narrowest(self) -> int:
        """Bits of the narrowest float type of any cast inside; 64 without a cast."""
        casts = (cast_to(node) for node in (*self.around, *self.flat))
        return min((to.bitwidth for to in casts if to in FLOATS), default=64)

    @property
    def type_of_constants(self) -> ir.DataType | None:
        """The one float type of all constants, hence of the data. None if there is none, or with a cast."""
        tensors = (constant(value) for value in self.constants)
        types = {tensor.dtype for tensor in tensors if tensor is not None and tensor.dtype in FLOATS}
        casts = any(cast_to(node) is not None for node in self.flat)
        return next(iter(types)) if len(types) == 1 and not casts else None

    @property
    def two_sided(self) -> list[ir.Node]:
        """Operators with two branches on data, such as Clip: a probe must reach both. Max and Min of two inputs."""
        many = [node for node in self.inside if node.op_type in ("Max", "Min") and len(node.inputs) > 2]
        return [node for node in self.inside if node.op_type in TWO_SIDED and node not in many]

    def shared(self) -> list[str]:
        """Inner values with uses outside. They stay when the block is replaced, and are computed twice."""
        closed = {*self.inside, *self.around}
        found = []
        for value in (
            v for node in self.inside if node.op_type not in PASSING for v in node.outputs if v is not self.y
        ):
            if value.is_graph_output():
                found.append(f"{value.name!r} is also an output of the graph")
            found += [
                f"{value.name!r} is also used by {use.node.op_type} {use.node.name!r}"
                for use in value.uses()
                if use.node not in closed
            ]
        return found


def is_simam_node(node: ir.Node) -> bool:
    """Whether `node` is the op of this package."""
    return node.domain == OP_DOMAIN and node.op_type == OP_NAME
