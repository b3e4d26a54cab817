"""A model that is another one with our SimAM in it is refused, and the same one is not."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.adopting import X, names, net
from helpers.modules import simam_module
from torch import Tensor, nn

from simam_deploy.errors import InputError
from simam_deploy.pytorch.adopt import adopt, adopted
from simam_deploy.to_onnx import export


class AsksForTheClass(nn.Module):
    """Skips a layer of a class that it does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.layers, self.last = nn.Conv2d(3, 3, 1), nn.ModuleList([simam_module()]), simam_module()

    def forward(self, x: Tensor) -> object:
        y = self.conv(x)
        for layer in self.layers:
            if isinstance(layer, simam_module):
                y = layer(y)
        return self.result(self.last(y))

    def result(self, y: Tensor) -> object:
        return y


class InADict(AsksForTheClass):
    def result(self, y: Tensor) -> object:
        return {"shape": tuple(y.shape), "levels": [(torch.zeros(3), y)]}


class UsesAChild(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.att = simam_module()

    def forward(self, x: Tensor) -> Tensor:
        return self.att(x) * self.att.activaton(x)  # type: ignore[operator]


SKIPS, FAILS = (
    r"output {} differs by [\d.]+, where its largest value is [\d.]+\n",
    "it fails with AttributeError: .*\n",
)

OTHERS: dict[str, tuple[Callable[[], nn.Module], torch.dtype, str]] = {
    "asks for the class": (AsksForTheClass, torch.float32, SKIPS.format(0)),
    "in a dict": (InADict, torch.float32, SKIPS.format(1)),
    "float64": (AsksForTheClass, torch.float64, SKIPS.format(0)),
    "float16": (AsksForTheClass, torch.float16, SKIPS.format(0)),
    "bfloat16": (AsksForTheClass, torch.bfloat16, SKIPS.format(0)),
    "uses a child": (UsesAChild, torch.float32, FAILS),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_model_that_is_another_one_with_ours_is_refused(name: str) -> None:
    make, dtype, words = OTHERS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().to(dtype).train()
    before = [id(m) for m in model.modules()]
    x = X.to(dtype)
    whole = (
        f"(?s)another one with our SimAM in it: {words}.*\n  .*(last|att) .simam_module.\n.*--no-adopt .adopt=False"
    )
    for inplace in (True, False):
        with pytest.raises(InputError, match=whole):
            adopt(model, x, inplace=inplace)
    with pytest.raises(InputError, match=whole), adopted(model, x):
        pytest.fail("it was entered")
    assert [id(m) for m in model.modules()] == before
    assert all(m.training and not m._forward_pre_hooks and not m._forward_hooks for m in model.modules())
    assert names(adopt(model))  # which nobody can know without inputs


def test_the_same_model_in_other_types_of_results() -> None:
    class Results(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net(simam_module())
            self.held: list[Tensor] = []

        def forward(self, x: Tensor) -> object:
            y = self.net(x)
            return {"y": y, "list": [y.argmax(1), (y > 0, y.log())], "none": None, "complex": torch.fft.fft(y)}

    for dtype in (torch.float32, torch.float64):
        assert names(adopt(Results().to(dtype), X.to(dtype))) == ["net.0.layers.0"]


def test_a_random_model_is_not_judged() -> None:
    class Random(UsesAChild):
        def forward(self, x: Tensor) -> Tensor:
            return self.att(x) + torch.rand(1)  # type: ignore[no-any-return]

    assert names(adopt(Random(), X)) == ["att"]


def test_export_says_that_adoption_changes_the_model(tmp_path: Path) -> None:
    for model in (AsksForTheClass(), UsesAChild()):
        for exporter in ("dynamo", "torchscript"):
            with pytest.raises(InputError, match="another one with our SimAM in it"):
                export(model, X, tmp_path / "m.onnx", exporter=exporter)
        assert len(export(model, X, tmp_path / "m.onnx", adopt=False, check=False).fused.rows) > 0
        (tmp_path / "m.onnx").unlink()
