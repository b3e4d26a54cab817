"""Find the SimAM modules of a PyTorch model by what they compute, and put ours in their place.

What that is good for: `module.SimAM` computes half models in float32 and takes M - 1 from the shape of x, so a size
that somebody's code freezes in an export (`float(h * w - 1)`, `torch.tensor(n)`) stays dynamic.

A candidate is the topmost module of a class that is not torch's own, without parameters and buffers in it and below;
trial.py judges it. Its hooks, attributes, names and sharing stay; a state_dict has the same keys before and after.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from simam_deploy.adopt.trial import Judgement, Seen, hook_dicts, judge, uncompiled
from simam_deploy.errors import InputError, SimAMDeployError
from simam_deploy.module import SimAM

Say = Callable[[str], None]
Args = Tensor | tuple[Any, ...]
MOST_STATE = 4
"""A module that holds more numbers than this is not tried: λ and a scale are few."""


@dataclass(frozen=True)
class Row:
    """A module that was replaced."""

    names: tuple[str, ...]
    """All its dotted names, if it is shared; "" is the model itself."""
    class_name: str
    e_lambda: float


@dataclass(frozen=True)
class LeftAlone:
    """A module that is called SimAM, or comes close to it, and was not replaced."""

    names: tuple[str, ...]
    class_name: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return "\n  ".join((f"{shown(self.names)} ({self.class_name}):", *self.reasons))


@dataclass(frozen=True)
class Adopted:
    """A model with our SimAM in it, and what was done; rows and left_alone are in the order of the model."""

    model: nn.Module
    rows: tuple[Row, ...]
    left_alone: tuple[LeftAlone, ...]


def adopt(
    model: nn.Module, args: Args | None = None, *, inplace: bool = False, on_progress: Say | None = None
) -> Adopted:
    """Replace the modules of `model` that compute SimAM, whatever their class, by `module.SimAM` with their λ.

    args : example inputs, as `model(*args)`. With them the model runs once in eval mode, hooks included, and each
    module is tried at the sizes that it sees; without, at a few sizes that most modules take.
    inplace : change `model`; by default a deep copy is changed. A model that is SimAM itself is not changed in place
    either: the new one is `Adopted.model`.
    Raises InputError if the model cannot be copied, or does not run on args.
    """
    if not inplace:
        try:
            model = copy.deepcopy(model)
        except Exception as error:
            raise InputError(
                f"the model cannot be copied: {error}\nadopt(model, inplace=True) changes it where it is"
            ) from error
    found = _search(model, args, on_progress)
    return found.report(_Swap(model, found.proven).model)


@contextmanager
def adopted(model: nn.Module, args: Args | None = None, *, on_progress: Say | None = None) -> Iterator[Adopted]:
    """`adopt` in place for a while: on exit `model` is as it was. Use `Adopted.model` inside, as it may be SimAM."""
    found = _search(model, args, on_progress)
    swap = _Swap(model, found.proven)
    try:
        yield found.report(swap.model)
    finally:
        swap.put_back()


def shown(names: tuple[str, ...]) -> str:
    """The names of one module as people read them."""
    return ", ".join(name or "the model itself" for name in names)


def _search(model: nn.Module, args: Args | None, on_progress: Say | None) -> _Search:
    say = on_progress or (lambda _: None)
    seen = None
    if args is not None:
        say("run the model once, to see the sizes")
        seen = _calls(model, (args,) if isinstance(args, Tensor) else tuple(args))
    found = _Search(model, seen, say)
    found.visit(model)
    return found


class _Search:
    """A walk from the top, children after their parent has failed."""

    def __init__(self, model: nn.Module, seen: Mapping[int, Seen] | None, say: Say) -> None:
        self._names: dict[int, list[str]] = {}
        self._name(model, "", ())
        self._seen, self._say = seen or {}, say
        self._visited: dict[int, bool] = {}
        self.proven: list[tuple[nn.Module, Row]] = []
        self.left_alone: list[LeftAlone] = []

    def report(self, model: nn.Module) -> Adopted:
        return Adopted(model, tuple(row for _, row in self.proven), tuple(self.left_alone))

    def visit(self, module: nn.Module, sealed: str = "") -> bool:
        """Look at `module` and below; return whether there is anything to say about it. sealed : why it must stay."""
        if id(module) not in self._visited:
            self._visited[id(module)] = False  # a module that holds itself, through others
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
            against += _hooked_children(module)
            if not judged.reasons and not against:
                self.proven.append((module, Row(names, class_name, judged.e_lambda)))
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
    """Worth a trial: no class of torch's, without our SimAM in it, and with next to no state."""
    if type(module).__module__.startswith(("torch.nn.", "torch._dynamo.")) and "forward" not in vars(module):
        return False
    if any(type(m) is SimAM for m in module.modules()):
        return False
    return sum(t.numel() for t in (*module.parameters(), *module.buffers())) <= MOST_STATE


