"""SimAM with its quotient, its sigmoid and its product written in every way that we know people to write them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from collection.modules import HW, exponent, parts, size, spelling, squares


@spelling()
def reciprocal(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return x * torch.sigmoid(d * torch.reciprocal(4 * (v + lam)) + 0.5)


@spelling()
def one_over(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return x * torch.sigmoid(0.5 + 1.0 / (4.0 * (v + lam)) * d)


@spelling(e_lambda=0.1)
def multiplied_out(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return x * torch.sigmoid(d / (4 * v + 4 * lam) + 0.5)


@spelling()
def multiplied_sum(x: Tensor, lam: float) -> Tensor:
    d = squares(x)
    return x * torch.sigmoid(0.5 + d / (4 * d.sum(HW, keepdim=True) / (size(x) - 1) + 4 * lam))


@spelling()
def n_on_the_other_side(x: Tensor, lam: float) -> Tensor:
    """d n / (4 (s + λ n))."""
    d, n = squares(x), size(x) - 1
    return x * torch.sigmoid(d * n / (4 * (d.sum(HW, keepdim=True) + lam * n)) + 0.5)


@spelling()
def quarter(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return x * torch.sigmoid(0.25 * d / (v + lam) + 0.5)


@spelling(e_lambda=0.1)
def halves_of_two(x: Tensor, lam: float) -> Tensor:
    """(d / (2 (v + λ)) + 1) / 2."""
    d, v = parts(x)
    return x * torch.sigmoid((d / (2 * (v + lam)) + 1) / 2)


@spelling()
def inverse_energy(x: Tensor, lam: float) -> Tensor:
    """1/e* in one fraction."""
    d, v = parts(x)
    return x * torch.sigmoid((d + 2 * v + 2 * lam) / (4 * (v + lam)))


@spelling()
def energy(x: Tensor, lam: float) -> Tensor:
    """e*, and then its inverse, as the paper's equations (5) and (6)."""
    d, v = parts(x)
    e = (4 * (v + lam)) / (d + 2 * v + 2 * lam)
    return torch.sigmoid(1 / e) * x


@spelling(e_lambda=0.1)
def energy_inverted(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return torch.sigmoid(1.0 / (4 * (v + lam) / (d + 2 * v + 2 * lam))).mul(x)


@spelling()
def energy_to_minus_one(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return F.sigmoid((4 * (v + lam) / (d + 2 * v + 2 * lam)).pow(-1)) * x


@spelling()
def half_first(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return torch.mul(torch.sigmoid(torch.add(torch.tensor(0.5), torch.div(d, 4 * (lam + v)))), x)


@spelling()
def subtracted_minus_half(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return x * torch.sigmoid(d / (4 * (v + lam)) - (-0.5))


@spelling()
def exp_of_minus(x: Tensor, lam: float) -> Tensor:
    return x * (1 / (1 + torch.exp(-exponent(x, lam))))


@spelling()
def divided_by_one_plus_exp(x: Tensor, lam: float) -> Tensor:
    return x / (1 + torch.exp(-exponent(x, lam)))


@spelling()
def exp_over_one_plus_exp(x: Tensor, lam: float) -> Tensor:
    """Overflows for large z, which SimAM's z, at most (M-1)²/4M + ½, reaches beyond M = 350 alone."""
    e = torch.exp(exponent(x, lam))
    return x * (e / (1 + e))


@spelling()
def tanh(x: Tensor, lam: float) -> Tensor:
    return x * (0.5 * (1 + torch.tanh(exponent(x, lam) / 2)))


@spelling()
def tanh_half_outside(x: Tensor, lam: float) -> Tensor:
    return x * 0.5 * (1 + torch.tanh(0.5 * exponent(x, lam)))


@spelling()
def tanh_half_at_the_end(x: Tensor, lam: float) -> Tensor:
    return 0.5 * (x * (torch.tanh(exponent(x, lam) * 0.5) + 1))


@spelling()
def tanh_multiplied_out(x: Tensor, lam: float) -> Tensor:
    return x * (torch.tanh(exponent(x, lam) / 2) * 0.5 + 0.5)


@spelling()
def tanh_distributed(x: Tensor, lam: float) -> Tensor:
    """x/2 + x/2 tanh(z/2): the last operator adds."""
    half = x * 0.5
    return half + half * torch.tanh(exponent(x, lam) / 2)


@spelling()
def logsigmoid(x: Tensor, lam: float) -> Tensor:
    return x * F.logsigmoid(exponent(x, lam)).exp()


@spelling()
def softplus(x: Tensor, lam: float) -> Tensor:
    return x * torch.exp(-F.softplus(-exponent(x, lam)))


@spelling()
def softmax_of_two(x: Tensor, lam: float) -> Tensor:
    z = exponent(x, lam)
    return x * torch.softmax(torch.stack([z, torch.zeros_like(z)]), 0)[0]


@spelling()
def one_minus(x: Tensor, lam: float) -> Tensor:
    return x * (1 - torch.sigmoid(-exponent(x, lam)))


@spelling()
def x_minus_rest(x: Tensor, lam: float) -> Tensor:
    return x - x * torch.sigmoid(-exponent(x, lam))


@spelling()
def silu_over_z(x: Tensor, lam: float) -> Tensor:
    """SiLU is z sigmoid(z), and z is at least ½."""
    z = exponent(x, lam)
    return x * (F.silu(z) / z)


@spelling()
def gate_first(x: Tensor, lam: float) -> Tensor:
    return nn.Sigmoid()(exponent(x, lam)) * x


@spelling()
def in_place(x: Tensor, lam: float) -> Tensor:
    d = x.clone()
    d.sub_(x.mean(HW, keepdim=True)).pow_(2)
    below = d.sum(HW, keepdim=True).div_(size(x) - 1).add_(lam).mul_(4)
    return d.div_(below).add_(0.5).sigmoid_().mul_(x)


@spelling()
def y_in_place(x: Tensor, lam: float) -> Tensor:
    y = x.clone()
    y *= torch.sigmoid(exponent(x, lam))
    return y


@spelling()
def addcdiv(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return x * torch.sigmoid(torch.addcdiv(torch.full_like(x, 0.5), d, 4 * (v + lam)))


@spelling()
def float_inside(x: Tensor, lam: float) -> Tensor:
    """Casts that do nothing in float32."""
    return (x * torch.sigmoid(exponent(x.float(), lam)).to(x.dtype)).type_as(x)


@spelling()
def double_inside(x: Tensor, lam: float) -> Tensor:
    return x * torch.sigmoid(exponent(x.double(), lam)).float()


@spelling()
def clamped_z(x: Tensor, lam: float) -> Tensor:
    """A bound that z, at least ½, never meets."""
    return x * torch.sigmoid(exponent(x, lam).clamp(min=0.0))


@spelling()
def dropout_and_identity(x: Tensor, lam: float) -> Tensor:
    return nn.Identity()(x) * F.dropout(torch.sigmoid(exponent(x, lam)), 0.1, training=False)
