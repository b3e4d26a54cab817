"""SimAM as people write it in PyTorch, and what is nearly SimAM: `spelled(f, e_lambda)` makes a module of one."""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Forward = Callable[[Tensor, float], Tensor]
HW = (2, 3)


class simam_module(nn.Module):
    """As published, spelling mistake included."""

    def __init__(self, channels: int | None = None, e_lambda: float = 1e-4) -> None:
        super().__init__()
        self.activaton = nn.Sigmoid()
        self.e_lambda = e_lambda

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(lambda={self.e_lambda:f})"

    def forward(self, x: Tensor) -> Tensor:
        _, _, h, w = x.size()
        n = w * h - 1
        x_minus_mu_square = (x - x.mean(dim=[2, 3], keepdim=True)).pow(2)
        y = x_minus_mu_square / (4 * (x_minus_mu_square.sum(dim=[2, 3], keepdim=True) / n + self.e_lambda)) + 0.5
        return x * self.activaton(y)


class Spelled(nn.Module):
    """A SimAM in whose name nothing says so."""

    def __init__(self, f: Forward, e_lambda: float) -> None:
        super().__init__()
        self.f, self.lam = f, e_lambda

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x, self.lam)


def spelled(f: Forward, e_lambda: float = 1e-4) -> nn.Module:
    return Spelled(f, e_lambda)


def squares(x: Tensor) -> Tensor:
    return (x - x.mean(HW, keepdim=True)) ** 2


def simam(x: Tensor, e_lambda: float = 1e-4) -> Tensor:
    d = squares(x)
    v = d.sum(HW, keepdim=True) / (x.shape[2] * x.shape[3] - 1)
    return x * torch.sigmoid(d / (4 * (v + e_lambda)) + 0.5)


class SimAMWith(nn.Module):
    """SimAM, with something beside it."""

    e_lambda = 0.1

    def __init__(self, **attributes: object) -> None:
        super().__init__()
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return simam(x, self.e_lambda)


def with_view(x: Tensor, e_lambda: float) -> Tensor:
    b, c, h, w = x.shape
    planes = x.view(b, c, -1)
    d = (planes - planes.mean(2, keepdim=True)).square()
    z = d / (d.sum(2, keepdim=True) / (h * w - 1) + e_lambda) / 4 + 0.5
    return (planes * z.sigmoid()).view(b, c, h, w)


def with_flatten_and_expand(x: Tensor, e_lambda: float) -> Tensor:
    flat = x.flatten(2)
    mean = flat.mean(-1)[:, :, None, None].expand_as(x)
    var = flat.var(-1)[:, :, None, None].expand_as(x)
    return x * F.sigmoid((x - mean).pow(2).div(4 * (var + e_lambda)).add(0.5))


def with_var_mean(x: Tensor, e_lambda: float) -> Tensor:
    var, mean = torch.var_mean(x, dim=HW, keepdim=True)
    return x * torch.sigmoid((x - mean) ** 2 / (4 * var + 4 * e_lambda) + 0.5)


def inverse_energy(x: Tensor, e_lambda: float) -> Tensor:
    """Equation (5), then (6)."""
    d, v = squares(x), x.var(HW, keepdim=True)
    energy = 4 * (v + e_lambda) / (d + 2 * v + 2 * e_lambda)
    return torch.sigmoid(1 / energy) * x


def with_tanh(x: Tensor, e_lambda: float) -> Tensor:
    z = squares(x) / (4 * (x.var(HW, keepdim=True) + e_lambda)) + 0.5
    return x * 0.5 * (1 + torch.tanh(z / 2))


def with_reciprocal(x: Tensor, e_lambda: float) -> Tensor:
    return x * (squares(x) * torch.reciprocal(4 * (x.std(HW, keepdim=True) ** 2 + e_lambda)) + 0.5).sigmoid()


def with_einsum(x: Tensor, e_lambda: float) -> Tensor:
    n = x.shape[2] * x.shape[3]
    centred = x - torch.einsum("nchw->nc", x)[..., None, None] / n
    v = torch.einsum("nchw,nchw->nc", centred, centred)[..., None, None] / (n - 1)
    return x * torch.sigmoid(centred.pow(2) / (4 * (v + e_lambda)) + 0.5)


