"""docs/howto/yolo.md is run, with a stand-in for Ultralytics; `make peers` takes its roads with the real one."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.modules import simam_module
from torch import Tensor, nn
from typer.testing import CliRunner

from benchmarks.page import BEGIN, END
from benchmarks.peers import yolo
from benchmarks.peers.__main__ import newest
from simam_deploy.cli import app
from simam_deploy.graph import onnx_file
from simam_deploy.match.find import find
from simam_deploy.pytorch.module import SimAM

PAGE = (Path(__file__).parents[2] / "docs/howto/yolo.md").read_text()
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
YAML, ADOPT = "yolo11n-simam.yaml", "adopt("


class Head(nn.Module):
    """As theirs: the raw maps too, unless `export`; anchors are kept from call to call, unless `dynamic`."""

    export = dynamic = False
    shape: Any = None

    def forward(self, maps: Tensor) -> Any:
        if self.dynamic or self.shape != maps.shape:
            self.anchors, self.shape = torch.arange(maps.shape[3]) + 0.5, maps.shape
        boxes = maps + self.anchors
        return boxes if self.export else (boxes, {"feats": [maps]})


class DetectionModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(3, 4, 3, 8, 1), simam_module(), nn.Conv2d(4, 4, 1), simam_module(), Head()
        )

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        return self.model(x)


class YOLO:
    """What of theirs the page uses. saved : the files that `save` wrote, which `YOLO` then takes."""

    saved: set[str]
    names: ModuleType

    def __init__(self, path: str) -> None:
        assert path in self.saved or (path == YAML and self.names.SimAM is SimAM)  # type: ignore[attr-defined]
        self.model = DetectionModel().eval()

    def save(self, path: str) -> None:
        self.saved.add(path)

    def export(self, *, format: str, dynamic: bool) -> None:
        assert (format, dynamic) == ("onnx", True)
        head = self.model.model[-1]
        head.export = head.dynamic = True
        image, axes = torch.zeros(1, 3, 64, 64), {0: "batch", 2: "height", 3: "width"}
        torch.onnx.export(
            self.model,
            (image,),
            "best.onnx",
            dynamo=False,
            input_names=["images"],
            dynamic_axes={"images": axes},
        )


@pytest.fixture
def ultralytics(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """The package, with best.pt saved; the current folder is empty."""
    package, nn_, tasks = (ModuleType(name) for name in ("ultralytics", "ultralytics.nn", "ultralytics.nn.tasks"))
    package.YOLO = type("YOLO", (YOLO,), {"saved": {"best.pt"}, "names": tasks})  # type: ignore[attr-defined]
    nn_.tasks = tasks  # type: ignore[attr-defined]
    for module in (package, nn_, tasks):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    return SimpleNamespace(saved=package.YOLO.saved)  # type: ignore[attr-defined]


def test_the_table_is_that_of_the_kept_run() -> None:
    """Every model on every road with every set of axes."""
    run = newest("yolo", yolo)
    assert "\n".join([BEGIN, *yolo.table(run), END]) in PAGE
    assert {row["case"] for row in run["rows"]} == {" · ".join(case) for case in yolo.cases()}
    assert [row for row in run["rows"] if "failure" in row] == []
    assert {row["blocks"] for row in run["rows"]} == {yolo.BLOCKS}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}[^\n]*\n(.*?)```", PAGE, re.DOTALL)


def code(word: str) -> str:
    (found,) = (block for block in blocks("python") if word in block)
    return found


def test_the_class_is_registered_and_the_model_saved(ultralytics: SimpleNamespace) -> None:
    ultralytics.saved.clear()
    exec(code(YAML), {})
    assert ultralytics.saved == {"best.pt"}


@pytest.mark.parametrize("before", ['YOLO("best.pt").export(', ADOPT])
def test_their_export_then_the_commands(ultralytics: SimpleNamespace, before: str) -> None:
    exec(code(before), {})
    (commands,) = blocks("sh")
    for line in commands.strip().splitlines():
        program, *arguments = shlex.split(line)
        assert program == "simam-deploy"
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, f"{line}\n{result.output}"
    found = find(onnx_file.load("best.simam.onnx")).blocks
    assert [block.form for block in found] == ["function"] * 2


def test_adopted_in_place(ultralytics: SimpleNamespace) -> None:
    names: dict[str, Any] = {}
    exec(code(ADOPT), names)
    assert sum(isinstance(module, SimAM) for module in names["yolo"].model.modules()) == 2


def test_our_export(ultralytics: SimpleNamespace) -> None:
    exec(code("import export\n"), {})
    model = onnx_file.load("best.onnx")
    assert [block.form for block in find(model).blocks] == ["function"] * 2
    assert len(model.graph.outputs) == 1


def test_our_export_with_dynamic_height_and_width_as_the_page_says(ultralytics: SimpleNamespace) -> None:
    (axes, line) = re.findall(r'`([^`]*"height"[^`]*|yolo\.model[^`]*dynamic = True)`', PAGE)
    text = code("import export\n").replace('dynamic=["batch"]', axes)
    exec(text.replace("export(yolo", f"{line}\nexport(yolo"), {})
    image = onnx_file.load("best.onnx").graph.inputs[0]
    assert [isinstance(dim, int) for dim in image.shape or ()] == [False, True, False, False]
