"""Near misses: another gate, another thing gated, something learned, something bounded, or another module."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from collection.modules import HW, MISSES, Written, exponent, gated, miss, parts, size, squares


@miss()
def doubled_x(x: Tensor, lam: float) -> Tensor:
    return (2 * x) * torch.sigmoid(exponent(x, lam))


@miss()
def doubled_gate(x: Tensor, lam: float) -> Tensor:
    return x * (2 * torch.sigmoid(exponent(x, lam)))


@miss()
def gates_the_centred(x: Tensor, lam: float) -> Tensor:
    return (x - x.mean(HW, keepdim=True)) * torch.sigmoid(exponent(x, lam))


@miss()
def gates_relu(x: Tensor, lam: float) -> Tensor:
    return F.relu(x) * torch.sigmoid(exponent(x, lam))


@miss()
def gates_another(x: Tensor, lam: float) -> Tensor:
    return torch.sin(x) * torch.sigmoid(exponent(x, lam))


@miss()
def gate_of_another(x: Tensor, lam: float) -> Tensor:
    return x * torch.sigmoid(exponent(torch.sin(x), lam))


@miss()
def gate_alone(x: Tensor, lam: float) -> Tensor:
    return torch.sigmoid(exponent(x, lam))


@miss()
def gate_added(x: Tensor, lam: float) -> Tensor:
    return x + torch.sigmoid(exponent(x, lam))


@miss()
def gate_divides(x: Tensor, lam: float) -> Tensor:
    return x / torch.sigmoid(exponent(x, lam))


@miss()
def one_minus_gate(x: Tensor, lam: float) -> Tensor:
    return x * (1 - torch.sigmoid(exponent(x, lam)))


@miss()
def one_plus_gate(x: Tensor, lam: float) -> Tensor:
    return x * (1 + torch.sigmoid(exponent(x, lam)))


@miss()
def gate_squared(x: Tensor, lam: float) -> Tensor:
    return x * torch.sigmoid(exponent(x, lam)) ** 2


@miss()
def sigmoid_twice(x: Tensor, lam: float) -> Tensor:
    return x * torch.sigmoid(torch.sigmoid(exponent(x, lam)))


@miss()
def hard_sigmoid(x: Tensor, lam: float) -> Tensor:
    return x * F.hardsigmoid(exponent(x, lam))


@miss()
def tanh_for_sigmoid(x: Tensor, lam: float) -> Tensor:
    return x * torch.tanh(exponent(x, lam))


@miss()
def tanh_not_halved(x: Tensor, lam: float) -> Tensor:
    return x * (0.5 * (1 + torch.tanh(exponent(x, lam))))


@miss()
def softmax(x: Tensor, lam: float) -> Tensor:
    return x * torch.softmax(exponent(x, lam).flatten(2), -1).view_as(x)


@miss()
def erf_for_sigmoid(x: Tensor, lam: float) -> Tensor:
    return x * (0.5 * (1 + torch.erf(exponent(x, lam) / 1.7)))


@miss()
def silu_of_z(x: Tensor, lam: float) -> Tensor:
    return x * F.silu(exponent(x, lam))


@miss()
def clamped_squares(x: Tensor, lam: float) -> Tensor:
    """A bound that shows on large values alone."""
    d = squares(x).clamp(max=1e4)
    return gated(x, d, d.sum(HW, keepdim=True) / (size(x) - 1), lam)


@miss()
def clamped_far_away(x: Tensor, lam: float) -> Tensor:
    """A bound that hardly any probe reaches: float16's largest value, squared."""
    d = squares(x).clamp(max=4.29e9)
    return gated(x, d, d.sum(HW, keepdim=True) / (size(x) - 1), lam)


@miss()
def clamped_gate(x: Tensor, lam: float) -> Tensor:
    return x * torch.sigmoid(exponent(x, lam)).clamp(max=0.9)


@miss()
def clamped_z_above(x: Tensor, lam: float) -> Tensor:
    """z is above 5 in maps of many pixels alone: it is at most (M-1)²/4M + ½."""
    return x * torch.sigmoid(exponent(x, lam).clamp(max=5.0))


@miss()
def zero_where_small(x: Tensor, lam: float) -> Tensor:
    return torch.where(x.abs() < 1e-3, torch.zeros_like(x), x * torch.sigmoid(exponent(x, lam) + 1e-3))


@miss()
def rounded_z(x: Tensor, lam: float) -> Tensor:
    return x * torch.sigmoid(torch.round(exponent(x, lam) * 64) / 64)


