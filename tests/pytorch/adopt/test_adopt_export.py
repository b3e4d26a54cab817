"""An export adopts, compares its file with the model as it was given, and puts everything back."""

from pathlib import Path

import pytest
import torch
from helpers.adopting import X, names, net
from helpers.modules import HW, Spelled, simam, simam_module, spelled, squares, tensor_n, with_divisor
from torch import Tensor, nn

from simam_deploy import to_onnx as export_room
from simam_deploy.errors import InputError, NoBlockError, VerificationError
from simam_deploy.pytorch import adopt as adopt_room
from simam_deploy.pytorch.module import SimAM
from simam_deploy.runtimes import open_session
from simam_deploy.to_onnx import export


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_export_adopts_and_puts_back(tmp_path: Path, exporter: str) -> None:
    model = net(simam_module(), spelled(with_divisor(1)), spelled(simam, 0.1))
    before = [id(m) for m in model.modules()]
    told: list[str] = []
    done = export(model, X, tmp_path / "m.onnx", exporter=exporter, opset=18, on_progress=told.append)
    assert [id(m) for m in model.modules()] == before
    assert done.adopted is not None
    assert names(done.adopted) == ["0.layers.0", "2.layers.0"]
    assert done.adopted.model is model
    assert [left.class_name for left in done.adopted.left_alone] == ["Spelled"]
    assert [row.e_lambda for row in done.fused.rows] == pytest.approx([1e-4, 0.1])
    assert "try 0.layers.0 (simam_module)" in told
    plain = export(model, X, tmp_path / "p.onnx", exporter=exporter, opset=18, adopt=False, check=False)
    assert plain.adopted is None
    assert len(plain.fused.rows) == 2


def test_a_frozen_size_thaws(tmp_path: Path) -> None:
    """torch.tensor(float(h * w - 1)) is a constant to the TorchScript exporter; adopted, M - 1 follows x."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), Spelled(tensor_n, 0.1)).eval()
    options = {"exporter": "torchscript", "opset": 17, "dynamic": ("height", "width")}
    done = export(model, X, tmp_path / "m.onnx", **options)  # type: ignore[arg-type]
    assert done.parity is not None
    assert done.parity.passed
    x = torch.randn(2, 3, 40, 25, generator=torch.Generator().manual_seed(1))
    with open_session(tmp_path / "m.onnx", "ort") as session, torch.no_grad():
        (y,) = session.run({"input": x.numpy()}).values()
        torch.testing.assert_close(torch.from_numpy(y), model(x))
    # left as it is, its M - 1 is right for the example alone: that is found, and nothing is written
    with pytest.raises(NoBlockError, match=r"right only where the map has H\*W = 63 \(as 7x9\)"):
        export(model, X, tmp_path / "frozen.onnx", adopt=False, **options)  # type: ignore[arg-type]
    with pytest.raises(VerificationError, match="not equal to the model") as caught:
        export(model.append(SimAM()), X, tmp_path / "frozen.onnx", adopt=False, **options)  # type: ignore[arg-type]
    assert {row.case for row in caught.value.report.rows if not row.passed} == {"other size", "odd size"}
    assert not (tmp_path / "frozen.onnx").exists()


class Wrong(SimAM):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(squares(x) / (4 * (x.var(HW, keepdim=True) + 0.3)) + 0.5)


class WrongInTheFile(Wrong):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if torch.compiler.is_exporting() else SimAM.forward(self, x)


@pytest.mark.parametrize("model", [net(simam_module()), simam_module()], ids=["inside", "the model itself"])
def test_the_file_is_compared_with_the_model_as_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: nn.Module
) -> None:
    """If ours were wrong, it would show."""
    monkeypatch.setattr(adopt_room, "SimAM", WrongInTheFile)
    with pytest.raises(VerificationError):
        export(model, X, tmp_path / "m.onnx")
    monkeypatch.setattr(adopt_room, "SimAM", Wrong)
    with pytest.raises(InputError, match="the model is another one with our SimAM in it"):
        export(model, X, tmp_path / "m.onnx")


def test_put_back_when_the_exporter_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = net(simam_module())
    before = [id(m) for m in model.modules()]
    seen: list[type] = []

    def refuse(given: nn.Module, *_: object, **__: object) -> None:
        seen.extend(type(m) for m in given.modules())
        raise RuntimeError("no")

    monkeypatch.setattr(export_room.torch.onnx, "export", refuse)
    with pytest.raises(InputError, match="refused the model"):
        export(model, X, tmp_path / "m.onnx")
    assert SimAM in seen
    assert simam_module not in seen
    assert [id(m) for m in model.modules()] == before
