"""Model-local functions and opset imports of the models that `fuse` writes."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import onnx_ir as ir

from simam_deploy.block import Block
from simam_deploy.errors import FormError
from simam_deploy.formula import OP_DOMAIN, OP_VERSION, OPS
from simam_deploy.graph.shapes import Shapes
from simam_deploy.text import on_one_line

FALLBACKS = {(OP_DOMAIN, name, "") for name in OPS}
"""Identifiers of the fallback definitions of our operators."""

NameScope = ir.Graph | ir.Function


def scopes(model: ir.Model) -> list[NameScope]:
    """Scopes of names and opsets: the graph, and each function except our fallback definitions."""
    return [model.graph, *(f for f in model.functions.values() if f.identifier() not in FALLBACKS)]


def scope_of(block: Block, model: ir.Model) -> NameScope:
    """The scope that holds the block."""
    return model.graph if block.function is None else block.function


def called(model: ir.Model) -> set[tuple[str, str, str]]:
    """Functions of the model that the graph or another function calls."""
    names = {node.op_identifier() for scope in scopes(model) for node in scope.all_nodes()}
    return names & model.functions.keys()


def declare_calls(model: ir.Model, blocks: Iterable[Block]) -> None:
    """Declare the output types of functions that hold a custom node, which ONNX Runtime cannot infer.

    Raises FormError if another function calls such a function: a type cannot be declared there.
    """
    holding = {block.function.identifier() for block in blocks if block.function is not None}
    for scope in scopes(model)[1:]:
        for node in scope.all_nodes():
            if node.op_identifier() in holding:
                name, caller = (on_one_line(name) for name in (f"{node.domain}::{node.op_type}", scope.name or ""))
                raise FormError(
                    f"form 'custom_op' cannot lower the SimAM block in the function {name}, "
                    f"which the function {caller} calls: ONNX Runtime does not open such a file\n"
                    "inline the functions first (onnx.inliner), or use --form function"
                )
    shapes = Shapes(model)
    for node in model.graph.all_nodes() if holding else ():
        for value in node.outputs if node.op_identifier() in holding else ():
            if value.type is None and (dtype := shapes.known_dtype(value)) is not None:
                value.type = ir.TensorType(dtype)


def clean_functions(
    model: ir.Model,
    written: Iterable[ir.Function],
    called_before: set[tuple[str, str, str]],
    kept: Collection[ir.Node],
) -> None:
    """Add the functions in `written` to `model`, and remove those without a call.

    called_before : functions called before `fuse`. Only these are removed; unused functions of the user stay.
    kept : nodes with names of our operators that are not ours. Their functions stay.
    """
    for identifier in FALLBACKS - {node.op_identifier() for node in kept}:
        model.functions.pop(identifier, None)
    for function in written:
        model.functions[function.identifier()] = function
    for identifier in called_before - called(model) - FALLBACKS:
        del model.functions[identifier]


def clean_imports(model: ir.Model) -> None:
    """Import the domain of our operators exactly in the scopes that need it."""
    for scope in scopes(model):
        version = scope.opset_imports.pop(OP_DOMAIN, OP_VERSION)
        ours = any(f.domain == OP_DOMAIN for f in model.functions.values()) and scope is model.graph
        if ours or any(node.domain == OP_DOMAIN for node in scope.all_nodes()):
            scope.opset_imports[OP_DOMAIN] = version
