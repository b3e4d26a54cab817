"""Weights for untrained networks: the same in every call, and with outputs worth comparing.

A fresh network is a poor test of a conversion. With BatchNorm at its defaults (mean 0, variance 1, scale 1, offset 0)
dropping it changes nothing, signals shrink or grow with depth, and all images get nearly the same logits. So here
convolutions follow He et al. 2015 ("Delving Deep into Rectifiers", N(0, 2 / fan_in)), scales and offsets are drawn,
the running statistics are those of a batch of images, and each last layer (those with a bias) is centred and scaled
on that batch: outputs tell one image from another, as after training.

Depth amplifies rounding. Eager float32 against the same network in float64, largest difference over largest output:
resnet18 2e-6, resnet50 8e-6 (without SimAM 3e-5), mobilenetv2 6e-6, detector 1.4e-5.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def images(n: int, height: int, width: int, *, seed: int) -> Tensor:
    """Random images with large and small features, as photographs have: noise at three scales, added.

    Returns (n, 3, height, width) float32 of standard deviation 1, mean near 0. White noise would be averaged away
    by pooling, and every image would give the same output.
    """
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(n, 3, height, width, dtype=torch.float64)
    for pixels in (1, 4, 16):
        coarse = torch.randn(
            n, 3, max(height // pixels, 2), max(width // pixels, 2), generator=generator, dtype=torch.float64
        )
        total += F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    return (total / total.std()).float()


def randomised(make: Callable[[], nn.Module], *, calibrate_on: Tensor, seed: int) -> nn.Module:
    """The network that `make` returns, with drawn weights, calibrated as above, in eval mode.

    calibrate_on : (N, 3, H, W) float32, N >= 2.
    Two calls give equal networks, also with another number of threads: the calibration runs in float64, where the
    order of a sum changes digits that float32 does not keep. The caller's random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        net = make()
        for module in net.modules():
            _draw(module)
        _calibrate(net.double(), calibrate_on.double())
    return net.float().eval()


def _draw(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.uniform_(module.weight, 0.5, 1.5)
        nn.init.normal_(module.bias, 0.0, 0.2)
    elif isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="linear")


def _calibrate(net: nn.Module, x: Tensor) -> None:
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # the running statistics become this batch's
    last = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d) and m.bias is not None]
    hooks = [layer.register_forward_pre_hook(_centre) for layer in last]
    net.train()(x)
    for hook in hooks:
        hook.remove()
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum


def _centre(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Mean 0 per output and standard deviation 1 over the batch, for a linear layer or a 1x1 convolution."""
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    assert layer.bias is not None
    rows = inputs[0].movedim(1, -1).flatten(0, -2)  # (N, C) or (N*H*W, C)
    y = rows @ layer.weight.flatten(1).T
    spread = (y - y.mean(0)).std()
    layer.weight /= spread
    layer.bias.copy_(-y.mean(0) / spread)
