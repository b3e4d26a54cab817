"""Modules without weights: of the Lazy kind before their first run, and on the meta device."""

from pathlib import Path

import pytest
import torch
from torch import nn

from simam_deploy import SimAM
from simam_deploy.errors import InputError
from simam_deploy.pytorch import checkpoint
from simam_deploy.pytorch.adopt import adopt
from simam_deploy.runtimes.eager import EagerSession
from simam_deploy.to_onnx import export

X = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def net(last: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), SimAM(), nn.Sequential(last)).eval()


LAZY = {
    "LazyConv2d": lambda: net(nn.LazyConv2d(2, 1)),
    "LazyBatchNorm2d": lambda: net(nn.LazyBatchNorm2d()),
    "LazyBatchNorm2d, buffers alone": lambda: net(nn.LazyBatchNorm2d(affine=False)),
}


@pytest.mark.parametrize("made", LAZY)
def test_a_lazy_module_that_did_not_run(made: str, tmp_path: Path) -> None:
    model = LAZY[made]()
    kind = made.partition(",")[0]
    words = rf"^2\.0 \({kind}\) has no weights yet: run the model once on an example, or load its weights$"
    with pytest.raises(InputError, match=words):
        export(model, X, tmp_path / "m.onnx")
    with pytest.raises(InputError, match=words):
        adopt(model, X)
    with pytest.raises(InputError, match=words):
        adopt(model)
    with pytest.raises(InputError, match=words):
        EagerSession(model)


def test_a_lazy_model_itself(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^the model itself \(LazyConv2d\) has no weights yet"):
        export(nn.LazyConv2d(2, 1), X, tmp_path / "m.onnx")


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_a_lazy_module_with_loaded_weights(exporter: str, tmp_path: Path) -> None:
    """Its first run makes it another class, and takes its hooks off: that is taken back, and done again."""
    ran = LAZY["LazyConv2d"]()
    ran(X)
    torch.save(ran.state_dict(), tmp_path / "w.pt")
    model = LAZY["LazyConv2d"]()
    checkpoint.load(model, tmp_path / "w.pt")
    done = export(model, X, tmp_path / "m.onnx", exporter=exporter, runtimes=["ort"], inputs=["plain"])
    assert done.parity is not None
    assert done.parity.passed
    assert isinstance(model[2][0], nn.LazyConv2d)
    assert torch.equal(model(X), ran(X))
    assert type(model[2][0]) is nn.Conv2d


def test_parameters_on_the_meta_device(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = net(nn.Conv2d(4, 2, 1))
    words = r"^0 \(Conv2d\) is on the meta device and has no weights: build it on the CPU, or load them$"
    with pytest.raises(InputError, match=words):
        export(model, X, tmp_path / "m.onnx")
    with pytest.raises(InputError, match=words):
        EagerSession(model)
    assert adopt(model).rows == ()