def with_exp(x: Tensor, e_lambda: float) -> Tensor:
    z = squares(x) / (4 * (x.var(HW, keepdim=True) + e_lambda)) + 0.5
    return x / (1 + torch.exp(-z))


def population_mended(x: Tensor, e_lambda: float) -> Tensor:
    """The biased variance, times M/(M-1)."""
    m = x.numel() / x.shape[0] / x.shape[1]
    v = x.var(HW, correction=0, keepdim=True) * m / (m - 1)
    return x * torch.sigmoid(squares(x) / (4 * (v + e_lambda)) + 0.5)


def with_pool(x: Tensor, e_lambda: float) -> Tensor:
    d = (x - F.adaptive_avg_pool2d(x, 1)) ** 2
    m = x.shape[-1] * x.shape[-2]
    return x * torch.sigmoid(d / (4 * (F.adaptive_avg_pool2d(d, 1) * (m / (m - 1)) + e_lambda)) + 0.5)


def with_instance_norm(x: Tensor, e_lambda: float) -> Tensor:
    m = x.shape[2] * x.shape[3]
    z = F.instance_norm(x, eps=e_lambda * (m - 1) / m)
    return x * torch.sigmoid(z * z * (m - 1) / (4 * m) + 0.5)


def tensor_n(x: Tensor, e_lambda: float) -> Tensor:
    """What the TorchScript exporter freezes: n is a number of the example."""
    _, _, h, w = x.shape
    n = torch.tensor(float(h * w - 1), dtype=x.dtype)
    d = squares(x)
    return x * torch.sigmoid(d / (4 * (d.sum(HW, keepdim=True) / n + e_lambda)) + 0.5)


def float_n(x: Tensor, e_lambda: float) -> Tensor:
    n = float(np.prod(x.shape[2:])) - 1.0
    d = squares(x)
    return x * torch.sigmoid(d / (4 * (d.sum(HW, keepdim=True) / n + e_lambda)) + 0.5)


def inner_inplace(x: Tensor, e_lambda: float) -> Tensor:
    """In place on its own tensors, not on x."""
    d = (x - x.mean(HW, keepdim=True)).pow_(2)
    return x.mul(d.div(4 * (d.sum(HW, keepdim=True) / (x.shape[2] * x.shape[3] - 1) + e_lambda)).add_(0.5).sigmoid_())


def in_float32(x: Tensor, e_lambda: float) -> Tensor:
    """For autocast: statistics in float32, the result as x."""
    return simam(x.float(), e_lambda).to(x.dtype)


def to_float32(x: Tensor, e_lambda: float) -> Tensor:
    eps = torch.full((1, 1, 1, 1), e_lambda, dtype=torch.float32)
    with torch.autocast("cpu", enabled=False):
        a = x.to(dtype=torch.float32)
        d = squares(a)
        y = a * torch.sigmoid(d / (4 * (d.sum(HW, keepdim=True) / torch.tensor(d[0, 0].numel() - 1) + eps)) + 0.5)
    return y.type_as(x)


def with_ones(x: Tensor, e_lambda: float) -> Tensor:
    """Sums as a matrix product with ones, which are float32 by default."""
    b, c, h, w = x.shape
    ones = torch.ones(h * w, 1).to(x)
    d = squares(x)
    v = (d.reshape(b, c, -1) @ ones)[..., None] / (h * w - 1)
    return x * torch.sigmoid(d / (4 * (v + e_lambda)) + 0.5)


SPELLINGS: dict[str, Forward] = {
    "functional": simam,
    "view": with_view,
    "flatten, var, expand": with_flatten_and_expand,
    "var_mean": with_var_mean,
    "1 / e*": inverse_energy,
    "tanh": with_tanh,
    "std, reciprocal": with_reciprocal,
    "einsum": with_einsum,
    "1 / (1 + exp(-z))": with_exp,
    "population variance mended": population_mended,
    "pool": with_pool,
    "instance_norm": with_instance_norm,
    "tensor n": tensor_n,
    "float n": float_n,
    "in place inside": inner_inplace,
    "float()": in_float32,
    "to(float32)": to_float32,
    "matmul with ones": with_ones,
    "logaddexp": lambda x, e: x * torch.exp(-F.softplus(-(squares(x) / (4 * (x.var(HW, keepdim=True) + e)) + 0.5))),
}