@miss()
def first_channel_is_spared(x: Tensor, lam: float) -> Tensor:
    g = torch.sigmoid(exponent(x, lam))
    return x * torch.cat([torch.ones_like(g[:, :1]), g[:, 1:]], 1)


@miss()
def last_channel_of_another_lambda(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    below = torch.cat([v[:, :-1] + lam, v[:, -1:] + 100 * lam], 1)
    return x * torch.sigmoid(d / (4 * below) + 0.5)


@miss()
def first_of_the_batch(x: Tensor, lam: float) -> Tensor:
    """The statistics of the first image for all."""
    _, v = parts(x)
    return gated(x, (x - x[:1].mean(HW, keepdim=True)) ** 2, v[:1], lam)


class Learned(nn.Module):
    """SimAM with a parameter in it: `at` computes y of x, λ and the parameter p : (1 or C)."""

    def __init__(self, at: Callable[[Tensor, float, Tensor], Tensor], e_lambda: float, values: list[float]) -> None:
        super().__init__()
        self.at = at
        self.e_lambda = e_lambda
        self.p = nn.Parameter(torch.tensor(values).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.at(x, self.e_lambda, self.p)


def _scaled_gate(x: Tensor, lam: float, p: Tensor) -> Tensor:
    return x * (p * torch.sigmoid(exponent(x, lam)))


def _scaled_z(x: Tensor, lam: float, p: Tensor) -> Tensor:
    d, v = parts(x)
    return x * torch.sigmoid(p * d / (4 * (v + lam)) + 0.5)


def _shifted_z(x: Tensor, lam: float, p: Tensor) -> Tensor:
    return x * torch.sigmoid(exponent(x, lam) + p)


def _shifted_mean(x: Tensor, lam: float, p: Tensor) -> Tensor:
    d = (x - x.mean(HW, keepdim=True) - 0.1 * p) ** 2
    return gated(x, d, d.sum(HW, keepdim=True) / (size(x) - 1), lam)


def _lambda_each(x: Tensor, lam: float, p: Tensor) -> Tensor:
    d, v = parts(x)
    return gated(x, d, v, lam * p)  # type: ignore[arg-type]


FOUR = [0.5, 1.5, 2.0, 0.25]
for _name, _at, _values in (
    ("learned_scale_of_gate", _scaled_gate, [1.2]),
    ("learned_scale_of_gate_each", _scaled_gate, FOUR),
    ("learned_scale_of_z", _scaled_z, [0.9]),
    ("learned_scale_of_z_each", _scaled_z, FOUR),
    ("learned_scale_of_the_last", _scaled_z, [1.0, 1.0, 1.0, 1.1]),
    ("learned_shift_of_z", _shifted_z, [0.1]),
    ("learned_shift_of_z_each", _shifted_z, FOUR),
    ("learned_shift_of_mean_each", _shifted_mean, FOUR),
    ("lambda_each", _lambda_each, FOUR),
    ("lambda_of_the_last", _lambda_each, [1.0, 1.0, 1.0, 2.0]),
):
    _lam = 0.1 if _name.startswith("lambda") else 1e-4
    MISSES[_name] = Written(_name, partial(Learned, _at, values=_values), 2, _lam)


class SqueezeExcitation(nn.Module):
    """Hu et al., 2018: a gate of the means, through two layers."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.up(F.relu(self.down(x.mean(HW, keepdim=True)))))


class ConvolutionalBlockAttention(nn.Module):
    """Woo et al., 2018: a gate of channels, then one of pixels."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.layer = nn.Conv2d(channels, channels, 1)
        self.pixels = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.sigmoid(self.layer(x.mean(HW, keepdim=True)) + self.layer(x.amax(HW, keepdim=True)))
        return x * torch.sigmoid(self.pixels(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)))


class ResponseNorm(nn.Module):
    """Woo et al., 2023 (GRN)."""

    def forward(self, x: Tensor) -> Tensor:
        g = x.norm(p=2, dim=(2, 3), keepdim=True)
        return x * torch.sigmoid(g / (g.mean(1, keepdim=True) + 1e-6))


for _name, _module in (
    ("squeeze_excitation", SqueezeExcitation),
    ("cbam", ConvolutionalBlockAttention),
    ("response_norm", ResponseNorm),
    ("silu", nn.SiLU),
    ("gelu", nn.GELU),
    ("gelu_tanh", lambda: nn.GELU("tanh")),
    ("mish", nn.Mish),
    ("hard_swish", nn.Hardswish),
    ("swish_of_instance_norm", lambda: nn.Sequential(nn.InstanceNorm2d(4, affine=True), nn.SiLU())),
):
    MISSES[_name] = Written(_name, lambda lam, make=_module: make())  # type: ignore[misc]
