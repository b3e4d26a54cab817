"""Ultralytics' detectors with SimAM in four places, built from their YAML; nothing is downloaded.

SimAM ends the backbone's pooling pyramid (SPPF), and each of the three maps that the head reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import ultralytics
import yaml
from torch import Tensor, nn
from ultralytics import YOLO
from ultralytics.nn import tasks

from export_models._random import images, randomised

_YAML = Path(ultralytics.__file__).parent / "cfg/models"


class SimAM(nn.Module):
    """(N, C, H, W) to the same, as a user writes it; λ as published."""

    def __init__(self, e_lambda: float = 1e-4) -> None:
        super().__init__()
        self.act = nn.Sigmoid()
        self.e_lambda = e_lambda

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        n = x.shape[2] * x.shape[3] - 1
        d = (x - x.mean(dim=[2, 3], keepdim=True)).pow(2)
        return x * self.act(d / (4 * (d.sum(dim=[2, 3], keepdim=True) / n + self.e_lambda)) + 0.5)


def build(name: str, folder: Path, size: tuple[int, int]) -> YOLO:
    """`name`, as yolo11n, with SimAM, from a YAML that is written into `folder`; see `drawn`."""
    tasks.SimAM = SimAM  # where the YAML's names are looked up
    path = folder / f"{name}-simam.yaml"
    path.write_text(yaml.safe_dump(with_simam(name), sort_keys=False, default_flow_style=None))
    return drawn(path, size)


def drawn(path: Path, size: tuple[int, int]) -> YOLO:
    """The model of a YAML, its weights drawn, and calibrated on images of `size`."""
    yolo = YOLO(path)
    yolo.model = randomised(lambda: YOLO(path).model, calibrate_on=images(4, *size, seed=0), seed=0)
    for module in yolo.model.modules():
        if type(module).__name__ == "DFL":  # its weights are 0, 1, ..., and no training changes them
            module.conv.weight.data.copy_(torch.arange(module.c1, dtype=torch.float).view(1, -1, 1, 1))
    return yolo


def with_simam(name: str) -> dict[str, Any]:
    """The YAML of `name` with `- [-1, 1, SimAM, []]` in four places; who read the layer before it reads SimAM."""
    (path,) = _YAML.rglob(f"{name.rstrip('n')}.yaml")
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    old = found["backbone"] + found["head"]
    places = {next(i for i, layer in enumerate(old) if layer[2] == "SPPF"), *old[-1][0]}
    now = {-1: -1}
    new: list[list[Any]] = []
    for i, (source, *rest) in enumerate(old):
        new.append([[now[j] for j in source] if isinstance(source, list) else now[source], *rest])
        if i in places:
            new.append([-1, 1, "SimAM", []])
        now[i] = len(new) - 1
    backbone = now[len(found["backbone"]) - 1] + 1
    return found | {"backbone": new[:backbone], "head": new[backbone:]}


class _Prepared(Exception):
    """Their exporter, when the model is ready and nothing is written yet."""


def prepared(yolo: YOLO, **asked: Any) -> tuple[nn.Module, Tensor]:
    """Arguments of their exporter to torch.onnx.export: the fused model, head in export mode, and its input."""

    def stop(exporter: Any) -> None:
        raise _Prepared(exporter.model, exporter.im)

    yolo.add_callback("on_export_start", stop)
    try:
        yolo.export(format="onnx", **asked)
    except _Prepared as ready:
        model, image = ready.args
        return model, image
    finally:
        yolo.callbacks["on_export_start"].remove(stop)
    raise AssertionError("on_export_start was not called")
