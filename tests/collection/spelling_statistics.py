"""SimAM with its mean and variance written in every way that we know people to write them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from collection.modules import gated, size, spelling, squares

HW = [2, 3]


@spelling()
def published(x: Tensor, lam: float) -> Tensor:
    """The order of operations of the paper's own code."""
    _, _, h, w = x.size()
    n = w * h - 1
    d = (x - x.mean(dim=[2, 3], keepdim=True)).pow(2)
    y = d / (4 * (d.sum(dim=[2, 3], keepdim=True) / n + lam)) + 0.5
    return x * nn.Sigmoid()(y)


@spelling(e_lambda=0.1)
def times_itself(x: Tensor, lam: float) -> Tensor:
    c = x - x.mean(HW, keepdim=True)
    d = c * c
    return gated(x, d, d.sum(HW, keepdim=True) / (size(x) - 1), lam)


@spelling(e_lambda=3e-7)
def squared(x: Tensor, lam: float) -> Tensor:
    d = torch.square(x - torch.mean(x, (2, 3), True))
    return gated(x, d, torch.sum(d, (2, 3), True) / (size(x) - 1), lam)


@spelling()
def centred_twice(x: Tensor, lam: float) -> Tensor:
    n = x.shape[-1] * x.shape[-2] - 1
    v = (x - x.mean([-2, -1], keepdim=True)).pow(2).sum([-2, -1], keepdim=True) / n
    return gated(x, (x - x.mean([-2, -1], keepdim=True)).pow(2), v, lam)


@spelling()
def mean_of_squares(x: Tensor, lam: float) -> Tensor:
    d, m = squares(x), size(x)
    return gated(x, d, d.mean((-1, -2), keepdim=True) * (m / (m - 1)), lam)


@spelling()
def mean_times_m_by_n(x: Tensor, lam: float) -> Tensor:
    d, m = squares(x), size(x)
    return gated(x, d, d.mean(HW, keepdim=True) * m / (m - 1), lam)


@spelling()
def std_squared(x: Tensor, lam: float) -> Tensor:
    return gated(x, squares(x), x.std(dim=(2, 3), keepdim=True) ** 2, lam)


@spelling()
def root_form(x: Tensor, lam: float) -> Tensor:
    c = x - x.mean(HW, keepdim=True)
    v = c.pow(2).sum(HW, keepdim=True) / (size(x) - 1)
    return x * torch.sigmoid((c / (2 * torch.sqrt(v + lam))) ** 2 + 0.5)


@spelling(e_lambda=0.1)
def rsqrt_form(x: Tensor, lam: float) -> Tensor:
    c = x - x.mean(HW, keepdim=True)
    z = c * torch.rsqrt(c.square().sum(HW, keepdim=True) / (size(x) - 1) + lam)
    return x * torch.sigmoid(0.25 * z * z + 0.5)


@spelling()
def torch_var(x: Tensor, lam: float) -> Tensor:
    return gated(x, squares(x), torch.var(x, dim=(2, 3), unbiased=True, keepdim=True), lam)


@spelling()
def torch_var_mean(x: Tensor, lam: float) -> Tensor:
    v, mean = torch.var_mean(x, dim=(2, 3), keepdim=True)
    return gated(x, (x - mean) ** 2, v, lam)


@spelling()
def var_correction(x: Tensor, lam: float) -> Tensor:
    return gated(x, squares(x), x.var(dim=(-2, -1), correction=1, keepdim=True), lam)


@spelling()
def biased_var_corrected(x: Tensor, lam: float) -> Tensor:
    m = size(x)
    return gated(x, squares(x), x.var(dim=(2, 3), unbiased=False, keepdim=True) * m / (m - 1), lam)


@spelling()
def moments(x: Tensor, lam: float) -> Tensor:
    """E[x²] - E[x]²: loses digits, and is the same function."""
    m = size(x)
    mean = x.mean(HW, keepdim=True)
    v = ((x * x).mean(HW, keepdim=True) - mean * mean) * (m / (m - 1))
    return gated(x, (x - mean) ** 2, v, lam)


@spelling()
def sum_over_m(x: Tensor, lam: float) -> Tensor:
    m = size(x)
    mean = x.sum(HW, keepdim=True) / m
    d = (x - mean).pow(2)
    return gated(x, d, d.sum(HW, keepdim=True) / (m - 1), lam)


@spelling()
def numel_over(x: Tensor, lam: float) -> Tensor:
    n = x.numel() // (x.shape[0] * x.shape[1]) - 1
    d = squares(x)
    return gated(x, d, d.sum(HW, keepdim=True) / n, lam)


@spelling()
def numel_of_plane(x: Tensor, lam: float) -> Tensor:
    n = x[0, 0].numel() - 1
    d = squares(x)
    return gated(x, d, d.sum(HW, keepdim=True) / n, lam)


@spelling()
def float_n(x: Tensor, lam: float) -> Tensor:
    """float() of a size: with dynamic H and W an exporter may make a constant of it."""
    d = squares(x)
    return gated(x, d, d.sum(HW, keepdim=True) / float(x.shape[2] * x.shape[3] - 1), lam)


