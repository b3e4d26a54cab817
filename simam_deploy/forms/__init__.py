"""How a SimAM block is written in ONNX. A form is a module with

    NAME, MIN_OPSET
    reasons_against(block) -> list[str]      why this form cannot lower `block`; empty if it can
    nodes(block, opset) -> list[ir.Node]     nodes and constants from block.x to the output of the last one;
                                             names start with block.node, the last node has that very name
    functions(opset) -> list[ir.Function]    what the file must carry besides

Adding one: its file, its line in FORMS, its test.
"""

from __future__ import annotations

from types import ModuleType

from simam_deploy.errors import InputError
from simam_deploy.forms import custom_op, function, instance_norm, primitive

FORMS: dict[str, ModuleType] = {form.NAME: form for form in (function, primitive, instance_norm, custom_op)}


def form_named(name: str) -> ModuleType:
    """The form of that name. Raises InputError, listing the names, if there is none."""
    if name not in FORMS:
        raise InputError(f"there is no form {name!r}; the forms are {', '.join(FORMS)}")
    return FORMS[name]
