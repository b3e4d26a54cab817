"""The inputs and outputs of an operator that may be of a 16-bit type, by the schemas of ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import onnx
import onnx_ir as ir

from simam_deploy.formula import OP_DOMAIN, OPS
from simam_deploy.precision.low_types import LowType

FLOAT = ir.DataType.FLOAT
Slots = tuple[set[int], set[int]]
"""Indices of the inputs and of the outputs that take the type."""
BROKEN = frozenset({"MeanVarianceNormalization"})
"""Operators that onnx defines by a function with float32 constants inside, so that runtimes refuse a 16-bit input."""
FOLLOWS = frozenset({"Cast", "DequantizeLinear"})
"""Operators whose result has a type of its own that the conversion sets: by an attribute, or by the scale."""


def low_slots(node: ir.Node, opset: int, low: LowType) -> Slots | str:
    """Indices of the inputs and outputs that take `low`, or why there are none.

    opset : of the default domain.
    """
    if node.domain == OP_DOMAIN and node.op_type in OPS:
        op = OPS[node.op_type]
        return {0, *([3] if op.residual else [])}, {0}
    found = None if node.domain else _allowed(node.op_type, opset, f"tensor({low.dtype.name.lower()})")
    if found is None:
        return f"its operator {node.domain}::{node.op_type} is not known to take {low.name}"
    if isinstance(found, str):
        return found
    if node.attributes.get_int("output_dtype", 0):
        return f"{node.op_type} names the type of its result"
    takes, gives = found
    return _matching(takes, len(node.inputs)), _matching(gives, len(node.outputs))


@lru_cache(maxsize=1024)
def _allowed(op_type: str, opset: int, low: str) -> tuple[tuple[bool, ...], tuple[bool, ...]] | str | None:
    """For each formal input and output, whether it takes the type."""
    try:
        schema: Any = onnx.defs.get_schema(op_type, opset)
    except onnx.defs.SchemaError:
        return None
    types = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}

    def types_of(formal: Any) -> set[str]:
        return types.get(formal.type_str, {formal.type_str})

    if op_type in BROKEN:
        return f"{op_type} is defined for float32"
    if any(not any(t.startswith("tensor(") for t in types_of(f)) for f in (*schema.inputs, *schema.outputs)):
        return f"{op_type} works on sequences"
    takes, gives = ([low in types_of(f) for f in formals] for formals in (schema.inputs, schema.outputs))
    read = {formal.type_str for formal in schema.inputs}
    free = [formal for formal in schema.outputs if low in types_of(formal) and formal.type_str not in read]
    if free and op_type not in FOLLOWS:
        return f"{op_type} names the type of its result"
    if op_type == "LayerNormalization":
        gives[1:] = [False, False]  # of the type that the statistics are computed in
    return tuple(takes), tuple(gives)


def _matching(formals: Sequence[bool], count: int) -> set[int]:
    """The last formal parameter counts for all further ones: it is variadic."""
    return {at for at in range(count) if formals and formals[min(at, len(formals) - 1)]}