@spelling()
def tensor_n(x: Tensor, lam: float) -> Tensor:
    n = torch.as_tensor(x.shape[2] * x.shape[3] - 1, dtype=x.dtype)
    d = squares(x)
    return gated(x, d, d.sum(HW, keepdim=True) / n, lam)


@spelling()
def product_of_shape(x: Tensor, lam: float) -> Tensor:
    n = math.prod(x.shape[2:]) - 1
    d = squares(x)
    return gated(x, d, d.sum(HW, keepdim=True) / n, lam)


@spelling()
def clamped_n(x: Tensor, lam: float) -> Tensor:
    """A guard for 1x1 maps."""
    n = max(x.shape[2] * x.shape[3] - 1, 1)
    d = squares(x)
    return gated(x, d, d.sum(HW, keepdim=True) / n, lam)


@spelling()
def counted_ones(x: Tensor, lam: float) -> Tensor:
    n = torch.ones_like(x).sum(HW, keepdim=True) - 1
    d = squares(x)
    return gated(x, d, d.sum(HW, keepdim=True) / n, lam)


@spelling()
def nested_means(x: Tensor, lam: float) -> Tensor:
    m = size(x)
    d = (x - x.mean(2, keepdim=True).mean(3, keepdim=True)) ** 2
    return gated(x, d, d.mean(3, keepdim=True).mean(2, keepdim=True) * m / (m - 1), lam)


@spelling()
def nested_sums(x: Tensor, lam: float) -> Tensor:
    d = (x - x.mean(-1).mean(-1)[:, :, None, None]) ** 2
    return gated(x, d, d.sum(-1).sum(-1)[..., None, None] / (size(x) - 1), lam)


@spelling()
def pooled(x: Tensor, lam: float) -> Tensor:
    m = size(x)
    d = (x - F.adaptive_avg_pool2d(x, 1)) ** 2
    return gated(x, d, F.adaptive_avg_pool2d(d, 1) * m / (m - 1), lam)


@spelling()
def pooled_over_all(x: Tensor, lam: float) -> Tensor:
    """avg_pool2d with the map's own size as its window."""
    d = (x - F.avg_pool2d(x, x.shape[2:])) ** 2
    return gated(x, d, d.sum(HW, keepdim=True) / (size(x) - 1), lam)


@spelling()
def einsum_of_centred(x: Tensor, lam: float) -> Tensor:
    c = x - x.mean(HW, keepdim=True)
    v = torch.einsum("bchw,bchw->bc", c, c)[:, :, None, None] / (size(x) - 1)
    return gated(x, c * c, v, lam)


@spelling()
def matmul_of_centred(x: Tensor, lam: float) -> Tensor:
    b, c, h, w = x.shape
    flat = (x - x.mean(HW, keepdim=True)).reshape(b, c, 1, h * w)
    v = torch.matmul(flat, flat.transpose(-1, -2)) / (h * w - 1)
    return gated(x, (x - x.mean(HW, keepdim=True)) ** 2, v, lam)


@spelling()
def bmm_of_centred(x: Tensor, lam: float) -> Tensor:
    b, c, h, w = x.shape
    flat = x.reshape(b * c, 1, h * w)
    flat = flat - flat.mean(2, keepdim=True)
    v = torch.bmm(flat, flat.transpose(1, 2)).view(b, c, 1, 1) / (h * w - 1)
    return gated(x, flat.view(b, c, h, w) ** 2, v, lam)


@spelling()
def norm_squared(x: Tensor, lam: float) -> Tensor:
    c = x - x.mean(HW, keepdim=True)
    return gated(x, c**2, torch.norm(c, p=2, dim=(2, 3), keepdim=True) ** 2 / (size(x) - 1), lam)


@spelling()
def linalg_norm(x: Tensor, lam: float) -> Tensor:
    flat = x.flatten(2)
    c = flat - flat.mean(-1, keepdim=True)
    v = torch.linalg.vector_norm(c, dim=-1, keepdim=True) ** 2 / (flat.shape[-1] - 1)
    return x * torch.sigmoid(c**2 / (4 * (v + lam)) + 0.5).view_as(x)


@spelling()
def instance_norm(x: Tensor, lam: float) -> Tensor:
    """z² = d / (4 (v + λ)) with v + λ = M/(M-1) (σ² + λ (M-1)/M), σ² the biased variance."""
    m = size(x)
    z = F.instance_norm(x, eps=lam * (m - 1) / m)
    return x * torch.sigmoid(z * z * ((m - 1) / (4 * m)) + 0.5)


@spelling()
def layer_norm(x: Tensor, lam: float) -> Tensor:
    m = size(x)
    z = F.layer_norm(x, x.shape[2:], eps=lam * (m - 1) / m)
    return x * torch.sigmoid(z.pow(2) * (m - 1) / (4 * m) + 0.5)


@spelling()
def group_norm(x: Tensor, lam: float) -> Tensor:
    """As many groups as channels."""
    m = size(x)
    z = F.group_norm(x, x.shape[1], eps=lam * (m - 1) / m)
    return x * torch.sigmoid(z.pow(2) * (m - 1) / (4 * m) + 0.5)
