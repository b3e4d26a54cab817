"""The forms of a SimAM block in ONNX. A form is a module with

    NAME
    reasons_against(block) -> list[str]      why this form cannot lower `block`; empty if it can
    nodes(block, opset, types) -> list[ir.Node]      nodes and constants from block.x to the output of the last one;
                                                     names start with block.node, the last node has that very name
    functions(opset, ops, types) -> list[ir.Function]    functions that the file must carry, for these of formula.OPS
    EPILOGUE                                       whether `nodes` also writes block.epilogue; else epilogue.py does

opset : of the file, from versions.OLDEST_OPSET on.  types : of x, of all blocks in the file.
To add one: its file, its line in FORMS, its test.
"""

from __future__ import annotations

from types import ModuleType

import onnx_ir as ir

from simam_deploy.block import Block
from simam_deploy.errors import FormError, InputError, ShapeError
from simam_deploy.formula import DEFAULT_LAMBDA, OP_DOMAIN, OP_NAME, OP_VERSION
from simam_deploy.graph.shapes import Dims
from simam_deploy.graph.versions import OLDEST_OPSET
from simam_deploy.rewrite.forms import custom_op, function, instance_norm, primitive

FORMS: dict[str, ModuleType] = {form.NAME: form for form in (function, primitive, instance_norm, custom_op)}


def form_named(name: str, *, epilogue: bool = False) -> ModuleType:
    """The form of that name. Raises InputError if there is none.

    epilogue : also raise InputError if the form has no node with an epilogue.
    """
    if name not in FORMS:
        raise InputError(f"there is no form {name!r}; the forms are {', '.join(FORMS)}")
    if epilogue and not FORMS[name].EPILOGUE:
        able = " or ".join(form for form in FORMS if FORMS[form].EPILOGUE)
        raise InputError(
            f"form {name!r} has no node that an epilogue folds into; use --form {able}, or --no-epilogue"
        )
    return FORMS[name]


def alone(form: str, shape: Dims, e_lambda: float = DEFAULT_LAMBDA, *, opset: int = 18) -> ir.Model:
    """A model x -> y of one float32 SimAM block, to test a runtime.

    shape : (N, C, L), (N, C, H, W) or (N, C, D, H, W); a name makes an axis dynamic.
    Raises ShapeError for another rank, FormError if the form cannot lower it.
    """
    chosen = form_named(form)
    if not 3 <= len(shape) <= 5:
        raise ShapeError(f"SimAM takes x of shape (N, C, L), (N, C, H, W) or (N, C, D, H, W); got {shape}")
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape))
    block = Block("simam", x, x, shape, ir.DataType.FLOAT, e_lambda, form, ())
    reasons = chosen.reasons_against(block)
    if opset < OLDEST_OPSET:
        reasons = [*reasons, f"opsets from {OLDEST_OPSET} on can"]
    if reasons:
        raise FormError(f"form {form!r} cannot carry x of shape {shape} at opset {opset}: {', '.join(reasons)}")
    nodes = chosen.nodes(block, opset, {block.dtype})
    y = nodes[-1].outputs[0]
    y.name, y.type, y.shape = "y", x.type, ir.Shape(shape)
    imports = {"": opset, **({OP_DOMAIN: OP_VERSION} if any(n.domain == OP_DOMAIN for n in nodes) else {})}
    graph = ir.Graph([x], [y], nodes=nodes, opset_imports=imports, name="simam")
    return ir.Model(graph, ir_version=8, functions=chosen.functions(opset, [OP_NAME], {block.dtype}))
