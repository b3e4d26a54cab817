"""Control flow as torch's own exporters write it: torch.cond, and TorchScript with if and for."""

from __future__ import annotations

import io
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from collection.exporting import NotExported, quiet
from collection.wrapped import BOTH, wrap

IMAGE = torch.zeros(2, 3, 12, 9)


class Conditional(nn.Module):
    """SimAM where the mean is positive."""

    def forward(self, image: Tensor) -> Tensor:
        def attend(x: Tensor) -> Tensor:
            d = (x - x.mean([2, 3], keepdim=True)) ** 2
            v = d.sum([2, 3], keepdim=True) / (x.shape[2] * x.shape[3] - 1)
            return x * torch.sigmoid(d / (4 * (v + 1e-4)) + 0.5)

        def leave(x: Tensor) -> Tensor:
            return x * 1.0

        return torch.cond(image.mean() > -10, attend, leave, (torch.tanh(image),))


class Looped(nn.Module):
    """A SimAM inside a for over a number of the image, and one inside an if."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds

    def attend(self, x: Tensor) -> Tensor:
        n = x.size(2) * x.size(3) - 1
        d = (x - x.mean(dim=[2, 3], keepdim=True)).pow(2)
        return x * torch.sigmoid(d / (4 * (d.sum(dim=[2, 3], keepdim=True) / n + 1e-4)) + 0.5)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.tanh(image)
        if self.rounds == 0:
            if bool(image.mean() > -10.0):  # noqa: SIM108 - a conditional expression is another graph
                x = self.attend(x)
            else:
                x = x * 1.0
        else:
            for _ in range(image.size(0)):
                x = self.attend(x)
        return torch.relu(x)


@wrap("true", (1e-4,))
def torch_cond() -> onnx.ModelProto:
    return _dynamo(None)


@wrap("true", (1e-4,), BOTH)
def torch_cond_dynamic() -> onnx.ModelProto:
    return _dynamo(({0: "batch", 2: "height", 3: "width"},))


def _dynamo(shapes: Any) -> onnx.ModelProto:
    with quiet():
        try:
            program = torch.onnx.export(Conditional(), (IMAGE,), dynamo=True, verbose=False, dynamic_shapes=shapes)
        except Exception as error:
            raise NotExported(f"{type(error).__name__}: {str(error)[:100]}") from None
    assert program is not None
    return program.model_proto


@wrap("true", (1e-4,), BOTH)
def script_if() -> onnx.ModelProto:
    return _script(0)


@wrap("true", (1e-4,), BOTH)
def script_for() -> onnx.ModelProto:
    return _script(1)


def _script(rounds: int) -> onnx.ModelProto:
    file: Any = io.BytesIO()  # torch takes it, and its annotations do not say so
    axes = {"image": {0: "batch", 2: "height", 3: "width"}}
    with quiet():
        try:
            module = torch.jit.script(Looped(rounds).eval())
            names: dict[str, Any] = {"input_names": ["image"], "dynamic_axes": axes, "opset_version": 17}
            torch.onnx.export(module, (IMAGE,), file, dynamo=False, **names)
        except Exception as error:
            raise NotExported(f"{type(error).__name__}: {str(error)[:100]}") from None
    return onnx.load_model_from_string(file.getvalue())
