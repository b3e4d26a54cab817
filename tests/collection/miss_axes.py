"""Near misses: SimAM with the statistics of other axes, or divided by another count."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from collection.modules import HW, exponent, gated, miss, parts, size, squares


@miss()
def population_variance(x: Tensor, lam: float) -> Tensor:
    d = squares(x)
    return gated(x, d, d.mean(HW, keepdim=True), lam)


@miss()
def population_var(x: Tensor, lam: float) -> Tensor:
    return gated(x, squares(x), x.var(dim=(2, 3), unbiased=False, keepdim=True), lam)


@miss()
def var_correction_2(x: Tensor, lam: float) -> Tensor:
    return gated(x, squares(x), x.var(dim=(2, 3), correction=2, keepdim=True), lam)


@miss()
def n_of_rows(x: Tensor, lam: float) -> Tensor:
    d = squares(x)
    return gated(x, d, d.sum(HW, keepdim=True) / (x.shape[2] * (x.shape[3] - 1)), lam)


@miss()
def n_plus_one(x: Tensor, lam: float) -> Tensor:
    d = squares(x)
    return gated(x, d, d.sum(HW, keepdim=True) / (size(x) + 1), lam)


@miss()
def n_of_height_squared(x: Tensor, lam: float) -> Tensor:
    """Right for square maps."""
    d = squares(x)
    return gated(x, d, d.sum(HW, keepdim=True) / (x.shape[2] * x.shape[2] - 1), lam)


@miss()
def n_ends_at_100(x: Tensor, lam: float) -> Tensor:
    """Right up to 101 pixels."""
    d = squares(x)
    return gated(x, d, d.sum(HW, keepdim=True) / min(size(x) - 1, 100), lam)


@miss()
def instance_norm_without_correction(x: Tensor, lam: float) -> Tensor:
    z = F.instance_norm(x, eps=lam)
    return x * torch.sigmoid(z * z / 4 + 0.5)


@miss()
def layer_norm_over_channels(x: Tensor, lam: float) -> Tensor:
    m = x[0].numel()
    z = F.layer_norm(x, x.shape[1:], eps=lam * (m - 1) / m)
    return x * torch.sigmoid(z * z * (m - 1) / (4 * m) + 0.5)


@miss()
def group_norm_of_two(x: Tensor, lam: float) -> Tensor:
    m = size(x)
    z = F.group_norm(x, x.shape[1] // 2, eps=lam * (m - 1) / m)
    return x * torch.sigmoid(z * z * (m - 1) / (4 * m) + 0.5)


@miss()
def mean_of_rows(x: Tensor, lam: float) -> Tensor:
    d = (x - x.mean(3, keepdim=True)) ** 2
    return gated(x, d, d.sum(HW, keepdim=True) / (size(x) - 1), lam)


@miss()
def height_only(x: Tensor, lam: float) -> Tensor:
    d = (x - x.mean(2, keepdim=True)) ** 2
    return gated(x, d, d.sum(2, keepdim=True) / (x.shape[2] - 1), lam)


@miss()
def width_only(x: Tensor, lam: float) -> Tensor:
    d = (x - x.mean(3, keepdim=True)) ** 2
    return gated(x, d, d.sum(3, keepdim=True) / (x.shape[3] - 1), lam)


@miss()
def channels_too(x: Tensor, lam: float) -> Tensor:
    d = (x - x.mean([1, 2, 3], keepdim=True)) ** 2
    return gated(x, d, d.sum([1, 2, 3], keepdim=True) / (x[0].numel() - 1), lam)


@miss()
def channels_alone(x: Tensor, lam: float) -> Tensor:
    d = (x - x.mean(1, keepdim=True)) ** 2
    return gated(x, d, d.sum(1, keepdim=True) / (x.shape[1] - 1), lam)


@miss()
def batch_too(x: Tensor, lam: float) -> Tensor:
    d = (x - x.mean([0, 2, 3], keepdim=True)) ** 2
    return gated(x, d, d.sum([0, 2, 3], keepdim=True) / (x.shape[0] * size(x) - 1), lam)


@miss()
def variance_over_channels_too(x: Tensor, lam: float) -> Tensor:
    d = squares(x)
    return gated(x, d, d.sum([1, 2, 3], keepdim=True) / (x[0].numel() - 1), lam)


@miss()
def groups_of_channels(x: Tensor, lam: float) -> Tensor:
    """The product is of x. Were it of g, it would be SimAM, of g."""
    b, c, h, w = x.shape
    g = x.view(b, c // 2, 2 * h, w)
    d = squares(g)
    v = d.sum(HW, keepdim=True) / (2 * h * w - 1)
    return x * torch.sigmoid(d / (4 * (v + lam)) + 0.5).view(b, c, h, w)


@miss()
def reversed_channels(x: Tensor, lam: float) -> Tensor:
    """The variance of another channel; the same where they are the same."""
    d, v = parts(x)
    return gated(x, d, v.flip(1), lam)


@miss()
def transposed_gate(x: Tensor, lam: float) -> Tensor:
    """The gate of another pixel."""
    b, c, h, w = x.shape
    return x * torch.sigmoid(exponent(x, lam)).transpose(2, 3).reshape(b, c, h, w)
