"""A model as a function from tensors to a tuple of tensors, for any structure of inputs and outputs.

Both exporters and the session of the comparison use `Flat`. So they treat nested inputs, *args, None and plain
numbers alike, and use the same names of inputs and outputs.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from simam_deploy.errors import InputError, SimAMDeployError
from simam_deploy.pytorch.adopt.observe import ModelInputs
from simam_deploy.pytorch.module_state import preserved
from simam_deploy.pytorch.nested import PLAIN, mapped, named, unique

_CONSTANTS = (*PLAIN, torch.dtype, torch.device, torch.layout, torch.memory_format)


@dataclass(frozen=True)
class Call:
    """Arguments of a model.

    names : one for each tensor in the inputs, in order; None for a constant.
    """

    inputs: ModelInputs
    names: tuple[str | None, ...]
    notes: tuple[str, ...] = ()

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Copies of the variable tensors, by name. Without copies, an exporter merges inputs with one tensor."""
        return {
            name: leaf.detach().clone() for name, leaf in zip(self.names, _tensors(self.inputs), strict=True) if name
        }

    def without(self, names: Sequence[str]) -> Call:
        """This call with those tensors as constants."""
        return replace(self, names=tuple(None if name in names else name for name in self.names))

    def run(self, model: nn.Module, tensors: Sequence[Tensor] | None = None) -> Any:
        """Run `model`; return its nested result. Raises InputError if it does not run.

        tensors : replacements for those of the example, in the order of names.
        """
        given = list(self.tensors.values()) if tensors is None else tensors
        try:
            with torch.no_grad():
                return self.rebuilt(given).call(model)
        except SimAMDeployError:
            raise
        except Exception as error:
            sizes = ", ".join(str(tuple(tensor.shape)) for tensor in given)
            raise InputError(f"the model does not run on inputs of shape {sizes}: {error}") from error

    def rebuilt(self, tensors: Sequence[Tensor]) -> ModelInputs:
        """The inputs with these tensors, in the order of names."""
        names, given = iter(self.names), iter(tensors)

        def put(leaf: Any) -> Any:
            return next(given) if isinstance(leaf, Tensor) and next(names) else leaf

        args, kwargs = mapped((self.inputs.positional, dict(self.inputs.keywords)), put)
        return ModelInputs(args, kwargs)


def call_of(model: nn.Module, args: Any, kwargs: Mapping[str, Any] | None) -> Call:
    """The call `model(*args, **kwargs)`. A list of args counts as a tuple, anything else as one argument.

    Raises InputError without a tensor, and for values that are neither tensors nor plain.
    """
    inputs = ModelInputs(tuple(args) if isinstance(args, tuple | list) else (args,), dict(kwargs or {}))
    found = list(_leaves(model, inputs))
    _refuse_others(
        found,
        "the inputs must be tensors or plain values, in tuples, lists, dicts, dataclasses",
        "give a tensor for it (torch.as_tensor), or make it in a module around the model",
    )
    names = [name for name, leaf in found if isinstance(leaf, Tensor)]
    if not names:
        raise InputError("the example inputs hold no tensor; give one or more, as model(*args) takes them")
    fixed = [f"{n} = {v!r}" for n, v in found if not isinstance(v, Tensor) and v is not None]
    notes = (f"constants in the file, as they are no tensors: {', '.join(fixed)}",) if fixed else ()
    return Call(inputs, tuple(unique(names)), notes)


def _refuse_others(found: Iterable[tuple[str, Any]], demand: str, mend: str) -> None:
    """Raise InputError for values that are neither tensors nor plain."""
    others = [
        f"{name} is of type {type(v).__name__}" for name, v in found if not isinstance(v, (Tensor, *_CONSTANTS))
    ]
    if others:
        raise InputError(f"{demand}; {', '.join(others)}\n{mend}")


def outputs_of(result: Any, inputs: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names for the tensors in a result, distinct from those of inputs, and notes on other values.

    Raises InputError without a tensor, and for values that are neither tensors nor plain.
    """
    found = list(named(result))
    _refuse_others(
        found,
        "the model must return tensors, in tuples, lists, dicts or dataclasses",
        "return its tensors from a module around the model",
    )
    names = [name for name, leaf in found if isinstance(leaf, Tensor)]
    if not names:
        raise InputError(f"the model returns no tensor, but {type(result).__name__}; an ONNX file needs one")
    left = [f"{name} = {leaf!r}" for name, leaf in found if not isinstance(leaf, Tensor) and leaf is not None]
    notes = [f"outputs that are no tensors are not in the file: {', '.join(left)}"] if left else []
    return unique([f"output_{name}" if name in inputs else name for name in names], inputs), notes


class Flat(nn.Module):
    """`model` as forward(*tensors) -> tuple of tensors.

    Restores the model after each run, as tracing exporters put their own tensors into its caches. Children and
    parameters are those of the model, so the file has their names.
    """

    def __init__(self, model: nn.Module, call: Call) -> None:
        super().__init__()
        if isinstance(model, torch.jit.ScriptModule):  # its children are not in Python
            self._flat_model = model
        else:  # under names that no child has: many models keep theirs as `model`
            self._modules, self._parameters, self._buffers = model._modules, model._parameters, model._buffers
            self.__dict__["_flat_model"] = model
        self._flat_call = call
        self.training = model.training

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Run the model; return the tensors of its result, all distinct from each other and from the inputs."""
        inputs = self._flat_call.rebuilt(tensors)
        with preserved(self._flat_model):
            result = self._flat_model(*inputs.positional, **inputs.keywords)
        returned: list[Tensor] = []
        for _, leaf in named(result):
            if isinstance(leaf, Tensor):
                returned.append(leaf.clone() if any(leaf is other for other in (*tensors, *returned)) else leaf)
        return tuple(returned)


def _leaves(model: nn.Module, inputs: ModelInputs) -> Iterator[tuple[str, Any]]:
    """Leaves of the inputs, named after the parameters of forward, in the order of `ModelInputs`."""
    parameters = _parameters(model)
    by_position = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    star = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "input")
    for i, value in enumerate(inputs.positional):
        name = by_position[i] if i < len(by_position) else f"{star}_{i - len(by_position)}"
        yield from named(value, name)
    for name, value in inputs.keywords.items():
        yield from named(value, name)


def _parameters(model: nn.Module) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(model.forward).parameters.values())
    except ValueError:  # of compiled code
        return []


def _tensors(inputs: ModelInputs) -> Iterator[Tensor]:
    leaves = named((inputs.positional, dict(inputs.keywords)))
    return (leaf for _, leaf in leaves if isinstance(leaf, Tensor))
