"""A model that remembers its earlier runs has no one answer that a file could hold."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from simam_deploy import SimAM
from simam_deploy.errors import InputError
from simam_deploy.to_onnx import export
from simam_deploy.to_onnx.arguments import call_of
from simam_deploy.to_onnx.memory import same_answer

X = torch.zeros(1, 3, 8, 8)


class Remembers(nn.Module):
    def __init__(self, change: Callable[[nn.Module, Tensor], object]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.attention, self.change = nn.Conv2d(3, 4, 3), SimAM(), change
        self.last: Tensor | None = None
        self.calls = 0
        self.register_buffer("mean", torch.ones(1, 4, 6, 6))

    def forward(self, x: Tensor) -> object:
        return self.change(self, self.attention(self.conv(x)))


def smoothed(model: nn.Module, y: Tensor) -> Tensor:
    model.last = y if model.last is None else 0.9 * model.last + 0.1 * y
    return model.last


def warmed_up(model: nn.Module, y: Tensor) -> Tensor:
    model.calls += 1
    return y if model.calls == 1 else 2 * y


def averaged(model: nn.Module, y: Tensor) -> Tensor:
    model.mean = 0.9 * model.mean + y
    return model.mean


def averaged_in_place(model: nn.Module, y: Tensor) -> Tensor:
    return model.mean.mul_(0.9).add_(y)


def more_the_second_time(model: nn.Module, y: Tensor) -> dict[str, Tensor]:
    before, model.last = model.last, y
    return {"y": y} if before is None else {"y": y, "before": before}


@pytest.mark.parametrize("change", [smoothed, warmed_up, averaged, averaged_in_place, more_the_second_time])
@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_a_model_that_remembers_is_refused(
    change: Callable[[nn.Module, Tensor], object], exporter: str, tmp_path: Path
) -> None:
    model = Remembers(change)
    with pytest.raises(InputError, match=r"for the same inputs once it saw others .* remembers an earlier run"):
        export(model, X, tmp_path / "m.onnx", exporter=exporter, runtimes=["ort"], inputs=["plain"])
    assert not any(tmp_path.iterdir())
    assert model.last is None
    assert model.calls == 0
    assert torch.equal(model.mean, torch.ones(1, 4, 6, 6))


def cached(model: nn.Module, y: Tensor) -> Tensor:
    if model.last is None:
        model.last = torch.arange(6.0)
    model.calls += 1
    return y + model.last


def test_a_model_that_keeps_a_cache_is_exported(tmp_path: Path) -> None:
    done = export(
        Remembers(cached), X, tmp_path / "m.onnx", exporter="torchscript", runtimes=["ort"], inputs=["plain"]
    )
    assert done.parity is not None
    assert done.parity.passed


def test_noise_that_a_model_does_not_take_is_left_out() -> None:
    def of_its_own_domain(_: nn.Module, y: Tensor) -> Tensor:
        if y.std() > 0.2:
            raise ValueError("no image")
        return y

    model = Remembers(of_its_own_domain).eval()
    answer = same_answer(model, call_of(model, X, None))
    assert torch.equal(answer, model(X))
