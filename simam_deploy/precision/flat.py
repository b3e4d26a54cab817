"""A model without the functions of others, and with its constants as initializers and known types."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass

from simam_deploy.graph.onnx_file import constants
from simam_deploy.graph.round_low import inline
from simam_deploy.graph.shapes import Shapes
from simam_deploy.graph.versions import OVERRIDABLE_IR, with_functions
from simam_deploy.rewrite.functions import FALLBACKS

NAMED = "simam_deploy.named"
"""Key of the mark of a node that has a name in the file."""


def flat(model: ir.Model) -> tuple[ir.Model, list[str]]:
    """A flat copy with unique names, and notes. Raises as `flatten`."""
    made = model.clone()
    for node in made.graph.all_nodes():
        node.meta[NAMED] = bool(node.name)
    notes = flatten(made)
    NameFixPass()(made)
    return made, notes


def flatten(model: ir.Model) -> list[str]:
    """Flatten `model` in place; return notes. Raises InputError if a function cannot be inlined."""
    notes: list[str] = []
    if model.ir_version < OVERRIDABLE_IR:  # its weights are inputs too, and constants
        notes += with_functions(model)
    others = [name for name in model.functions if name not in FALLBACKS]
    if others:
        inline(model, lambda function: function.identifier() not in FALLBACKS)
        named = ", ".join(sorted({f"{domain}::{name}" for domain, name, _ in others}))
        notes.append(f"functions inlined: {named}")
    constants.lift(model)
    shapes = Shapes(model)
    for graph in model.graphs():
        for value in (*graph.inputs, *(v for node in graph for v in node.outputs)):
            if value.type is None and (dtype := shapes.known_dtype(value)) is not None:
                value.type = ir.TensorType(dtype)
    return notes
