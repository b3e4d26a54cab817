"""The inputs and outputs of an operator that may be of a 16-bit type, by the schemas of ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import onnx
import onnx_ir as ir

from simam_deploy.formula import OP_DOMAIN, OPS

FLOAT = ir.DataType.FLOAT


def low_slots(node: ir.Node, opset: int, dtype: ir.DataType) -> tuple[set[int], set[int]] | None:
    """Indices of the inputs and outputs that take `dtype`; None if the operator is unknown.

    opset : of the default domain.
    """
    if node.domain == OP_DOMAIN and node.op_type in OPS:
        op = OPS[node.op_type]
        return {0, *([3] if op.residual else [])}, {0}
    if node.domain:
        return None
    found = _allowed(node.op_type, opset, f"tensor({dtype.name.lower()})")
    if found is None:
        return None
    takes, gives = found
    return _matching(takes, len(node.inputs)), _matching(gives, len(node.outputs))


@lru_cache(maxsize=1024)
def _allowed(op_type: str, opset: int, low: str) -> tuple[tuple[bool, ...], tuple[bool, ...]] | None:
    """For each formal input and output, whether it takes the type."""
    try:
        schema: Any = onnx.defs.get_schema(op_type, opset)
    except onnx.defs.SchemaError:
        return None
    types = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}

    def takes(formal: Any) -> bool:
        return low in types.get(formal.type_str, {formal.type_str})

    return tuple(map(takes, schema.inputs)), tuple(map(takes, schema.outputs))


def _matching(formals: Sequence[bool], count: int) -> set[int]:
    """The last formal parameter counts for all further ones: it is variadic."""
    return {at for at in range(count) if formals and formals[min(at, len(formals) - 1)]}
