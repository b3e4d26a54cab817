"""Compatibility of a checkpoint value with an entry of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from simam_deploy.pytorch.checkpoint.parts import equal, same_shape, shown


def misfit(value: Any, own: Any) -> str:
    """Reason why `value` cannot replace `own`, an entry of the model's state_dict; "" if it can.

    Floats accept floats of any width, without new NaN or infinity: a mask of -inf is valid. Integers and booleans
    accept values that they represent exactly, such as a count saved as float32.
    """
    if not isinstance(own, torch.Tensor):
        return ""
    return _structure(value, own) or ("" if own.is_quantized else _numbers(value, own))


def _structure(value: Any, own: torch.Tensor) -> str:
    if not isinstance(value, torch.Tensor):
        return f"is {type(value).__name__} in the file, no tensor"
    kind, mend = ("", "") if own.is_quantized else _kind(value)
    if kind:
        return f"is {kind} in the file; {mend}"
    if own.is_meta and not is_lazy(own):
        return "is on the meta device in the model, and takes no values; build the model on the CPU"
    if not same_shape(value, own):
        return f"shape {tuple(value.shape)} in the file, {tuple(own.shape)} in the model"
    return ""


def _numbers(value: torch.Tensor, own: torch.Tensor) -> str:
    given_type, own_type = (str(tensor.dtype).removeprefix("torch.") for tensor in (value, own))
    if own.is_floating_point() or own.is_complex():
        if value.is_floating_point() or (value.is_complex() and own.is_complex()):
            return _not_finite(value, own)
        return f"is {given_type} in the file, {own_type} in the model; save it as {own_type}"
    exact = not value.is_complex() and torch.equal(value.to(own.dtype).to(value.dtype), value)
    return (
        "" if exact else f"holds numbers of {given_type} in the file that {own_type}, its type in the model, has not"
    )


def _kind(value: torch.Tensor) -> tuple[str, str]:
    if value.is_quantized:
        return "a quantised tensor", "save what dequantize() returns"
    if value.is_nested or value.layout != torch.strided:
        return "a sparse or nested tensor", "save what to_dense() returns"
    if value.is_meta:
        return "a meta tensor, without values", "save the weights from the device that holds them"
    return "", ""


def _not_finite(value: torch.Tensor, own: torch.Tensor) -> str:
    converted = value.to(own.dtype)
    if converted.dtype.itemsize == 1:
        return ""  # 8-bit floats, which torch does not compare
    odd = ~torch.isfinite(converted)
    if not bool(odd.any()):
        return ""
    if not is_lazy(own):
        odd &= ~((converted == own) | (converted.isnan() & own.isnan())).reshape(odd.shape)
    count = int(odd.sum())
    if not count:
        return ""
    beyond = bool(torch.isfinite(value)[odd].all())
    own_type = str(own.dtype).removeprefix("torch.")
    what = f"numbers that are infinite in {own_type}, its type in the model" if beyond else "NaN or infinity"
    return f"holds {what}: {count} of {value.numel()}; the model has none there"


def torn(given: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """A line for each pair of different values for one tensor of the model."""
    first: dict[object, str] = {}
    pairs = [(name, first.setdefault(place(own.get(name)) or name, name)) for name in given]
    return [
        f"{shown(name)}: differs from {shown(other)}, and the model keeps both in one tensor"
        for name, other in pairs
        if other != name and not equal(given[name], given[other])
    ]


def place(held: Any) -> object:
    """Key of the memory of a tensor, equal for shared tensors; None without memory of its own."""
    if not isinstance(held, torch.Tensor) or is_lazy(held) or held.is_meta or not held.numel():
        return None
    return held.data_ptr(), held.shape
