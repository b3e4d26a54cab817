"""Near misses: SimAM with one thing wrong in the formula, or another statistic in its place."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from collection.modules import HW, gated, miss, parts, size, squares


@miss()
def without_half(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return x * torch.sigmoid(d / (4 * (v + lam)))


@miss()
def quarter_added(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return x * torch.sigmoid(d / (4 * (v + lam)) + 0.25)


@miss()
def half_subtracted(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return x * torch.sigmoid(d / (4 * (v + lam)) - 0.5)


@miss()
def nearly_half(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return x * torch.sigmoid(d / (4 * (v + lam)) + 0.501)


@miss()
def two_for_four(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return x * torch.sigmoid(d / (2 * (v + lam)) + 0.5)


@miss()
def eight_for_four(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return x * torch.sigmoid(d / (8 * (v + lam)) + 0.5)


@miss()
def nearly_four(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return x * torch.sigmoid(d / (4.01 * (v + lam)) + 0.5)


@miss()
def four_forgets_lambda_side(x: Tensor, lam: float) -> Tensor:
    """4 λ + v: the parentheses are elsewhere."""
    d, v = parts(x)
    return x * torch.sigmoid(d / (v + 4 * lam) + 0.5)


@miss(e_lambda=0.1)
def lambda_above(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return x * torch.sigmoid((d + lam) / (4 * v) + 0.5)


@miss(e_lambda=0.1)
def lambda_behind(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return x * torch.sigmoid(d / (4 * v) + lam + 0.5)


@miss(e_lambda=0.1)
def lambda_under_the_root(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return x * torch.sigmoid(d / (4 * (torch.sqrt(v) + lam) ** 2) + 0.5)


@miss()
def lambda_zero(x: Tensor, lam: float) -> Tensor:
    del lam
    d, v = parts(x)
    return x * torch.sigmoid(d / (4 * v) + 0.5)


@miss(e_lambda=0.1)
def lambda_negative(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return x * torch.sigmoid(d / (4 * (v - lam)) + 0.5)


@miss(e_lambda=0.1)
def lambda_of_the_batch(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return gated(x, d, v, lam * x.shape[0])


@miss(e_lambda=0.1)
def lambda_of_the_size(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return gated(x, d, v, lam * x.shape[2] / 8)


@miss(e_lambda=0.1)
def lambda_of_the_data(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return gated(x, d, v, lam * (1 + 1e-2 * x.amax(HW, keepdim=True)))  # type: ignore[arg-type]


@miss(e_lambda=0.1)
def lambda_as_a_floor(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return x * torch.sigmoid(d / (4 * v.clamp(min=lam)) + 0.5)


@miss()
def absolute(x: Tensor, lam: float) -> Tensor:
    d = (x - x.mean(HW, keepdim=True)).abs()
    return gated(x, d, d.sum(HW, keepdim=True) / (size(x) - 1), lam)


@miss()
def fourth_power(x: Tensor, lam: float) -> Tensor:
    d = (x - x.mean(HW, keepdim=True)) ** 4
    return gated(x, d, d.sum(HW, keepdim=True) / (size(x) - 1), lam)


@miss()
def root_of_variance(x: Tensor, lam: float) -> Tensor:
    d, v = parts(x)
    return gated(x, d, v.sqrt(), lam)


@miss()
def not_centred(x: Tensor, lam: float) -> Tensor:
    return gated(x, x * x, (x * x).sum(HW, keepdim=True) / (size(x) - 1), lam)


@miss()
def max_for_mean(x: Tensor, lam: float) -> Tensor:
    d = (x - x.amax(HW, keepdim=True)) ** 2
    return gated(x, d, d.sum(HW, keepdim=True) / (size(x) - 1), lam)


@miss()
def middle_of_range(x: Tensor, lam: float) -> Tensor:
    d = (x - 0.5 * (x.amax(HW, keepdim=True) + x.amin(HW, keepdim=True))) ** 2
    return gated(x, d, d.sum(HW, keepdim=True) / (size(x) - 1), lam)


@miss()
def median(x: Tensor, lam: float) -> Tensor:
    d = (x - x.flatten(2).sort(-1).values[..., size(x) // 2][..., None, None]) ** 2
    return gated(x, d, d.sum(HW, keepdim=True) / (size(x) - 1), lam)


@miss()
def max_of_squares(x: Tensor, lam: float) -> Tensor:
    d = squares(x)
    return gated(x, d, d.amax(HW, keepdim=True), lam)


@miss()
def window_of_three(x: Tensor, lam: float) -> Tensor:
    """Statistics of a sliding window."""
    d = (x - F.avg_pool2d(x, 3, 1, 1)) ** 2
    return gated(x, d, F.avg_pool2d(d, 3, 1, 1), lam)


@miss()
def max_pooled(x: Tensor, lam: float) -> Tensor:
    d = (x - F.max_pool2d(x, 3, 1, 1)) ** 2
    return gated(x, d, d.sum(HW, keepdim=True) / (size(x) - 1), lam)


@miss()
def upper_left_quarter(x: Tensor, lam: float) -> Tensor:
    """The statistics of a part of the map."""
    part = x[:, :, : x.shape[2] // 2, : x.shape[3] // 2]
    v, mean = torch.var_mean(part, dim=(2, 3), keepdim=True)
    return gated(x, (x - mean) ** 2, v, lam)


@miss()
def without_the_last_row(x: Tensor, lam: float) -> Tensor:
    d = squares(x)
    return gated(x, d, d[:, :, :-1].sum(HW, keepdim=True) / (size(x) - 1), lam)
