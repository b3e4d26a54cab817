"""SimAM on reshaped, transposed and broadcast tensors, and on planes of one and three axes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from collection.modules import gated, size, spelling, squares

HW = [2, 3]


@spelling()
def flat_gate_viewed_back(x: Tensor, lam: float) -> Tensor:
    b, c, h, w = x.size()
    flat = x.view(b, c, -1)
    d = (flat - flat.mean(-1, keepdim=True)).pow(2)
    v = d.sum(-1, keepdim=True) / (h * w - 1)
    return x * torch.sigmoid(d / (4 * (v + lam)) + 0.5).view(b, c, h, w)


@spelling()
def flat_y_viewed_back(x: Tensor, lam: float) -> Tensor:
    b, c, h, w = x.size()
    flat = x.view(b, c, -1)
    d = (flat - flat.mean(-1, keepdim=True)).pow(2)
    v = d.sum(-1, keepdim=True) / (flat.size(-1) - 1)
    return gated(flat, d, v, lam).view(b, c, h, w)


@spelling()
def flattened(x: Tensor, lam: float) -> Tensor:
    flat = x.flatten(2)
    v, mean = torch.var_mean(flat, dim=2, keepdim=True)
    return gated(flat, (flat - mean) ** 2, v, lam).unflatten(2, x.shape[2:])


@spelling()
def flat_mean_only(x: Tensor, lam: float) -> Tensor:
    mean = x.flatten(2).mean(2)[:, :, None, None]
    d = (x - mean) ** 2
    v = d.reshape(x.shape[0], x.shape[1], -1).sum(2).unsqueeze(-1).unsqueeze(-1) / (size(x) - 1)
    return gated(x, d, v, lam)


@spelling()
def planes_in_the_batch(x: Tensor, lam: float) -> Tensor:
    b, c, h, w = x.shape
    flat = x.reshape(b * c, h * w)
    d = (flat - flat.mean(1, keepdim=True)) ** 2
    return gated(flat, d, d.sum(1, keepdim=True) / (h * w - 1), lam).reshape(b, c, h, w)


@spelling()
def all_in_the_batch(x: Tensor, lam: float) -> Tensor:
    b, c, h, w = x.shape
    flat = x.reshape(1, b * c, h, w)
    d = squares(flat)
    return gated(flat, d, d.sum(HW, keepdim=True) / (h * w - 1), lam).view_as(x)


@spelling()
def expanded(x: Tensor, lam: float) -> Tensor:
    b, c, h, w = x.size()
    d = (x - x.mean(HW, keepdim=True).expand(b, c, h, w)) ** 2
    v = (d.sum(HW, keepdim=True) / (h * w - 1)).expand(-1, -1, h, w)
    return gated(x, d, v, lam)


@spelling()
def expanded_as(x: Tensor, lam: float) -> Tensor:
    d = (x - x.mean(HW, keepdim=True).expand_as(x)) ** 2
    v = d.sum(HW, keepdim=True) / (size(x) - 1)
    return gated(x, d, v.expand_as(x), lam)


@spelling()
def repeated(x: Tensor, lam: float) -> Tensor:
    _, _, h, w = x.size()
    d = (x - x.mean(HW, keepdim=True).repeat(1, 1, h, w)) ** 2
    return gated(x, d, d.sum(HW, keepdim=True) / (h * w - 1), lam)


@spelling()
def unsqueezed(x: Tensor, lam: float) -> Tensor:
    d = (x - x.mean(HW).unsqueeze(2).unsqueeze(3)) ** 2
    return gated(x, d, d.sum(HW).unsqueeze(-1).unsqueeze(-1) / (size(x) - 1), lam)


@spelling()
def viewed_means(x: Tensor, lam: float) -> Tensor:
    b, c, h, w = x.size()
    d = (x - x.mean(HW).view(b, c, 1, 1)) ** 2
    return gated(x, d, (d.sum(HW) / (h * w - 1)).view(b, c, 1, 1), lam)


@spelling()
def lambda_tensor(x: Tensor, lam: float) -> Tensor:
    d = squares(x)
    v = d.sum(HW, keepdim=True) / (size(x) - 1)
    return gated(x, d, v, torch.full((1, x.shape[1], 1, 1), lam))  # type: ignore[arg-type]


@spelling()
def channels_last(x: Tensor, lam: float) -> Tensor:
    last = x.permute(0, 2, 3, 1)
    d = (last - last.mean((1, 2), keepdim=True)) ** 2
    v = d.sum((1, 2), keepdim=True) / (size(x) - 1)
    return gated(last, d, v, lam).permute(0, 3, 1, 2)


@spelling()
def channels_last_gate(x: Tensor, lam: float) -> Tensor:
    last = x.permute(0, 2, 3, 1)
    d = (last - last.mean((1, 2), keepdim=True)) ** 2
    v = d.sum((1, 2), keepdim=True) / (size(x) - 1)
    return x * torch.sigmoid(d / (4 * (v + lam)) + 0.5).permute(0, 3, 1, 2)


@spelling()
def tokens(x: Tensor, lam: float) -> Tensor:
    """(N, H*W, C), as vision transformers have it."""
    b, c, h, w = x.shape
    t = x.flatten(2).transpose(1, 2)
    d = (t - t.mean(1, keepdim=True)) ** 2
    y = gated(t, d, d.sum(1, keepdim=True) / (t.shape[1] - 1), lam)
    return y.transpose(1, 2).reshape(b, c, h, w)


@spelling()
def height_and_width_swapped(x: Tensor, lam: float) -> Tensor:
    t = x.transpose(2, 3)
    d = squares(t)
    return gated(t, d, d.sum(HW, keepdim=True) / (size(x) - 1), lam).transpose(2, 3)


@spelling()
def chunks_of_channels(x: Tensor, lam: float) -> Tensor:
    """Each half of the channels by itself, which is the same for SimAM."""
    parts = []
    for part in x.chunk(2, dim=1):
        d = squares(part)
        parts.append(gated(part, d, d.sum(HW, keepdim=True) / (size(x) - 1), lam))
    return torch.cat(parts, 1)


@spelling()
def grouped_channels(x: Tensor, lam: float) -> Tensor:
    b, c, h, w = x.shape
    g = x.view(b, 2, c // 2, h, w)
    d = squares(g)
    return gated(g, d, d.sum([3, 4], keepdim=True) / (h * w - 1), lam).view(b, c, h, w)


@spelling()
def layer_norm_of_flat(x: Tensor, lam: float) -> Tensor:
    flat = x.flatten(2)
    m = flat.shape[-1]
    z = F.layer_norm(flat, (m,), eps=lam * (m - 1) / m)
    return x * torch.sigmoid((z**2) * ((m - 1) / (4 * m)) + 0.5).view_as(x)


@spelling()
def batch_norm_of_planes(x: Tensor, lam: float) -> Tensor:
    """F.batch_norm in training mode over planes moved to the channels, as F.instance_norm does it inside."""
    b, c, h, w = x.shape
    m = h * w
    z = F.batch_norm(x.reshape(1, b * c, h, w), None, None, training=True, eps=lam * (m - 1) / m).view(b, c, h, w)
    return x * torch.sigmoid(z * z * ((m - 1) / (4 * m)) + 0.5)


@spelling(axes=1)
def one_axis(x: Tensor, lam: float) -> Tensor:
    d = (x - x.mean(dim=2, keepdim=True)) ** 2
    return gated(x, d, d.sum(dim=2, keepdim=True) / (x.shape[2] - 1), lam)


@spelling(axes=1)
def one_axis_var(x: Tensor, lam: float) -> Tensor:
    return gated(x, squares(x, 1), x.var(-1, keepdim=True), lam)


@spelling(axes=3)
def three_axes(x: Tensor, lam: float) -> Tensor:
    _, _, depth, h, w = x.shape
    d = (x - x.mean(dim=[2, 3, 4], keepdim=True)).pow(2)
    return gated(x, d, d.sum(dim=[2, 3, 4], keepdim=True) / (depth * h * w - 1), lam)


@spelling(axes=3)
def three_axes_flat(x: Tensor, lam: float) -> Tensor:
    flat = x.flatten(2)
    d = squares(flat, 1)
    return gated(flat, d, d.sum(-1, keepdim=True) / (flat.shape[-1] - 1), lam).view_as(x)
