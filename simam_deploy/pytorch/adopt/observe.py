"""A model run on example inputs, in eval mode: how it calls its modules, and whether a swap changed its outputs."""

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
class Inputs:
    """What a model is called with: `model(*positional, **keywords)`, nested as it likes."""

    positional: tuple[Any, ...]
    keywords: Mapping[str, Any] = field(default_factory=dict)

    def call(self, model: nn.Module) -> Any:
        """What `model` returns for copies of them, as a model may write into its inputs."""
        args, kwargs = mapped((self.positional, dict(self.keywords)), _copied)
        return model(*args, **kwargs)


def _copied(leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, Tensor) else leaf


MOST, MOST_HALF = 1e-3, 5e-2
"""Most that an output may differ, in parts of its largest magnitude. Both models compute the same formula in another
order of float operations, about 1e-6 apart in float32 and 1e-2 in 16 bits, and the layers behind amplify that; a
branch of the model that is taken wrongly changes an output by parts of its own size."""


def outputs(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """Every tensor in what the model returns, nested too. The model is as before, with the caches that it had."""
    with preserved(model), torch.no_grad(), uncompiled():
        returned = inputs.call(to_eval(model))
        return [tensor.clone() for tensor in _tensors(returned)]  # a model may return what it writes into later


def calls(model: nn.Module, inputs: Inputs, candidates: Sequence[nn.Module]) -> tuple[dict[int, Seen], list[Tensor]]:
    """How the candidates of `model` are called when it runs, and its outputs. Raises InputError if it does not."""
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
    """Inside, the modules compute 16-bit x in float32, as ours does: where theirs overflows they differ by design."""
    dtypes: list[torch.dtype] = []

    def widen(_: nn.Module, given: tuple[Any, ...]) -> Any:
        dtypes.append(given[0].dtype)
        return (given[0].float(),) if given[0].dtype in HALF else None

    def narrow(_: nn.Module, given: tuple[Any, ...], y: Tensor) -> Tensor | None:
        dtype = dtypes.pop()
        return y.to(dtype) if dtype in HALF else None

    handles: list[RemovableHandle] = []
    try:
        for module in modules:  # right around forward: hooks of other people see what they saw
            handles.append(module.register_forward_pre_hook(widen))
            handles.append(module.register_forward_hook(narrow, prepend=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def difference(expected: Sequence[Tensor], got: Sequence[Tensor], most: float) -> str:
    """How the outputs differ by more than `most`; "" if they do not."""
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


def tolerance(model: nn.Module, inputs: Inputs, results: Sequence[Tensor]) -> float:
    """The wider one if there are 16 bits anywhere."""
    held = (*model.parameters(), *model.buffers(), *_tensors((inputs.positional, inputs.keywords)), *results)
    return MOST_HALF if any(t.dtype in HALF for t in held) else MOST


def _tensors(value: Any) -> Iterator[Tensor]:
    return (leaf for _, leaf in named(value) if isinstance(leaf, Tensor))
