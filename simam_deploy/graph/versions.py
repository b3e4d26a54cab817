"""IR version and opsets of the models that `fuse` writes.

Every file keeps its opset: each form exists for each opset from OLDEST_OPSET on.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
import onnx_ir as ir

from simam_deploy.errors import FormError

OLDEST_OPSET = 7
"""The first opset with NumPy broadcasting."""
FUNCTION_IR = 8
"""The first IR version that has model-local functions."""
OVERRIDABLE_IR = 4
"""The first IR version in which an initialiser that is also an input may be replaced by the caller."""
RAISED_OPSET = 13
"""The suggested opset for older files. Most tools read it."""


def refuse_old(scopes: Iterable[ir.Graph | ir.Function]) -> None:
    """Raise FormError for an opset below OLDEST_OPSET."""
    opset = min(scope.opset_imports.get("", 0) for scope in scopes)
    if opset < OLDEST_OPSET:
        raise FormError(
            f"SimAM is written in opset {OLDEST_OPSET} or later; the file has opset {opset}\n"
            f"raise it first, in Python: onnx.version_converter.convert_version(onnx.load(FILE), {RAISED_OPSET})"
        )


def with_functions(model: ir.Model) -> list[str]:
    """Raise the IR version of `model` to one with functions. Returns a note if it changed.

    Before IR version 4 every initialiser is also an input, and still a constant. Later, callers may replace such an
    input, and runtimes optimise less. So this removes initialisers from the inputs.
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
    """Set the opset of `functions` to that of the model where no operator in them changes. Returns notes.

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
