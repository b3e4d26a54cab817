"""Tests keep what torch looks up for each export: no file differs for it."""

from pathlib import Path

import pytest
import torch
from helpers import torch_lookups
from torch import nn

from simam_deploy import SimAM
from simam_deploy.to_onnx import export

X = torch.randn(2, 3, 16, 20, generator=torch.Generator().manual_seed(0))


def net(attention: nn.Module | None = None) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 4, 3, 2, 1), attention or SimAM(e_lambda=0.1), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3)]
        return nn.Sequential(*layers).eval()


def test_lookups_that_are_kept_change_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch_lookups.py makes tests faster, not files different: also not the second file, made of what was kept."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    torch_lookups.keep()
    for name in ("first.onnx", "second.onnx"):
        export(net(), X, tmp_path / name, check=False)
    looked_up: list[object] = []

    def look_up(registry: ONNXRegistry, *arguments: object, **named: object) -> object:
        looked_up.append(registry)
        return kept.looks_up(*arguments, **named)

    kept = ONNXRegistry.from_torchlib
    monkeypatch.setattr(ONNXRegistry, "from_torchlib", look_up)
    operators = torch._export.utils._materialize_cpp_cia_ops
    monkeypatch.setattr(torch._export.utils, "_materialize_cpp_cia_ops", operators.looks_up)
    export(net(), X, tmp_path / "looked_up.onnx", check=False)
    assert looked_up
    files = [(tmp_path / name).read_bytes() for name in ("first.onnx", "second.onnx", "looked_up.onnx")]
    assert files[0] == files[1] == files[2]
