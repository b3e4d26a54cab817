"""Run PyTorch modules without lasting changes: restore what a forward writes on them."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from simam_deploy.errors import InputError
from simam_deploy.pytorch.nested import named


@contextmanager
def preserved(model: nn.Module, *, values: bool = False) -> Iterator[None]:
    """On exit, restore class and attributes of each module in `model`: mode, caches, hooks, children.

    Restores the contents of lists, dicts and sets too. values : also restore tensors written in place, such as
    buffers, and requires_grad of parameters; costs a copy of all tensors but the parameters.
    """
    modules = list(model.modules())
    scripted = [(m, m.training) for m in modules if isinstance(m, torch.jit.ScriptModule)]
    classes = [(m, type(m)) for m in modules]  # of a Lazy module: the first run makes it another
    attributes = [(vars(m), dict(vars(m))) for m in modules if not isinstance(m, torch.jit.ScriptModule)]
    held: dict[int, Any] = {}
    for _, before in attributes:
        _containers(list(before.values()), held)
    contents = [(container, copy.copy(container)) for container in held.values()]
    grads = [(p, p.requires_grad) for p in model.parameters()] if values else []
    written = _written(model, attributes) if values else []
    try:
        yield
    finally:
        for now, before in attributes:
            for name in now.keys() - before.keys():
                del now[name]
            now.update(before)
        for module, kind in classes:
            if type(module) is not kind:
                module.__class__ = kind
        for container, before in contents:
            _refill(container, before)
        for module, training in scripted:
            module.training = training
        for parameter, needed in grads:
            if parameter.requires_grad != needed:
                parameter.requires_grad_(needed)
        with torch.no_grad():
            for tensor, version, value in written:
                if tensor._version != version:
                    tensor.copy_(value)


def refuse_without_weights(model: nn.Module, *, meta: bool = True) -> None:
    """Raise InputError for a Lazy module before its first run. meta : also for parameters on the meta device."""
    for name, module in model.named_modules():
        which = f"{name or 'the model itself'} ({type(module).__name__})"
        held = [*module._parameters.values(), *module._buffers.values()]
        if any(is_lazy(tensor) for tensor in held):
            raise InputError(f"{which} has no weights yet: run the model once on an example, or load its weights")
        if meta and any(tensor is not None and tensor.is_meta for tensor in module._parameters.values()):
            raise InputError(f"{which} is on the meta device and has no weights: build it on the CPU, or load them")


def to_eval(model: nn.Module) -> nn.Module:
    """`model.eval()`, except for the module of a torch.export program, whose mode is in its graph."""
    try:
        return model.eval()
    except NotImplementedError:
        for module in model.modules():
            module.training = False
        return model


def leave_inference_mode(model: nn.Module) -> None:
    """Replace parameters and buffers of inference mode, which torch.export refuses, by ordinary copies.

    `preserved` restores them.
    """
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.is_inference():
                module._parameters[name] = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_inference():
                module._buffers[name] = buffer.clone()


def opened(model: nn.Module) -> nn.Module:
    """The module inside the wrapper of torch.compile; `model` itself without one.

    Raises InputError for hooks on the wrapper, which would be lost, as they are in a copy of it.
    """
    while "_orig_mod" in model._modules and type(model).__module__.startswith("torch._dynamo."):
        inner = model.get_submodule("_orig_mod")
        if model._forward_hooks or model._forward_pre_hooks:
            raise InputError(
                f"there are hooks on what torch.compile made of {type(inner).__name__}; "
                "put them on the module itself, before it is compiled"
            )
        model = inner
    return model


def uncompile(model: nn.Module) -> bool:
    """Undo torch.compile for each module in `model`; return whether one was compiled.

    `preserved` restores the compiled state. Functions outside the modules stay compiled. Raises InputError as
    `opened`.
    """
    found = False
    for module in [m for m in model.modules() if not isinstance(m, torch.jit.ScriptModule)]:
        attributes = vars(module)
        new: dict[str, Any] = {}
        for name, value in {**_of_class(type(module)), **attributes}.items():
            original = vars(value).get("_torchdynamo_orig_callable") if isinstance(value, FunctionType) else None
            if original is not None and not hasattr(value, "_torchdynamo_disable"):
                new[name] = original if name in attributes else MethodType(original, module)
        if module._compiled_call_impl is not None:
            new["_compiled_call_impl"] = None
        attributes.update(new)
        wrapped = {k: opened(m) for k, m in module._modules.items() if m is not None and opened(m) is not m}
        module._modules.update(wrapped)
        found |= bool(new or wrapped)
    return found


def _of_class(kind: type) -> dict[str, Any]:
    """Names of all attributes of its classes."""
    return {name: value for held in reversed(kind.__mro__) for name, value in vars(held).items()}


def deep_copy(model: nn.Module) -> nn.Module:
    """Deep copy. Detaches tensors with a gradient history, which torch does not copy."""
    memo: dict[int, Any] = {}
    modules = list(model.modules())
    known = set(map(id, modules))
    for module in modules:
        for _, leaf in named(list(vars(module).values())):
            if isinstance(leaf, Tensor) and not leaf.is_leaf:
                memo[id(leaf)] = leaf.detach().clone()
            elif isinstance(leaf, nn.Module) and id(leaf) not in known:  # held, and no child
                known.add(id(leaf))
                modules.append(leaf)
    with torch.no_grad():  # of TorchScript: its copies have a history else
        return copy.deepcopy(model, memo)


def _containers(value: Any, found: dict[int, Any]) -> None:
    if not isinstance(value, list | dict | set | deque | tuple) or id(value) in found:
        return
    if not isinstance(value, tuple):
        found[id(value)] = value
    for item in list(value.values() if isinstance(value, dict) else value):
        _containers(item, found)


def _refill(container: Any, before: Any) -> None:
    pairs = [[*held, *held.values()] if isinstance(held, dict) else list(held) for held in (container, before)]
    if len(pairs[0]) == len(pairs[1]) and all(a is b for a, b in zip(*pairs, strict=True)):
        return
    container.clear()
    container.extend(before) if isinstance(container, list | deque) else container.update(before)


def _written(model: nn.Module, attributes: list[tuple[Any, dict[str, Any]]]) -> list[tuple[Tensor, int, Tensor]]:
    """Tensors with versions and values, without tensors of inference mode, which are read-only."""
    kept = {id(t): t for t in model.buffers()}
    for _, before in attributes:
        kept.update({id(leaf): leaf for _, leaf in named(list(before.values())) if isinstance(leaf, Tensor)})
    parameters = {id(p) for p in model.parameters()}
    return [
        (t, t._version, t.detach().clone()) for i, t in kept.items() if i not in parameters and not t.is_inference()
    ]
