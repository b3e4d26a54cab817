"""A module apart from its model: a copy without hooks, run in float64, that disturbs nobody and is watched."""

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
    """A copy without hooks, in float64 on the CPU. Raises what __deepcopy__ raises, TypeError if it does not copy."""
    # the hooks, and whatever they hold on to, are not even copied: deepcopy takes these empty ones for copies
    no_hooks: dict[int, Any] = {id(held): OrderedDict() for m in module.modules() for held in hook_dicts(m)}
    made = copy.deepcopy(module, no_hooks)
    if _parts(made) & _parts(module):
        raise TypeError("its __deepcopy__ does not copy all of it")
    return made.to("cpu", torch.float64)


def hook_dicts(module: nn.Module) -> list[dict[Any, Any]]:
    """Where a module keeps its hooks, those of state_dict included."""
    named = vars(module).items()
    return [held for name, held in named if name[0] == "_" and "_hooks" in name and isinstance(held, dict)]


def _parts(module: nn.Module) -> set[int]:
    """What a trial of a copy may change, by identity."""
    return {id(part) for part in (*module.modules(), *module.parameters(), *module.buffers())}


class Watch:
    """Sees which attributes of a module, and of those in it, are written from now on."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._before = [(m, dict(vars(m)), _contents(m)) for m in module.modules()]

    def written(self) -> set[str]:
        """Their names: set to another value, or a list, dict or set with other values in it."""
        names = {k for m, before, _ in self._before for k, v in vars(m).items() if before.get(k, before) is not v}
        names |= {k for m, _, before in self._before for k, v in _contents(m).items() if before.get(k, v) != v}
        return names - {"forward"}  # TorchScript's own


def _contents(module: nn.Module) -> dict[str, list[_Same]]:
    """What the lists, dicts and sets among the attributes of `module` hold; not the dicts of every nn.Module."""
    found = {}
    for name, held in vars(module).items():
        if isinstance(held, list | dict | set | deque) and name not in _EVERY_MODULE:
            flat = [*held, *held.values()] if isinstance(held, dict) else held
            found[name] = [_Same(value) for value in flat]
    return found


class _Same:
    """A value that equals itself alone: == of a tensor is a tensor."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    __hash__ = None  # type: ignore[assignment]


@contextmanager
def undisturbed() -> Iterator[None]:
    """What the module prints and warns of while it is tried tells nobody anything; its random numbers are its own."""
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.default_generator.manual_seed(0)  # the same verdict each time
        warnings.simplefilter("ignore")
        with redirect_stdout(io.StringIO()), np.errstate(all="ignore"), uncompiled():
            yield


@contextmanager
def uncompiled() -> Iterator[None]:
    """Inside, compiled code runs as it was written: to see what it does is no reason to compile for minutes."""
    compiles = "torch._dynamo" in sys.modules  # to import it takes seconds
    with torch.compiler.set_stance("force_eager") if compiles else nullcontext():
        yield
