"""The kernels as PyTorch calls them: SimAM(kernel="require"), eager, compiled, on another stream and in a graph."""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.gpu import reference
from benchmarks.gpu.api import TYPES, Machine
from benchmarks.gpu.problem import PLAIN, Values
from benchmarks.gpu.timing import capture
from benchmarks.gpu.verdict import Sizes, Verdict, normal

CHANNELS = 12
"""Of channels_last: a multiple of 16 bytes in float32 and not in the others, which takes a workspace."""
LAMBDA = 1e-4


def check(machine: Machine, sizes: Sizes) -> Iterator[Verdict]:
    """Each type and memory format. The library is the one that is checked, whatever SIMAM_CUDA_LIBRARY names."""
    if machine.emulated:
        return
    from simam_deploy import SimAM

    os.environ["SIMAM_CUDA_LIBRARY"] = str(machine.kernels.path)
    module = SimAM(LAMBDA, kernel="require").eval()
    for type in ("f32", "f16", "bf16"):
        for height, width in sizes.few:
            whole = normal(machine, (2, CHANNELS, height, width), height).to(TYPES[type])
            for name, x in views(whole).items():
                yield verdict(type, f"{type} {height}x{width} {name}", x, module(x))
        yield from _compiled(module, type, whole)
        if whole.is_cuda:
            yield from _on_the_device(module, type, whole)


def views(x: Tensor) -> dict[str, Tensor]:
    """x : (N, C, H, W), in what a network has of memory formats."""
    return {
        "contiguous": x,
        "channels_last": x.to(memory_format=torch.channels_last),
        "every second channel": x[:, ::2],
        "transposed": x.transpose(2, 3),
    }


def verdict(type: str, name: str, x: Tensor, y: Tensor) -> Verdict:
    """y against the formula; in the memory format of x, too."""
    flat = x.double().flatten(2)
    nothing = torch.zeros(x.shape[1], device=x.device)
    e_lambda = torch.tensor(LAMBDA, dtype=torch.float32).item()
    of = Values(type, flat, flat, nothing, nothing, e_lambda)
    expected = reference.expect(of, PLAIN, reference.simam(flat, e_lambda))
    why = "" if y.stride() == torch.empty_like(x).stride() else f"strides {y.stride()} of {x.stride()}"
    return Verdict(name, reference.worst(of, expected, y.double().flatten(2)), why)


def _compiled(module: torch.nn.Module, type: str, x: Tensor) -> Iterator[Verdict]:
    with torch.no_grad():
        y = torch.compile(module, fullgraph=True, dynamic=False)(x)
    yield Verdict(f"{type} compiled", 0.0, "" if torch.equal(y, module(x)) else "eager gives other bits")


def _on_the_device(module: torch.nn.Module, type: str, x: Tensor) -> Iterator[Verdict]:
    kept: list[Tensor] = []
    static = x.to(memory_format=torch.channels_last)  # with a workspace
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        kept.append(module(static))
    torch.cuda.synchronize()
    yield verdict(type, f"{type} on another stream", static, kept[0])
    graph = capture(lambda: kept.append(module(static)))
    static.copy_(static.flip(0))
    graph.replay()
    torch.cuda.synchronize()
    yield verdict(type, f"{type} in a graph", static, kept[1])
