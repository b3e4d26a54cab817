"""Replacement of modules everywhere in a model, and its undoing."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from simam_deploy.pytorch.module import SimAM


class Swap:
    """`put_in` changes the model; `put_back` undoes it, even after an interruption.

    replacements : pairs of old and new module.
    """

    def __init__(self, model: nn.Module, replacements: Iterable[tuple[nn.Module, SimAM]]) -> None:
        self._pairs = list(replacements)
        new_of: Mapping[int, SimAM] = {id(old): new for old, new in self._pairs}
        self._places: list[tuple[dict[str, Any], str, nn.Module, SimAM]] = []
        self.model = new_of.get(id(model), model)
        for parent in list(model.modules()):
            for key, child in list(parent._modules.items()):
                if child is not None and id(child) in new_of and id(parent) not in new_of:
                    self._places.append((parent._modules, key, child, new_of[id(child)]))

    def put_in(self) -> None:
        """Insert the new modules."""
        for children, key, _, new in self._places:
            children[key] = new
        for old, new in self._pairs:
            _rebind_hooks(old, new)

    def put_back(self) -> None:
        """Restore the old modules. May be called twice."""
        for children, key, old, _ in self._places:
            children[key] = old
        for old, _ in self._pairs:
            _rebind_hooks(old, old)


def take_over(old: nn.Module, new: SimAM) -> SimAM:
    """Move hooks, mode and attributes from `old` to `new`. Moves the dicts of hooks, to which handles refer."""
    ours = {"_modules", "forward", "e_lambda", "_compiled_call_impl"}
    vars(new).update({key: value for key, value in vars(old).items() if key not in ours})
    return new


def _rebind_hooks(held: nn.Module, module: nn.Module) -> None:
    """Bind load_state_dict hooks, which hold a weak reference to their module, to `module`."""
    hooks: Iterable[Any] = held._load_state_dict_pre_hooks.values()
    for hook in hooks:
        if getattr(hook, "with_module", False):
            hook.module = weakref.ref(module)
