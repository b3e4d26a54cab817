"""Runs of a model on example inputs in eval mode: calls of its modules, and changes of its outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from simam_deploy.errors import InputError, SimAMDeployError
from simam_deploy.pytorch.adopt.isolate import uncompiled
from simam_deploy.pytorch.adopt.trial import Seen
from simam_deploy.pytorch.module_state import preserved, to_eval
from simam_deploy.pytorch.nested import mapped, named
from simam_deploy.pytorch.to_float64 import HALF


@dataclass(frozen=True)
class ModelInputs:
    """Arguments of a model, `model(*positional, **keywords)`, nested in any way."""

    positional: tuple[Any, ...]
    keywords: Mapping[str, Any] = field(default_factory=dict)

    def call(self, model: nn.Module) -> Any:
        """Call `model` with copies, as it may write into its inputs."""
        args, kwargs = mapped((self.positional, dict(self.keywords)), _copied)
        return model(*args, **kwargs)


def _copied(leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, Tensor) else leaf


MOST, MOST_HALF = 1e-3, 5e-2
"""Tolerance of an output, relative to its largest magnitude. Both models compute the same formula in another order,
about 1e-6 apart in float32 and 1e-2 in 16 bits, and later layers amplify that. A wrong branch changes an output by a
large part of its size."""


def outputs(model: nn.Module, inputs: ModelInputs) -> list[Tensor]:
    """All tensors in the result of a model. Leaves the model unchanged, including its caches."""
    with preserved(model), torch.no_grad(), uncompiled():
        returned = inputs.call(to_eval(model))
        return [tensor.clone() for tensor in _tensors(returned)]  # a model may return what it writes into later


def calls(
    model: nn.Module, inputs: ModelInputs, candidates: Sequence[nn.Module]
) -> tuple[dict[int, Seen], list[Tensor]]:
    """Calls of the candidates in a run of `model`, and its outputs. Raises InputError if it does not run."""
    seen: dict[int, Seen] = {}

    def note(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        before = seen.get(id(module), Seen())
        if len(given) == 1 and not named and isinstance(given[0], Tensor):
            seen[id(module)] = Seen((*before.shapes, tuple(given[0].shape)), before.odd)
        else:
            how = f"it is called with {len(given)} arguments" + (f" and {', '.join(named)}=" if named else "")
            seen[id(module)] = Seen(before.shapes, (*before.odd, how))

    handles: list[RemovableHandle] = []
    try:
        for module in candidates:
            handles.append(module.register_forward_pre_hook(note, with_kwargs=True))
        return seen, outputs(model, inputs)
    except SimAMDeployError:
        raise
    except Exception as error:
        raise InputError(f"the model does not run on the inputs given: {error}") from error
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def statistics_in_float32(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Inside, the modules compute 16-bit x in float32, as ours does: 16-bit statistics may overflow."""
    dtypes: list[torch.dtype] = []

    def widen(_: nn.Module, given: tuple[Any, ...]) -> Any:
        dtypes.append(given[0].dtype)
        return (given[0].float(),) if given[0].dtype in HALF else None

    def narrow(_: nn.Module, given: tuple[Any, ...], y: Tensor) -> Tensor | None:
        dtype = dtypes.pop()
        return y.to(dtype) if dtype in HALF else None

    handles: list[RemovableHandle] = []
    try:
        for module in modules:  # directly around forward: other hooks see the original types
            handles.append(module.register_forward_pre_hook(widen))
            handles.append(module.register_forward_hook(narrow, prepend=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def difference(expected: Sequence[Tensor], got: Sequence[Tensor], most: float) -> str:
    """Description of a difference above `most`, or ""."""
    if len(expected) != len(got):
        return f"it returns {len(got)} tensors in place of {len(expected)}"
    for i, (a, b) in enumerate(zip(expected, got, strict=True)):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"output {i} is {b.dtype} {tuple(b.shape)} in place of {a.dtype} {tuple(a.shape)}"
        if a.is_meta or not (a.is_floating_point() or a.is_complex()):
            continue  # labels and counts may fall either way at a tie
        wide = torch.complex128 if a.is_complex() else torch.float64
        x, y = a.cpu().to(wide), b.cpu().to(wide)
        finite = x.isfinite()
        if not torch.equal(finite, y.isfinite()):
            return f"output {i} is infinite or NaN in other places"
        if finite.any():
            off, scale = (x - y)[finite].abs().max().item(), x[finite].abs().max().item()
            if off > most * scale:
                return f"output {i} differs by {off:.3g}, where its largest value is {scale:.3g}"
    return ""


def tolerance(model: nn.Module, inputs: ModelInputs, results: Sequence[Tensor]) -> float:
    """MOST_HALF if any tensor has 16 bits, else MOST."""
    held = (*model.parameters(), *model.buffers(), *_tensors((inputs.positional, inputs.keywords)), *results)
    return MOST_HALF if any(t.dtype in HALF for t in held) else MOST


def _tensors(value: Any) -> Iterator[Tensor]:
    return (leaf for _, leaf in named(value) if isinstance(leaf, Tensor))
