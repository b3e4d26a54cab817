"""The λ in an exported file is that of the module: seen even where the outputs do not show it."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simam_deploy import SimAM
from simam_deploy import to_onnx as room
from simam_deploy.errors import InputError, VerificationError
from simam_deploy.to_onnx import Exported, export

X = torch.randn(2, 3, 16, 20, generator=torch.Generator().manual_seed(0))


class Theirs(nn.Module):
    """A spelling of somebody's, with a name of its own for λ."""

    def __init__(self, lam: float) -> None:
        super().__init__()
        self.lam = lam

    def forward(self, x: Tensor) -> Tensor:
        return simam(x, self.lam)


def simam(x: Tensor, lam: float) -> Tensor:
    d = (x - x.mean(dim=(2, 3), keepdim=True)).pow(2)
    v = d.sum(dim=(2, 3), keepdim=True) / (x.shape[2] * x.shape[3] - 1)
    return x * torch.sigmoid(d / (4 * (v + lam)) + 0.5)


class Net(nn.Module):
    """Convolutions with an attention behind each, called in the order of `order`; lam : of one more, in forward."""

    def __init__(self, *attentions: nn.Module, order: str = "", lam: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.convs = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in attentions)
        self.attentions, self.lam = nn.ModuleList(attentions), lam
        self.order = [int(i) for i in order] if order else range(len(attentions))

    def forward(self, x: Tensor) -> Tensor:
        for i in self.order:
            x = self.attentions[i](self.convs[i](x))
        return simam(x + 1, self.lam) if self.lam else x


NETS: dict[str, Callable[[], nn.Module]] = {
    "ours": lambda: Net(SimAM(e_lambda=0.1)),
    "theirs": lambda: Net(Theirs(0.1)),
    "the model itself": lambda: Theirs(0.1),
    "both, of two λ": lambda: Net(SimAM(), Theirs(0.1), SimAM(e_lambda=0.02)),
    "called twice": lambda: Net(Theirs(0.1), SimAM(), order="0101"),
    "not called": lambda: Net(Theirs(0.1), SimAM(), order="0"),
    "one in forward too": lambda: Net(Theirs(0.1), SimAM(), lam=0.02),
    "one in forward too, of the same λ": lambda: Net(Theirs(0.1), lam=0.1),
}
IN_FORWARD = {"one in forward too": "0.02", "one in forward too, of the same λ": "0.1"}


def exported(model: nn.Module, path: Path, exporter: str = "torchscript", **options: Any) -> Exported:
    opset = 17 if exporter == "torchscript" else None
    return export(model.eval(), X, path / "m.onnx", exporter=exporter, opset=opset, **options)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_lambda_of_every_module_is_found_again(tmp_path: Path, name: str, exporter: str) -> None:
    done = exported(NETS[name](), tmp_path, exporter)
    assert done.parity is not None
    said = [note for note in done.parity.notes if "λ" in note]
    assert len(said) == (name in IN_FORWARD)
    assert all(f"λ = {IN_FORWARD[name]} at " in note and "was not compared" in note for note in said)


@pytest.mark.parametrize("form", ["primitive", "instance_norm", "custom_op"])
def test_lambda_in_every_form(tmp_path: Path, form: str) -> None:
    assert exported(NETS["both, of two λ"](), tmp_path, form=form).parity is not None


def test_modules_that_are_not_adopted_are_named(tmp_path: Path) -> None:
    done = exported(NETS["both, of two λ"](), tmp_path, adopt=False)
    assert done.parity is not None
    (note,) = (note for note in done.parity.notes if "λ" in note)
    assert "λ = 0.1 at " in note


def tampered(monkeypatch: pytest.MonkeyPatch, change: Callable[[list[SimAM]], None]) -> None:
    """The exporter gets a model whose SimAM are changed."""
    real = room.torch_export

    def changed(model: nn.Module, *given: Any, **options: Any) -> Any:
        model = copy.deepcopy(model)
        whole = vars(model).get("_flat_model")  # no child of what is exported
        change([m for m in dict.fromkeys([*model.modules(), whole]) if type(m) is SimAM])
        return real(model, *given, **options)

    monkeypatch.setattr(room, "torch_export", changed)


@pytest.mark.parametrize("factor", [0.99, 1.0001])
@pytest.mark.parametrize("name", [name for name in NETS if name != "one in forward too, of the same λ"])
def test_a_lambda_that_is_off_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, factor: float
) -> None:
    def change(modules: list[SimAM]) -> None:
        modules[0].e_lambda *= factor

    tampered(monkeypatch, change)
    with pytest.raises(
        VerificationError, match=r"another λ than the model, so it was not written: .* at .*; the model"
    ):
        exported(NETS[name](), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_exchanged_lambdas_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(modules: list[SimAM]) -> None:
        modules[0].e_lambda, modules[1].e_lambda = modules[1].e_lambda, modules[0].e_lambda

    tampered(monkeypatch, change)
    words = r"0.1 at .*, 0.1001 at .*; the model has 0.1001 in attentions.0, 0.1 in attentions.1"
    with pytest.raises(VerificationError, match=words) as caught:
        exported(Net(Theirs(0.1001), SimAM(e_lambda=0.1)), tmp_path)
    assert caught.value.report is None


def test_without_the_check_nothing_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(modules: list[SimAM]) -> None:
        modules[0].e_lambda *= 1.01

    tampered(monkeypatch, change)
    assert exported(NETS["ours"](), tmp_path, check=False).fused.rows[0].e_lambda == pytest.approx(0.101)


def test_the_caller_s_hooks_are_left_alone(tmp_path: Path) -> None:
    model = NETS["both, of two λ"]()
    exported(model, tmp_path)
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("others", [(), (1e-4,)])
def test_a_lambda_that_dynamo_takes_for_0(others: tuple[float, ...], check: bool, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), SimAM(1e-8), *map(SimAM, others)).eval()
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    words = r"^λ is 1e-08 in 1, and the dynamo exporter takes 1e-08 and less for 0 .*\nuse --exporter torchscript"
    with pytest.raises(InputError, match=words):
        export(model, x, tmp_path / "m.onnx", check=check)
    done = export(model, x, tmp_path / "m.onnx", exporter="torchscript", runtimes=["ort"], inputs=["plain"])
    assert [row.e_lambda for row in done.fused.rows] == pytest.approx([1e-8, *others], rel=1e-6)


def test_a_lambda_that_dynamo_keeps(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), SimAM(1.1e-8)).eval()
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    done = export(model, x, tmp_path / "m.onnx", runtimes=["ort"], inputs=["plain"])
    assert [row.e_lambda for row in done.fused.rows] == pytest.approx([1.1e-8], rel=1e-6)
