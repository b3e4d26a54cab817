"""Writes the files beside this one: detectors of the real Ultralytics with SimAM in four places, of few channels.

    make build/peers/.venv/installed && build/peers/.venv/bin/python -m tests.yolo.make

Each network has the blocks of one generation of YOLO, from a YAML of our own; the weights are drawn. The graph is as
the exporter writes it, but for its comments: date and licence, lines and paths of source code.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import torch
import yaml
from ultralytics import YOLO
from ultralytics.nn import tasks

from benchmarks.peers.yolo_models import SimAM, drawn, prepared

HERE = Path(__file__).parent
SIZE = (32, 64)
LARGEST = 1_000_000
"""Bytes of all files."""
ALL = {0: "batch", 2: "height", 3: "width"}
FACTS = ("task", "stride", "batch", "imgsz", "names", "channels", "end2end")
"""Of the metadata, what their own runtime reads."""


def network(block: str, **more: Any) -> dict[str, Any]:
    """A YAML: strides 4 and 8, one map for the head."""
    return {
        "nc": 2,
        "reg_max": 2,
        "scales": {"n": [1, 1, 1024]},
        "backbone": [
            [-1, 1, "Conv", [8, 3, 2]],
            [-1, 1, "SimAM", []],
            [-1, 1, "Conv", [8, 3, 2]],
            [-1, 1, block, [8]],
            [-1, 1, "SimAM", []],
            [-1, 1, "Conv", [8, 3, 2]],
            [-1, 1, "SPPF", [8, 5]],
            [-1, 1, "SimAM", []],
        ],
        "head": [
            [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
            [[-1, 4], 1, "Concat", [1]],
            [-1, 1, block, [8]],
            [-1, 1, "SimAM", []],
            [[11], 1, "Detect", ["nc"]],
        ],
        **more,
    }


NETWORKS = {
    "yolo11n": network("C3k2"),
    "yolov8n": network("C2f"),
    "yolov5n": network("C3"),
    "yolo26n": network("C3k2", reg_max=1, end2end=True),
}


def theirs(yolo: YOLO, **options: Any) -> onnx.ModelProto:
    """Their export."""
    return onnx.load(yolo.export(format="onnx", imgsz=SIZE, **options))


def batch(yolo: YOLO, opset: int) -> onnx.ModelProto:
    """The call of torch.onnx.export that their export makes, with a dynamic batch alone."""
    model, image = prepared(yolo, imgsz=SIZE)
    names = {"images": {0: "batch"}, "output0": {0: "batch"}}
    torch.onnx.export(
        model,
        (image,),
        "batch.onnx",
        dynamo=False,
        opset_version=opset,
        input_names=["images"],
        output_names=["output0"],
        dynamic_axes=names,
    )
    return onnx.load("batch.onnx")


def dynamo(yolo: YOLO, axes: dict[int, str]) -> onnx.ModelProto:
    """The other exporter of torch, on the model that their export prepares."""
    model, image = prepared(yolo, imgsz=SIZE, dynamic=len(axes) > 1)
    program = torch.onnx.export(model, (image,), dynamo=True, verbose=False, dynamic_shapes=(axes,) if axes else None)
    assert program is not None
    return program.model_proto


def raw(yolo: YOLO) -> onnx.ModelProto:
    """torch's classic exporter on the model as it stands: the head gives the raw maps, too."""
    torch.onnx.export(yolo.model, (torch.zeros(1, 3, *SIZE),), "raw.onnx", dynamo=False, opset_version=14)
    return onnx.load("raw.onnx")


FILES: dict[str, tuple[str, Callable[[YOLO], onnx.ModelProto]]] = {
    "yolo11n-12": ("yolo11n", partial(theirs, opset=12)),
    "yolo11n-12-dynamic": ("yolo11n", partial(theirs, opset=12, dynamic=True, simplify=False)),
    "yolo11n-17-dynamic-slim": ("yolo11n", partial(theirs, opset=17, dynamic=True)),
    "yolo11n-dynamo": ("yolo11n", partial(dynamo, axes={})),
    "yolo11n-dynamo-dynamic": ("yolo11n", partial(dynamo, axes=ALL)),
    "yolo11n-nms": ("yolo11n", partial(theirs, opset=17, nms=True)),
    "yolov8n-17-dynamic": ("yolov8n", partial(theirs, opset=17, dynamic=True, simplify=False)),
    "yolov8n-half": ("yolov8n", partial(theirs, quantize=16)),
    "yolov8n-dynamo-batch": ("yolov8n", partial(dynamo, axes={0: "batch"})),
    "yolov5n-12-batch": ("yolov5n", partial(batch, opset=12)),
    "yolov5n-14-raw": ("yolov5n", raw),
    "yolo26n-17": ("yolo26n", partial(theirs, opset=17, nms=False)),
}


def bare(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without what the exporter says of itself and of the code that it read."""
    kept = [entry for entry in model.metadata_props if entry.key in FACTS]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.graph.doc_string = ""
    functions = [function.node for function in model.functions]
    for part in (*model.graph.node, *model.graph.value_info, *(node for nodes in functions for node in nodes)):
        del part.metadata_props[:]
        part.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    return model


def main() -> None:
    """Write them all."""
    from ultralytics.engine import exporter

    tasks.SimAM = SimAM
    exporter.file_size = lambda _: 1.0  # megabytes: their export refuses small files
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, (made_of, export) in FILES.items():
            path = Path(f"{made_of}.yaml")
            path.write_text(yaml.safe_dump(NETWORKS[made_of]))
            data = bare(export(drawn(path, SIZE))).SerializeToString()
            print(f"{name}: {len(data):,} bytes", flush=True)
            (HERE / f"{name}.onnx").write_bytes(data)
    assert sum(path.stat().st_size for path in HERE.glob("*.onnx")) <= LARGEST


if __name__ == "__main__":
    main()