def _sealed(module: nn.Module) -> str:
    """Why nothing is replaced in `module`; "" if it is an ordinary module."""
    if isinstance(module, torch.jit.ScriptModule):
        return "it is TorchScript; adopt before torch.jit.script or torch.jit.trace"
    if "_orig_mod" in module._modules or getattr(module, "_compiled_call_impl", None) is not None:
        return "it is compiled; adopt before torch.compile"
    return ""


def _hooked_children(module: nn.Module) -> list[str]:
    """Its own hooks move to our SimAM; those of its children would never run again."""
    hooked = [name for name, child in module.named_modules() if name and any(hook_dicts(child))]
    return [f"there are hooks on its {name}, which would not run any more" for name in hooked]


def _worth_saying(class_name: str, judged: Judgement | None) -> bool:
    near = judged is not None and (judged.is_gate or judged.e_lambda is not None)
    return near or "simam" in class_name.lower()


def _reasons(module: nn.Module, judged: Judgement | None, against: list[str]) -> tuple[str, ...]:
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


class _Swap:
    """Ours put in the place of theirs, everywhere in a model."""

    def __init__(self, model: nn.Module, proven: list[tuple[nn.Module, Row]]) -> None:
        self._pairs = [(old, _replacement(old, row.e_lambda)) for old, row in proven]
        new_of = {id(old): new for old, new in self._pairs}
        self._places: list[tuple[dict[str, Any], str, nn.Module]] = []
        self.model = new_of.get(id(model), model)
        for parent in list(model.modules()):
            for key, child in list(parent._modules.items()):
                if id(child) in new_of and id(parent) not in new_of:
                    assert child is not None
                    self._places.append((parent._modules, key, child))
        for children, key, old in self._places:
            children[key] = new_of[id(old)]
        for old, new in self._pairs:
            _rebind_hooks(old, new)

    def put_back(self) -> None:
        for children, key, old in self._places:
            children[key] = old
        for old, _ in self._pairs:
            _rebind_hooks(old, old)


def _replacement(old: nn.Module, e_lambda: float) -> SimAM:
    """Ours, with what people put on theirs: hooks, the mode, attributes. The very dicts of the hooks move, as the
    handles that remove hooks refer to them."""
    new = SimAM(e_lambda=e_lambda)
    ours = {"_modules", "forward", "e_lambda", "_compiled_call_impl"}
    vars(new).update({key: value for key, value in vars(old).items() if key not in ours})
    return new


def _rebind_hooks(held: nn.Module, module: nn.Module) -> None:
    """Hooks on load_state_dict hold the module that they are called with, weakly."""
    hooks: Iterable[Any] = held._load_state_dict_pre_hooks.values()
    for hook in hooks:
        if getattr(hook, "with_module", False):
            hook.module = weakref.ref(module)


def _calls(model: nn.Module, args: tuple[Any, ...]) -> dict[int, Seen]:
    """How the candidates of `model` are called when it runs on args, in eval mode."""
    seen: dict[int, Seen] = {}

    def note(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        before = seen.get(id(module), Seen())
        if len(given) == 1 and not named and isinstance(given[0], Tensor):
            seen[id(module)] = Seen((*before.shapes, tuple(given[0].shape)), before.odd)
        else:
            how = f"it is called with {len(given)} arguments" + (f" and {', '.join(named)}=" if named else "")
            seen[id(module)] = Seen(before.shapes, (*before.odd, how))

    modules = [m for m in model.modules() if not isinstance(m, torch.jit.ScriptModule)]
    training = [m for m in model.modules() if m.training]
    handles = [m.register_forward_pre_hook(note, with_kwargs=True) for m in modules if _is_candidate(m)]
    try:
        model.eval()
        with torch.no_grad(), uncompiled():
            model(*(a.clone() if isinstance(a, Tensor) else a for a in args))
    except SimAMDeployError:
        raise
    except Exception as error:
        raise InputError(f"the model does not run on the inputs given: {error}") from error
    finally:
        for handle in handles:
            handle.remove()
        for module in training:
            module.training = True
    return seen
