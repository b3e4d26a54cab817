"""Ultralytics' YOLO with SimAM: every road to an ONNX file, with every set of dynamic axes.

Its page is docs/howto/yolo.md.

A case writes a file, lists its blocks (`inspect`), fuses them in the default form (`fuse`), compares both files with
the first in float64, gate by gate (`verify --gates`), and times both in turn in ONNX Runtime (`bench`), where the
kernel has to take every block. Each of these is the command that a user types, in a process of its own.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.page import grid
from benchmarks.peers import Cases, Figures

if TYPE_CHECKING:
    from ultralytics import YOLO

DOCS = Path(__file__).parents[2] / "docs/howto/yolo.md"
MODELS = ("yolo11n", "yolov8n", "yolov5n")
BLOCKS = 4
SIZE = (160, 192)
OTHER_SIZE = (192, 224)
AXES = {"fixed": (), "batch": ("batch",), "batch, height, width": ("batch", "height", "width")}
INPUTS = ("plain", "faint")
THREADS = 2
AxisNames = tuple[str, ...]
Road = Callable[["YOLO", AxisNames, Path], None]


class Failed(Exception):
    """A step of a case."""


def _ours(exporter: str, yolo: YOLO, axes: AxisNames, path: Path) -> None:
    import torch

    from simam_deploy.to_onnx import export

    head = yolo.model.model[-1]
    head.export, head.dynamic = True, len(axes) > 1
    export(yolo.model, torch.zeros(1, 3, *SIZE), path, dynamic=axes, exporter=exporter)


def _theirs(options: Figures, yolo: YOLO, axes: AxisNames, path: Path) -> None:
    """`yolo.export` knows no dynamic batch alone; there, the call of torch.onnx.export behind it is made."""
    if axes != AXES["batch"]:
        Path(yolo.export(format="onnx", imgsz=SIZE, dynamic=bool(axes), **options)).rename(path)
        return
    from ultralytics.utils.export.engine import torch2onnx

    from benchmarks.peers.yolo_models import prepared

    model, image = prepared(yolo, imgsz=SIZE)
    names = {"images": {0: "batch"}, "output0": {0: "batch"}}
    torch2onnx(model, image, str(path), options.get("opset", 18), ["images"], ["output0"], names)


def _adopted(yolo: YOLO, axes: AxisNames, path: Path) -> None:
    import torch

    from simam_deploy.pytorch.adopt import adopt

    done = adopt(yolo.model, torch.zeros(1, 3, *SIZE), inplace=True)
    if (count := sum(len(row.names) for row in done.rows)) != BLOCKS:
        raise Failed(f"adopt took {count} modules of {BLOCKS}")
    _theirs({}, yolo, axes, path)


def _dynamo(yolo: YOLO, axes: AxisNames, path: Path) -> None:
    import torch

    from benchmarks.peers.yolo_models import prepared
    from simam_deploy.to_onnx.axes import BY_RANK

    model, image = prepared(yolo, imgsz=SIZE, dynamic=len(axes) > 1)
    shapes = ({BY_RANK[4][name]: name for name in axes},) if axes else None
    program = torch.onnx.export(model, (image,), dynamo=True, verbose=False, dynamic_shapes=shapes)
    assert program is not None
    program.save(path)


OURS: dict[str, Road] = {
    "`export`, dynamo": partial(_ours, "dynamo"),
    "`export`, torchscript": partial(_ours, "torchscript"),
}
"""Their files are fused already."""
ROADS: dict[str, Road] = {
    **OURS,
    "`yolo.export`, opset 12": partial(_theirs, {"opset": 12}),
    "`yolo.export`, opset 17, not simplified": partial(_theirs, {"opset": 17, "simplify": False}),
    "`adopt`, `yolo.export`": _adopted,
    "`torch.onnx.export`, dynamo": _dynamo,
}


def cases() -> Cases:
    """The page as it stands; every model on every road with every set of axes."""
    return {
        ("docs/howto/yolo.md",): _page,
        **{names: partial(_case, *names) for names in product(MODELS, ROADS, AXES)},
    }


def _page(folder: Path) -> Figures:
    """Its code and its commands, in order; best.onnx is then that of the last. Theirs predicts with both files."""
    from benchmarks.peers.yolo_models import build

    os.chdir(folder)
    build("yolo11n", folder, size=SIZE)
    blocks = re.findall(r"```(python|sh)[^\n]*\n(.*?)```", DOCS.read_text(), re.DOTALL)
    for language, text in blocks:
        if language == "python":
            exec(text, {})
        else:
            for line in text.strip().splitlines():
                _run(*shlex.split(line)[1:])
            _predict_alike(*(folder / name for name in ("best.onnx", "best.simam.onnx")))
    return {"parts": len(blocks), "blocks": len(_run("inspect", folder / "best.onnx")["blocks"])}


def _predict_alike(before: Path, after: Path) -> None:
    import numpy as np
    from ultralytics import YOLO

    image = np.random.default_rng(0).integers(0, 256, (*OTHER_SIZE, 3), dtype=np.uint8)
    a, b = (YOLO(path, task="detect").predict(image, conf=1e-9, verbose=False)[0].boxes for path in (before, after))
    if not len(a) or a.shape != b.shape or not np.allclose(a.data, b.data, rtol=1e-3, atol=1e-2):
        raise Failed(f"{after.name} predicts {b.shape[0]} other boxes than the {a.shape[0]} of {before.name}")


def _case(model: str, road: str, axes: str, folder: Path) -> Figures:
    from benchmarks.peers.yolo_models import build

    os.chdir(folder)  # their exporter writes beside the YAML's name
    asked = AXES[axes]
    before, after = folder / "before.onnx", folder / "after.onnx"
    fused = road in OURS
    made = after if fused else before
    ROADS[road](build(model, folder, size=SIZE), asked, made)
    found = _run("inspect", made)["blocks"]
    if len(found) != BLOCKS:
        raise Failed(f"inspect found {len(found)} blocks of {BLOCKS}")
    _run("fuse", made, *(("-o", before, "--form", "primitive") if fused else ("-o", after)))
    written = _run("inspect", after)
    if len(written["blocks"]) != BLOCKS:
        raise Failed(f"inspect found {len(written['blocks'])} blocks of {BLOCKS} in the fused file")
    kernel = written["kernel"]
    if (kernel["ran"], kernel["of"]) != (BLOCKS, BLOCKS):
        raise Failed(f"the kernel ran {kernel['ran']} of {kernel['of']} nodes: {kernel['why']}")
    batch, size = (2, OTHER_SIZE) if len(asked) > 1 else (1 + len(asked), SIZE)
    gates = _run(
        *("verify", before, after, "--gates", "--runtimes", "ort"),
        *("--inputs", ",".join(INPUTS), "--shape", _shape(batch, size)),
    )
    if len(gates["gates"]) != (count := 2 * BLOCKS * len(INPUTS)):
        raise Failed(f"verify judged {len(gates['gates'])} gates of {count}")
    timed = _run(
        *("bench", before, after, "--runtimes", "ort", "--shape", _shape(1, SIZE)),
        *("--threads", THREADS, "--seconds", 2),
    )
    return {
        "opset": written["opset"],
        "blocks": len(found),
        "worst": max(row["share"] for row in (*gates["rows"], *gates["gates"])),
        "before_ms": timed["rows"][1]["median_us"] / 1e3,
        "after_ms": timed["rows"][2]["median_us"] / 1e3,
        "kernel": kernel["target"],
    }


def _shape(batch: int, size: tuple[int, int]) -> str:
    return f"{batch},3,{size[0]},{size[1]}"


def _run(command: str, *arguments: object) -> dict[str, Any]:
    """The JSON of a command. Raises Failed with its own words."""
    line = [sys.executable, "-m", "simam_deploy.cli", command, "--json", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [text for text in done.stderr.splitlines() if not text.startswith("... ")]
        raise Failed(f"{command}: exit {done.returncode}: {' '.join(said) or done.stdout[-300:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def table(run: Mapping[str, Any]) -> list[str]:
    """A row for each model and road."""
    rows = {row["case"]: row for row in run["rows"]}
    cells = [
        [model, road, *(_cell(rows.get(" · ".join((model, road, axes)))) for axes in AXES)]
        for model, road in product(MODELS, ROADS)
    ]
    versions = ", ".join(f"{name} {run['versions'][key]}" for name, key in _VERSIONS.items())
    (kernel,) = {row["kernel"] for row in run["rows"] if "kernel" in row} or {"none"}
    return [
        *grid(["model", "road", *AXES], cells),
        "",
        f"{THREADS} threads, {SIZE[0]}x{SIZE[1]} pixels, {run['machine']}, kernel {kernel}, {versions}, "
        f"{run['date']}.",
    ]


_VERSIONS = {
    "Ultralytics": "ultralytics",
    "torch": "torch",
    "onnxslim": "onnxslim",
    "onnx": "onnx",
    "ONNX Runtime": "onnxruntime",
}


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None or "failure" in row:
        return "not run" if row is None else "fails"
    return f"{row['blocks']}, {row['before_ms']:.1f} → {row['after_ms']:.1f} ms"