def _silu(x: Tensor, e_lambda: float) -> Tensor:
    z = squares(x) / (4 * (x.var(HW, keepdim=True) + e_lambda)) + 0.5
    return x * F.silu(z) / z


SPELLINGS["silu"] = _silu


def rows_only(x: Tensor, e_lambda: float) -> Tensor:
    d = (x - x.mean(3, keepdim=True)) ** 2
    return x * torch.sigmoid(d / (4 * (d.sum(3, keepdim=True) / (x.shape[3] - 1) + e_lambda)) + 0.5)


def with_divisor(more: int, factor: float = 4, half: float = 0.5) -> Forward:
    """more : what is added to M - 1."""

    def f(x: Tensor, e_lambda: float) -> Tensor:
        d = squares(x)
        n = x.shape[2] * x.shape[3] - 1 + more
        return x * torch.sigmoid(d / (factor * (d.sum(HW, keepdim=True) / n + e_lambda)) + half)

    return f


def writes_x(x: Tensor, e_lambda: float) -> Tensor:
    return x.mul_(simam(x, e_lambda) / x)


def writes_x_and_fails(x: Tensor, e_lambda: float) -> Tensor:
    return x.copy_(simam(x, e_lambda))


def random(x: Tensor, e_lambda: float) -> Tensor:
    return simam(x, e_lambda) * (1 + 1e-3 * torch.rand(()))


def rarely_random(x: Tensor, e_lambda: float) -> Tensor:
    """Far less than what the equivalence check allows."""
    return simam(x, e_lambda) * (1 + 1e-15 * torch.rand(x.shape))


NEAR: dict[str, tuple[Forward, str]] = {
    "population variance": (with_divisor(1), r"by M = 35, not by M - 1 = 34 \(population variance\)"),
    "another divisor": (with_divisor(-1), "or by 33 where M - 1 = 34"),
    "2 for 4": (with_divisor(0, factor=2), r"by 2 \(v \+ 0.0001\), SimAM by 4"),
    "no half": (with_divisor(0, half=0), "adds 0 in front of the sigmoid; SimAM adds 0.5"),
    "half 0.51": (with_divisor(0, half=0.51), "adds 0.51 in front"),
    "rows": (rows_only, "not a function of .x - mean.² over H and W alone"),
    "batch": (lambda x, e: simam(x.transpose(0, 2), e).transpose(0, 2), "not a function of"),
    "λ = 0": (lambda x, e: simam(x, 0.0), "must be positive"),
    "scaled": (lambda x, e: 0.9 * simam(x, e), "not a function of"),
    "plus x": (lambda x, e: simam(x, e) + x, "where SimAM is x"),
    "M - 1 at most 100": (
        lambda x, e: with_divisor(min(0, 101 - x.shape[2] * x.shape[3]))(x, e),
        "or by 100 where M - 1 = 2144",
    ),
    "λ grows with the map": (
        lambda x, e: simam(x, e * x.shape[2]),
        "λ depends on the size of the map: 0.0005 and 0.0008",
    ),
    "clamped": (lambda x, e: simam(x, e).clamp(-1e4, 1e4), "differs from SimAM on huge planes"),
    "half inside": (lambda x, e: simam(x.half().float(), e).to(x.dtype), "it rounds to 16 bits inside"),
    "writes x": (writes_x_and_fails, "writes into its input, which others may read"),
    "writes x by mul_": (writes_x, "writes into its input, which others may read"),
    "random": (random, "different results for the same x"),
    "rarely random": (rarely_random, "different results for the same x"),
    "a tuple": (lambda x, e: (simam(x, e), x), "returns tuple, not one tensor"),  # type: ignore[dict-item,return-value]
    "another shape": (lambda x, e: simam(x, e)[:, :1], r"has shape \(2, 1, 5, 7\)"),
    "another type": (lambda x, e: simam(x, e).to(torch.int64), "returns torch.int64 for x of torch.float64"),
    "raises": (
        lambda x, e: simam(x, e) / math.sqrt(-1),
        r"does not run on x of shape \(2, 3, 5, 7\): ValueError: math domain",
    ),
}
"""Each with what is said of it."""
