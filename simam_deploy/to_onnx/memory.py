"""Check that the result of a model does not depend on earlier inputs, as a file cannot."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from simam_deploy.errors import InputError
from simam_deploy.pytorch.nested import named
from simam_deploy.to_onnx.arguments import Call

SAME = 1e-3
"""Tolerance, relative to the largest value of an output. Two runs on the CPU differ by roundings at most; a state
from a noise input changes more."""


def same_answer(model: nn.Module, call: Call) -> Any:
    """Result of `model` for the example. Runs it on the example, on noise (if accepted), and on the example again.

    Raises InputError if the results for the example differ.
    """
    first = _answers(call.run(model))
    noise = torch.Generator().manual_seed(0)
    with suppress(InputError):  # a domain of its own
        call.run(model, [_noise(tensor, noise) for tensor in call.tensors.values()])
    output = call.run(model)
    again = _answers(output)
    for name in dict(first) | dict(again):
        one, other = dict(first).get(name, torch.empty(0)), dict(again).get(name, torch.empty(0))
        size = one.abs().nan_to_num(posinf=0).max().item() if one.numel() else 0.0
        if one.shape != other.shape or not torch.allclose(one, other, rtol=0, atol=SAME * size, equal_nan=True):
            raise InputError(
                f"the model gives other results for the same inputs once it saw others (output {name!r}): it draws "
                "random numbers, or remembers an earlier run, and a file would hold one of the results\n"
                "switch that off where the model does not train, or take the state in and hand it out as inputs and "
                "outputs (--no-check exports it all the same)"
            )
    return output


def _answers(output: Any) -> list[tuple[str, Tensor]]:
    """Copy the tensors, as a forward may return its own state."""
    found = [(name, leaf) for name, leaf in named(output) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    return [(name, leaf.detach().double().clone()) for name, leaf in found]


def _noise(tensor: Tensor, generator: torch.Generator) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    return torch.randn(tensor.shape, generator=generator).to(tensor)
