"""Models that compute in 16 bits inside: a runtime that has no such operator is named, and ways on."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from simam_deploy import SimAM
from simam_deploy.errors import RuntimeUnavailable
from simam_deploy.to_onnx import export

X = torch.randn(1, 3, 9, 7, generator=torch.Generator().manual_seed(0))


class Autocast(nn.Module):
    def __init__(self, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.conv, self.norm, self.simam = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), SimAM()
        self.dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=self.dtype, enabled=self.dtype is not None):
            return self.simam(self.norm(self.conv(x))).float()


class Sines(nn.Module):
    """No autocast, and an operator that the runtime has for float32 alone."""

    def __init__(self) -> None:
        super().__init__()
        self.simam = SimAM()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.simam(x).to(torch.bfloat16).sin().float()


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize(("runtimes", "operator"), [(["ort"], "Conv"), (["openvino"], "Conv|BatchNorm")])
def test_a_runtime_without_the_operator(tmp_path: Path, exporter: str, runtimes: list[str], operator: str) -> None:
    with pytest.raises(RuntimeUnavailable) as caught:
        export(
            Autocast(torch.bfloat16), X, tmp_path / "m.onnx", exporter=exporter, runtimes=runtimes, inputs=["plain"]
        )
    said = str(caught.value)
    runtime = said.partition(" ")[0]
    assert runtime in runtimes
    first, reason, *ways = said.splitlines()
    assert first == f"{runtime} cannot run what the model does, so it is not compared there:"
    assert "cannot load m.onnx: " in reason
    assert any(name in reason for name in operator.split("|"))
    assert ways[0] == "the model computes in bfloat16; export it without autocast (enabled=False), or with .float()"
    assert ways[1:] == ["or compare it on another runtime (--runtimes onnx_half), or not at all (--no-check)"]
    assert str(tmp_path) not in said
    assert list(tmp_path.iterdir()) == []


def test_the_ways_on(tmp_path: Path) -> None:
    model = Autocast(torch.bfloat16)
    done = export(model, X, tmp_path / "a.onnx", inputs=["plain"])
    assert done.parity is not None
    assert {row.session for row in done.parity.rows} == {"onnx_half"}
    assert done.parity.gates
    assert any("computed without the casts that its forward makes: autocast" in note for note in done.parity.notes)
    export(model, X, tmp_path / "b.onnx", check=False)
    model.dtype = None
    export(model, X, tmp_path / "c.onnx", inputs=["plain"])


def test_one_operator_without_autocast(tmp_path: Path) -> None:
    with pytest.raises(
        RuntimeUnavailable, match=r"^ort cannot run .*\n.*\(Sin\).*\nthe model computes in bfloat16; "
    ):
        export(Sines(), X, tmp_path / "m.onnx", runtimes=["ort"], inputs=["plain"])


def test_a_runtime_that_is_not_installed_is_another_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(RuntimeUnavailable, match=r"^runtime 'openvino' needs the module openvino"):
        export(SimAM(), X, tmp_path / "m.onnx", runtimes=["openvino"], inputs=["plain"])
