"""Isolation of a module from its model: a copy without hooks in float64, without output, with watched attributes."""

from __future__ import annotations

import copy
import io
import sys
import warnings
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import Any

import numpy as np
import torch
from torch import nn

_EVERY_MODULE = frozenset(vars(nn.Module()))


def copied(module: nn.Module) -> nn.Module:
    """Copy without hooks, in float64 on the CPU. Raises errors of __deepcopy__, and TypeError if it does not copy."""
    # deepcopy takes these empty dicts for the copies, so hooks and their references are not copied
    no_hooks: dict[int, Any] = {id(held): OrderedDict() for m in module.modules() for held in hook_dicts(m)}
    made = copy.deepcopy(module, no_hooks)
    if _parts(made) & _parts(module):
        raise TypeError("its __deepcopy__ does not copy all of it")
    return made.to("cpu", torch.float64)


def hook_dicts(module: nn.Module) -> list[dict[Any, Any]]:
    """Dicts with the hooks of a module, including those of state_dict."""
    named = vars(module).items()
    return [held for name, held in named if name[0] == "_" and "_hooks" in name and isinstance(held, dict)]


def _parts(module: nn.Module) -> set[int]:
    """Identities of all modules, parameters and buffers."""
    return {id(part) for part in (*module.modules(), *module.parameters(), *module.buffers())}


class AttributeWatch:
    """Detects writes to attributes of a module and its children from now on."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._before = [(m, dict(vars(m)), _contents(m)) for m in module.modules()]

    def written(self) -> set[str]:
        """Names of changed attributes: another value, or a list, dict or set with other values."""
        names = {k for m, before, _ in self._before for k, v in vars(m).items() if before.get(k, before) is not v}
        names |= {k for m, _, before in self._before for k, v in _contents(m).items() if before.get(k, v) != v}
        return names - {"forward"}  # TorchScript's own


def _contents(module: nn.Module) -> dict[str, list[_Same]]:
    """Values in lists, dicts and sets among the attributes of `module`, without the dicts of every nn.Module."""
    found = {}
    for name, held in vars(module).items():
        if isinstance(held, list | dict | set | deque) and name not in _EVERY_MODULE:
            flat = [*held, *held.values()] if isinstance(held, dict) else held
            found[name] = [_Same(value) for value in flat]
    return found


class _Same:
    """Compares by identity, as == of a tensor is a tensor."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    __hash__ = None  # type: ignore[assignment]


@contextmanager
def undisturbed() -> Iterator[None]:
    """Inside, suppress output and warnings, and keep the random state of the caller."""
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.default_generator.manual_seed(0)  # for a reproducible result
        warnings.simplefilter("ignore")
        with redirect_stdout(io.StringIO()), np.errstate(all="ignore"), uncompiled():
            yield


@contextmanager
def uncompiled() -> Iterator[None]:
    """Inside, run compiled code eagerly, as compilation may take minutes."""
    compiles = "torch._dynamo" in sys.modules  # its import takes seconds
    with torch.compiler.set_stance("force_eager") if compiles else nullcontext():
        yield
