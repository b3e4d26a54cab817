"""What torch looks up anew for every export by torch.export, looked up once: an export takes half as long.

The tables of torchlib (each function's source is parsed) and the operators that C++ registered depend on the versions
that are installed, not on the model. `test_torch_lookups.py` compares the files with and without.
"""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Callable
from typing import Any

REGISTRY, OPERATORS = "torch.onnx._internal.exporter._registration", "torch._export.utils"


def keep() -> None:
    """Keep what is looked up from now on, in this process; of modules that are not imported yet, nothing is kept.

    Both are torch's own: a version without them looks up as it likes, and takes longer.
    """
    if registry := getattr(sys.modules.get(REGISTRY), "ONNXRegistry", None):
        _once(registry, "from_torchlib", _registry_once)
    if operators := sys.modules.get(OPERATORS):
        _once(operators, "_materialize_cpp_cia_ops", _operators_once)


def _once(owner: Any, name: str, wrapped: Callable[..., Any]) -> None:
    original = getattr(owner, name, None)
    if original is not None and not hasattr(original, "looks_up"):
        made = wrapped(original)
        made.looks_up = original
        setattr(owner, name, staticmethod(made) if isinstance(owner, type) else made)


def _registry_once(build: Callable[..., Any]) -> Callable[..., Any]:
    built = functools.cache(build)

    def from_torchlib(*arguments: Any, **named: Any) -> Any:
        """A registry of its own, as an export may add operators to it."""
        registry = copy.copy(built(*arguments, **named))
        registry.functions = {target: list(found) for target, found in registry.functions.items()}
        return registry

    return from_torchlib


def _operators_once(look: Callable[[], None]) -> Callable[[], None]:
    import torch

    seen = 0

    def once() -> None:
        """Again whenever an operator was registered since."""
        nonlocal seen
        if (count := len(torch._C._dispatch_get_all_op_names())) != seen:
            look()
            seen = count

    return once
