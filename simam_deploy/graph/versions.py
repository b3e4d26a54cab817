"""The IR version and the opsets of a model that `fuse` writes in.

Every file keeps its opset, as each form can be written in each opset from OLDEST_OPSET on.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
import onnx_ir as ir

from simam_deploy.errors import FormError

OLDEST_OPSET = 7
"""The first whose operators broadcast as NumPy does."""
FUNCTION_IR = 8
"""The first IR version that has model-local functions."""
OVERRIDABLE_IR = 4
"""The first IR version in which an initialiser that is also an input may be replaced by the caller."""
RAISED_OPSET = 13
"""Where to raise older files to: widely read."""


def refuse_old(scopes: Iterable[ir.Graph | ir.Function]) -> None:
    """Raise FormError for an opset in which no form can be written."""
    opset = min(scope.opset_imports.get("", 0) for scope in scopes)
    if opset < OLDEST_OPSET:
        raise FormError(
            f"SimAM is written in opset {OLDEST_OPSET} or later; the file has opset {opset}\n"
            f"raise it first, in Python: onnx.version_converter.convert_version(onnx.load(FILE), {RAISED_OPSET})"
        )


def with_functions(model: ir.Model) -> list[str]:
    """Give `model` an IR version that has functions; a note, if that is another one.

    Before IR version 4 every initialiser was listed as an input, and was a constant all the same. Later such an input
    may be replaced by the caller, and runtimes optimise less. So those are taken off the list of inputs.
    """
    before = model.ir_version
    if before >= FUNCTION_IR:
        return []
    if before < OVERRIDABLE_IR:
        inputs = [value for value in model.graph.inputs if not value.is_initializer()]
        model.graph.inputs.clear()
        model.graph.inputs.extend(inputs)
    model.ir_version = FUNCTION_IR
    return [f"IR version raised from {before} to {FUNCTION_IR}, the first with functions"]


def with_one_opset(model: ir.Model, functions: Iterable[ir.Function]) -> list[str]:
    """Give `functions` the opset of the model where no operator in them changes; notes on those that had another.

    ONNX Runtime reads the nodes of a function in the opset of the model, and the onnx checker in both.
    """
    notes = []
    opset = model.opset_imports[""]
    for function in dict.fromkeys(functions):
        before = function.opset_imports.get("")
        if before not in (None, opset) and all(_is_same(node, before, opset) for node in function.all_nodes()):
            function.opset_imports[""] = opset
            notes.append(
                f"function {function.domain}::{function.name} now names opset {opset}, that of the model, "
                f"for {before}; its operators are the same in both"
            )
    return notes


def _is_same(node: ir.Node, one: int, other: int) -> bool:
    if node.domain:
        return True
    try:
        return bool(
            onnx.defs.get_schema(node.op_type, one).since_version
            == onnx.defs.get_schema(node.op_type, other).since_version
        )
    except onnx.defs.SchemaError:
        return False
