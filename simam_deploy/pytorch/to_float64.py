"""Run PyTorch code in float64, despite casts inside, or with random float32 roundings."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from simam_deploy.pytorch.nested import mapped

HALF = (torch.float16, torch.bfloat16)
_IN_16_BITS: dict[Any, Any] = {
    **dict.fromkeys((*HALF, torch.HalfTensor, torch.BFloat16Tensor), torch.float64),
    **dict.fromkeys(("torch.HalfTensor", "torch.BFloat16Tensor"), "torch.DoubleTensor"),
    torch.Tensor.half: torch.Tensor.double,
    torch.Tensor.bfloat16: torch.Tensor.double,
}
_IN_32_BITS: dict[Any, Any] = {
    torch.float32: torch.float64,
    torch.FloatTensor: torch.float64,
    "torch.FloatTensor": "torch.DoubleTensor",
    torch.Tensor.float: torch.Tensor.double,
}
_CASTS = (torch.Tensor.to, torch.Tensor.type, torch.Tensor.type_as, torch.Tensor.float, *list(_IN_16_BITS)[-2:])


_ANY_ORDER = (torch.ops.aten.topk, torch.ops.aten.sort)
"""Operators that may order equal numbers either way."""
_FLOAT32 = torch.finfo(torch.float32)


class Widened(TorchFunctionMode):
    """Inside, replace float32 by float64 in casts, new tensors and arguments.

    halves : also float16 and bfloat16; disables autocast. Does not reach operators inside TorchScript.
    """

    def __init__(self, *, halves: bool = False) -> None:
        super().__init__()
        self._wide = _IN_32_BITS | _IN_16_BITS if halves else _IN_32_BITS
        self._halves = halves
        self.narrowed = False
        """Whether a 16-bit tensor stayed."""
        self.left_out: set[str] = set()
        """Skipped casts, by their target type, and autocast."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func` so."""
        self._note(func, args, kwargs or {})
        kept = args[:1] if _writes(func) else ()
        wide = (*kept, *mapped(tuple(args[len(kept) :]), self._widened))
        y = self._wide.get(func, func)(*wide, **mapped(kwargs or {}, self._widened))
        if isinstance(y, Tensor):
            self.narrowed |= y.dtype in HALF
            return y if _writes(func) else self._widened(y)
        return y

    def _widened(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.double() if value.dtype in self._wide else value
        if isinstance(value, torch.dtype | type | str):
            return self._wide.get(value, value)
        return value

    def _note(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if func in _CASTS and isinstance(args[0], Tensor) and args[0].dtype == torch.float64:
            named = [func, *args[1:], *kwargs.values()]
            self.left_out |= {_name(value) for value in named if self._is_narrow(value)}
        if self._halves and any(map(torch.is_autocast_enabled, ("cpu", "cuda"))):
            self.left_out.add("autocast")

    def _is_narrow(self, value: Any) -> bool:
        if isinstance(value, Tensor):
            return value.dtype in self._wide
        return isinstance(value, Hashable) and value in self._wide


def _name(value: Any) -> str:
    value = value.dtype if isinstance(value, Tensor) else value
    named: dict[Any, str] = {torch.Tensor.float: "float32", torch.Tensor.half: "float16"}
    return named.get(value) or str(getattr(value, "__name__", value)).removeprefix("torch.")


def _writes(func: Any) -> bool:
    """Whether a function writes into its first argument: add_, __setitem__, __iadd__."""
    name = getattr(func, "__name__", "").partition(".")[0]
    if name.startswith("__"):
        return name in ("__setitem__", "__set__") or (name.startswith("__i") and name != "__invert__")
    return bool(name.endswith("_"))


class Rounded(TorchDispatchMode):
    """Inside, each operator reads floats with random relative errors of up to one float32 eps (Monte Carlo
    arithmetic).

    Integers stay exact, except in operators that may order equal numbers either way. Tensors that an operator writes
    into, or returns a view of, stay exact too.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._random = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func` so."""
        change = self._apart if func.overloadpacket in _ANY_ORDER else self._rounded
        declared = func._schema.arguments
        read = [arg if of.alias_info else mapped(arg, change) for of, arg in zip(declared, args, strict=False)]
        return func(*read, **(kwargs or {}))

    def _rounded(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        return torch.where(value == value.round(), value, value + _FLOAT32.eps * self._noise(value) * value)

    def _apart(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        return value + self._noise(value) * (_FLOAT32.eps * value.abs() + _FLOAT32.tiny)

    def _noise(self, like: Tensor) -> Tensor:
        return (2 * torch.rand(like.shape, generator=self._random, dtype=torch.float64) - 1).to(like)
