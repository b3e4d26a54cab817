"""Find the SimAM modules of a PyTorch model by the function that they compute, and replace them by ours.

`module.SimAM` computes 16-bit models in float32 and takes M - 1 from the shape of x. So a size that other code
freezes in an export (`float(h * w - 1)`, `torch.tensor(n)`) stays dynamic.

A candidate is the topmost module of a class outside torch, without parameters and buffers in it and below; trial.py
checks it. Hooks, attributes, names and sharing stay; a state_dict has the same keys before and after.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from simam_deploy.errors import InputError
from simam_deploy.pytorch.adopt import observe
from simam_deploy.pytorch.adopt.isolate import hook_dicts
from simam_deploy.pytorch.adopt.report import Adopted, AdoptedModule, LeftAlone, shown
from simam_deploy.pytorch.adopt.swap import Swap, take_over
from simam_deploy.pytorch.adopt.trial import Seen, TrialResult, judge
from simam_deploy.pytorch.module import SimAM
from simam_deploy.pytorch.module_state import refuse_without_weights
from simam_deploy.text import Say

Args = Tensor | tuple[Any, ...] | list[Any] | Mapping[Any, Any]
MOST_STATE = 4
"""Upper bound on the numbers that a candidate holds: λ and a scale are few."""


def adopt(
    model: nn.Module,
    args: Args | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    inplace: bool = False,
    on_progress: Say | None = None,
) -> Adopted:
    """Replace the modules of `model` that compute SimAM, whatever their class, by `module.SimAM` with their λ.

    args, kwargs : example inputs, as `model(*args, **kwargs)`; a list counts as a tuple, a tensor or dict as one
    argument. With them the model runs once in eval mode, with hooks, and each module is checked at the sizes of its
    calls; without, at a few common sizes. Then the model runs again with ours in it, and must return the same tensors
    (in nested tuples, lists, dicts and dataclasses), unless it is random.
    inplace : change `model` instead of a deep copy. A model that is itself SimAM is never changed: the new one is
    `Adopted.model`.
    Ours raises ShapeError on 1x1 maps, which the original may accept; modules with such maps in args stay. A module
    that is also in a plain Python list or dict of the model stays there.
    Raises InputError if the model cannot be copied, does not run on args, or computes another result with ours in it
    (its code may depend on the class or the children of a module); `model` is unchanged then.
    """
    _refuse_other_models(model)
    if not inplace:
        model = _copied(model)
    found = _search(model, args, kwargs, on_progress)
    swap = found.swap()
    try:
        found.put_in(swap)
    except BaseException:
        swap.put_back()
        raise
    return found.report(swap.model)


def _refuse_other_models(model: object) -> None:
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is of type {type(model).__name__}; give a torch.nn.Module")
    refuse_without_weights(model, meta=False)  # the search needs no weights


def _copied(model: nn.Module) -> nn.Module:
    try:
        copied = copy.deepcopy(model)
        if copied is model:
            raise TypeError("its __deepcopy__ returns the model itself")
    except Exception as error:
        raise InputError(
            f"the model cannot be copied: {error}\nadopt(model, inplace=True) changes it where it is"
        ) from error
    return copied


@contextmanager
def adopted(
    model: nn.Module,
    args: Args | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    on_progress: Say | None = None,
) -> Iterator[Adopted]:
    """`adopt` in place, undone on exit. Use `Adopted.model` inside, as the model itself may be SimAM."""
    _refuse_other_models(model)
    found = _search(model, args, kwargs, on_progress)
    swap = found.swap()
    try:
        found.put_in(swap)
        yield found.report(swap.model)
    finally:
        swap.put_back()


def _search(
    model: nn.Module, args: Args | None, kwargs: Mapping[str, Any] | None, on_progress: Say | None
) -> _ModuleSearch:
    if args is not None and not isinstance(args, Tensor | tuple | list | Mapping):
        raise InputError(f"args is of type {type(args).__name__}; give a tensor, or a tuple of what the model takes")
    inputs = None
    if args is not None or kwargs:
        positional = () if args is None else tuple(args) if isinstance(args, tuple | list) else (args,)
        inputs = observe.ModelInputs(positional, kwargs or {})
    found = _ModuleSearch(model, inputs, on_progress or (lambda _: None))
    found.visit(model)
    return found


class _ModuleSearch:
    """Search from the top; visits children if their parent is no SimAM."""

    def __init__(self, model: nn.Module, inputs: observe.ModelInputs | None, say: Say) -> None:
        self._model, self._inputs, self._say = model, inputs, say
        self._names: dict[int, list[str]] = {}
        self._name(model, "", ())
        self._seen: dict[int, Seen] = {}
        self._outputs: list[Tensor] = []
        if inputs is not None:
            say("run the model once, to see the sizes")
            modules = [m for m in model.modules() if not isinstance(m, torch.jit.ScriptModule)]
            self._seen, self._outputs = observe.calls(model, inputs, [m for m in modules if _is_candidate(m)])
        self._visited: dict[int, bool] = {}
        self.accepted: list[tuple[nn.Module, AdoptedModule]] = []
        self.left_alone: list[LeftAlone] = []

    def swap(self) -> Swap:
        return Swap(self._model, [(old, take_over(old, SimAM(e_lambda=row.e_lambda))) for old, row in self.accepted])

    def put_in(self, swap: Swap) -> None:
        """Insert ours and run the model again. Raises InputError if its results differ."""
        swap.put_in()
        if self._inputs is None or not self.accepted:
            return
        self._say("run the model with our SimAM in it")
        got: list[Tensor] | None = None
        try:
            got = observe.outputs(swap.model, self._inputs)
            why = observe.difference(self._outputs, got, self._tolerance())
        except Exception as error:
            why = f"it fails with {type(error).__name__}: {error}"
        if not why:
            return
        swap.put_back()
        if got is None or not self._is_excused(got):
            replaced = "\n".join(f"  {shown(row.names)} ({row.class_name})" for _, row in self.accepted)
            raise InputError(
                f"the model is another one with our SimAM in it: {why}\n"
                f"its code does more with a module that was replaced than call it; replaced were:\n{replaced}\n"
                "adopt(model) cannot be used on it; export it as it is: --no-adopt (adopt=False)"
            )
        swap.put_in()

    def _is_excused(self, got: list[Tensor]) -> bool:
        """Whether a difference is allowed: the original is random, or has 16-bit statistics and ours has not.

        Compares with the original model with statistics in float32.
        """
        assert self._inputs is not None
        try:
            with observe.statistics_in_float32([old for old, _ in self.accepted]):
                one, other = (observe.outputs(self._model, self._inputs) for _ in range(2))
        except Exception:  # it fails at random
            return False
        most = self._tolerance()
        return bool(observe.difference(one, other, most)) or not observe.difference(one, got, most)

    def _tolerance(self) -> float:
        return observe.tolerance(self._model, self._inputs or observe.ModelInputs(()), self._outputs)

    def report(self, model: nn.Module) -> Adopted:
        return Adopted(model, tuple(row for _, row in self.accepted), tuple(self.left_alone))

    def visit(self, module: nn.Module, sealed: str = "") -> bool:
        """Visit `module` and below. Returns whether it is in the report. sealed : reason why it must stay."""
        if id(module) not in self._visited:
            self._visited[id(module)] = False  # a module that contains itself
            self._visited[id(module)] = self._look(module, sealed or _sealed(module))
        return self._visited[id(module)]

    def _look(self, module: nn.Module, sealed: str) -> bool:
        if type(module) is SimAM:
            return True
        names, class_name = tuple(self._names[id(module)]), _class_name(module)
        judged = None
        if _is_candidate(module):
            self._say(f"try {shown(names)} ({class_name})")
            judged = judge(module, self._seen.get(id(module)))
        against = [sealed] * bool(sealed)
        if judged is not None and judged.e_lambda is not None:
            against += [*_own_call(module), *_hooked_children(module)]
            if not judged.reasons and not against:
                self.accepted.append((module, AdoptedModule(names, class_name, judged.e_lambda)))
                return True
        below = [self.visit(child, sealed) for child in module.children()]
        if any(below) or not _worth_saying(class_name, judged):
            return any(below)
        self.left_alone.append(LeftAlone(names, class_name, _reasons(module, judged, against)))
        return True

    def _name(self, module: nn.Module, name: str, above: tuple[int, ...]) -> None:
        if id(module) in above:
            return
        self._names.setdefault(id(module), []).append(name)
        for key, child in module._modules.items():
            if child is not None:
                self._name(child, f"{name}.{key}" if name else key, (*above, id(module)))


def _is_candidate(module: nn.Module) -> bool:
    """Whether to check a module: no class of torch, no SimAM of ours in it, at most MOST_STATE numbers."""
    if type(module).__module__.startswith(("torch.nn.", "torch._dynamo.")) and "forward" not in vars(module):
        return False
    if any(type(m) is SimAM for m in module.modules()):
        return False
    return sum(t.numel() for t in (*module.parameters(), *module.buffers())) <= MOST_STATE


def _sealed(module: nn.Module) -> str:
    """Reason against replacement inside `module`; "" for an ordinary module."""
    if isinstance(module, torch.jit.ScriptModule):
        return "it is TorchScript; adopt before torch.jit.script or torch.jit.trace"
    if "_orig_mod" in module._modules or getattr(module, "_compiled_call_impl", None) is not None:
        return "it is compiled; adopt before torch.compile"
    return ""


def _hooked_children(module: nn.Module) -> list[str]:
    """Reasons for hooks on children, which would be lost. Hooks of the module itself move to our SimAM."""
    hooked = [name for name, child in module.named_modules() if name and any(hook_dicts(child))]
    return [f"there are hooks on its {name}, which would not run any more" for name in hooked]


def _own_call(module: nn.Module) -> list[str]:
    """Reason for a class with its own __call__: the check runs forward alone.

    Classes of torch with a __call__ (GraphModule, TorchScript) run forward and nothing else.
    """
    home = next(c for c in type(module).__mro__ if "__call__" in vars(c))
    return [] if home.__module__.startswith("torch.") else [f"its class {home.__name__} has a __call__ of its own"]


def _worth_saying(class_name: str, judged: TrialResult | None) -> bool:
    near = judged is not None and (judged.is_gate or judged.e_lambda is not None)
    return near or "simam" in class_name.lower()


def _reasons(module: nn.Module, judged: TrialResult | None, against: list[str]) -> tuple[str, ...]:
    if judged is None:
        held = [name for name, _ in (*module.named_parameters(), *module.named_buffers())]
        more = f" and {len(held) - 3} more" if len(held) > 3 else ""
        return (f"it holds {', '.join(held[:3])}{more}; SimAM holds nothing", *against)
    if judged.e_lambda is None:
        return (*judged.reasons, *against)
    return tuple(f"it is SimAM with λ = {judged.e_lambda:g}, but {why}" for why in (*judged.reasons, *against))


def _class_name(module: nn.Module) -> str:
    if isinstance(module, torch.jit.ScriptModule):
        return str(module.original_name)
    return type(module).__name__
