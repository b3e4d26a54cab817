"""A trace keeps the values of the example that forward takes into Python: such a file is wrong for other inputs."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from simam_deploy import SimAM
from simam_deploy.errors import InputError
from simam_deploy.to_onnx import export

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
Change = Callable[[nn.Module, Tensor], Tensor]
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


class Net(nn.Module):
    def __init__(self, change: Change) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.attention, self.change = nn.Conv2d(3, 4, 3), SimAM(), change
        self.gain = nn.Parameter(torch.ones(1))
        self.register_buffer("scale", torch.ones(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(self.conv(self.change(self, x)))


def negated(x: Tensor) -> Tensor:
    if bool(x.min() < 0):
        return -x
    return x


def branch(_: nn.Module, x: Tensor) -> Tensor:
    return (x + 1) / 2 if x.min() < 0 else x  # bool()


def item(_: nn.Module, x: Tensor) -> Tensor:
    return x / 255 if x.max().item() > 1e4 else x  # .item()


def scaled(_: nn.Module, x: Tensor) -> Tensor:
    return x / float(x.max())  # float()


def loop(_: nn.Module, x: Tensor) -> Tensor:
    for _ in range(int(x.max())):  # int()
        x = x + 1
    return x


def index(_: nn.Module, x: Tensor) -> Tensor:
    return x * [1.0, 2.0][(x.max() > 100).long()]  # index()


def listed(_: nn.Module, x: Tensor) -> Tensor:
    return x * sum(x.amax((1, 2, 3)).tolist())  # .tolist()


def array(_: nn.Module, x: Tensor) -> Tensor:
    return x * float(np.max(x.numpy()))  # .numpy()


def as_array(_: nn.Module, x: Tensor) -> Tensor:
    return x * float(np.asarray(x).max())  # NumPy


def held(_: nn.Module, x: Tensor) -> Tensor:
    return x + 1 if 0.0 in x else x  # in


def equal(_: nn.Module, x: Tensor) -> Tensor:
    return x + 1 if torch.equal(x, 2 * x) else x  # torch.equal()


def rebuilt(_: nn.Module, x: Tensor) -> Tensor:
    return x * torch.tensor([x.min(), x.max()]).sum()  # torch.tensor()


def asserted(_: nn.Module, x: Tensor) -> Tensor:
    assert not torch.isnan(x).any()
    return x


def raised(_: nn.Module, x: Tensor) -> Tensor:
    if torch.isnan(x).any():  # bool()
        raise ValueError("no image")
    return x


def through_a_view(_: nn.Module, x: Tensor) -> Tensor:
    low = torch.zeros(2)
    low[1].copy_(x.min())
    return x + 1 if low.sum() < 0 else x  # bool()


def through_a_script(_: nn.Module, x: Tensor) -> Tensor:
    return x + 1 if torch.jit.script(negated)(x).max() > 100 else x  # bool()


def everything(_: nn.Module, x: Tensor) -> Tensor:
    return torch.zeros(1, 3, 8, 8) if x.amax() < 10 else x  # bool()


TAKEN = [branch, item, scaled, loop, index, listed, array, as_array, held, equal, rebuilt, raised, through_a_view]


@pytest.mark.parametrize("change", [*TAKEN, through_a_script, everything])
def test_a_value_that_a_trace_would_keep(change: Change, tmp_path: Path) -> None:
    lines, first = inspect.getsourcelines(change)
    at = next(i for i, line in enumerate(lines) if "  # " in line)
    how = re.escape(lines[at].split("  # ")[1].strip())
    words = (
        r"^the model takes values of its inputs into Python, and the torchscript exporter keeps those of the example "
        rf"for every input:\n  {re.escape(__file__)}:{first + at}: {how} in `.*`\n.*torch\.where.*--no-check"
    )
    with pytest.raises(InputError, match=words):
        export(Net(change), X, tmp_path / "m.onnx", exporter="torchscript", runtimes=["ort"], inputs=["plain"])
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("change", [branch, scaled])
def test_without_the_check_it_is_exported(change: Change, tmp_path: Path) -> None:
    export(Net(change), X, tmp_path / "m.onnx", exporter="torchscript", check=False)
    assert [value.name for value in onnx.load(tmp_path / "m.onnx").graph.output] == ["output"]


def by_size(_: nn.Module, x: Tensor) -> Tensor:
    if x.shape[0] > 5 or x.size(-1) % 3 == 0 or len(x) > 9 or x.numel() > 1e6:
        return 2 * x
    return x * float(torch.tensor(x.shape).max())


def by_state(model: nn.Module, x: Tensor) -> Tensor:
    if model.scale.min() < 0 or model.gain.item() > 3:
        return 2 * x
    return x * float(model.gain)


def by_constants(_: nn.Module, x: Tensor) -> Tensor:
    if torch.zeros_like(x).sum() > 0 or x.new_ones(3).tolist() == [0.0] or torch.full_like(x, 3.0).max() < 0:
        return 2 * x
    return x * int(torch.arange(3).max())


def scripted(_: nn.Module, x: Tensor) -> Tensor:
    return torch.jit.script(negated)(x)


def eagerly(_: nn.Module, x: Tensor) -> Tensor:
    if not torch.jit.is_tracing() and not torch.isfinite(x).all():
        raise ValueError("no image")
    return x


def chosen(_: nn.Module, x: Tensor) -> Tensor:
    return torch.where(x.min() < 0, (x + 1) / 2, x)


@pytest.mark.parametrize("change", [by_size, by_state, by_constants, scripted, asserted, eagerly, chosen])
def test_no_value_of_the_inputs(change: Change, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    done = export(Net(change), X, path, exporter="torchscript", runtimes=["ort"], inputs=["plain", "uniform"])
    assert done.parity is not None
    assert done.parity.passed


@pytest.mark.parametrize("change", [branch, item, equal])
def test_dynamo_sends_nobody_to_the_trace(change: Change, tmp_path: Path) -> None:
    words = r"^torch\.onnx\.export \(dynamo\) refused the model:\n(.*\n)*its code chooses by values of the inputs"
    with pytest.raises(InputError, match=words) as caught:
        export(Net(change), X, tmp_path / "m.onnx", runtimes=["ort"], inputs=["plain"])
    assert "--exporter torchscript" not in str(caught.value)
