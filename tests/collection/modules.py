"""A spelling or a near miss: a PyTorch function of x, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Function = Callable[[Tensor, float], Tensor]
SPELLINGS: dict[str, Written] = {}
MISSES: dict[str, Written] = {}

HW = [2, 3]


@dataclass(frozen=True)
class Written:
    """One way to write an attention module."""

    name: str
    make: Callable[[float], nn.Module]
    """λ -> module."""
    axes: int = 2
    """How many axes a plane has: 2 for (N, C, H, W), 1 for (N, C, L), 3 for (N, C, D, H, W)."""
    e_lambda: float = 1e-4


class Spelled(nn.Module):
    """A function of x and λ as a module."""

    def __init__(self, function: Function, e_lambda: float) -> None:
        super().__init__()
        self.function = function
        self.e_lambda = e_lambda

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.e_lambda)


def spelling(axes: int = 2, e_lambda: float = 1e-4) -> Callable[[Function], Function]:
    """Put a function into SPELLINGS."""
    return _into(SPELLINGS, axes, e_lambda)


def miss(axes: int = 2, e_lambda: float = 1e-4) -> Callable[[Function], Function]:
    """Put a function into MISSES."""
    return _into(MISSES, axes, e_lambda)


def _into(where: dict[str, Written], axes: int, e_lambda: float) -> Callable[[Function], Function]:
    def put(function: Function) -> Function:
        name = function.__name__
        assert name not in where, name
        where[name] = Written(name, lambda lam: Spelled(function, lam), axes, e_lambda)
        return function

    return put


def squares(x: Tensor, axes: int = 2) -> Tensor:
    """(x - mean)² over the last axes."""
    return (x - x.mean(dim=list(range(-axes, 0)), keepdim=True)) ** 2


def size(x: Tensor) -> int:
    """M = H*W."""
    return x.shape[2] * x.shape[3]


def gated(x: Tensor, d: Tensor, v: Tensor, e_lambda: float) -> Tensor:
    """The end that spellings of the statistics share."""
    return x * torch.sigmoid(d / (4 * (v + e_lambda)) + 0.5)


def parts(x: Tensor) -> tuple[Tensor, Tensor]:
    """The squares and the unbiased variance."""
    d = squares(x)
    return d, d.sum(HW, keepdim=True) / (size(x) - 1)


def exponent(x: Tensor, lam: float) -> Tensor:
    """What is in the sigmoid."""
    d, v = parts(x)
    return d / (4 * (v + lam)) + 0.5
