"""CPU time of the search for blocks: a graph of 1,000 nodes with 50 SimAM blocks at five sizes.

    python -m benchmarks.recognise

`find` is part of `fuse`; `command` is `simam-deploy fuse`, start included, in a process of its own, whose peak memory
is the last column.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from benchmarks.graph_writer import GraphWriter
from benchmarks.record import keep
from simam_deploy.cli import render
from simam_deploy.graph import onnx_file
from simam_deploy.match import find
from simam_deploy.processes.python_command import python_command
from simam_deploy.rewrite.fuse import fuse

STAGES = ((80, 64), (40, 128), (20, 256), (14, 384), (7, 512))
"""Size of the map, and channels."""
PER_STAGE = 10
LENGTHENED = 1000
"""Nodes; Relus at the end make them up."""


def network(*, dynamic: bool) -> onnx.ModelProto:
    """Convolution, BatchNorm, Relu, Add and SimAM again and again: (1, 3, 160, 160), or all axes but C dynamic."""
    write = GraphWriter()
    x = "image"
    channels = 3
    for size, wider in STAGES:
        step = {"strides": [2, 2], "pads": [1, 1, 1, 1]} if size != 14 else {}
        x = _conv(write, x, channels, wider, 7 if size == 14 else 3, **step)
        channels = wider
        for _ in range(PER_STAGE):
            y = _conv(write, x, channels, channels, 1)
            scale, zero = write.constant(np.ones(channels)), write.constant(np.zeros(channels))
            y = write.op("BatchNormalization", y, scale, zero, zero, scale)
            x = write.op("Relu", write.op("Add", _simam(write, y, None if dynamic else size), x))
    while len(write.nodes) < LENGTHENED:
        x = write.op("Relu", x)
    sizes: list[str | int | None] = ["n", 3, "h", "w"] if dynamic else [1, 3, 160, 160]
    graph = helper.make_graph(
        write.nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, None)],
        write.weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _conv(write: GraphWriter, x: str, channels: int, wider: int, kernel: int, **more: Any) -> str:
    weights = np.zeros((wider, channels, kernel, kernel))
    return write.op("Conv", x, write.constant(weights), **more)


def _simam(write: GraphWriter, x: str, size: int | None) -> str:
    axes = write.constant([2, 3], np.int64)
    d = write.op("Pow", write.op("Sub", x, write.op("ReduceMean", x, axes)), write.constant(2))
    if size is None:
        m = write.op("ReduceProd", write.op("Gather", write.op("Shape", x), axes), keepdims=0)
        n = write.op("Cast", write.op("Sub", m, write.constant(1, np.int64)), to=TensorProto.FLOAT)
    else:
        n = write.constant(size * size - 1)
    v = write.op("Add", write.op("Div", write.op("ReduceSum", d, axes), n), write.constant(1e-4))
    z = write.op("Add", write.op("Div", d, write.op("Mul", v, write.constant(4))), write.constant(0.5))
    return write.op("Mul", x, write.op("Sigmoid", z))


def measure(dynamic: bool, folder: Path) -> dict[str, object]:
    """One row: CPU seconds per step."""
    path, out = folder / "network.onnx", folder / "fused.onnx"
    path.write_bytes(network(dynamic=dynamic).SerializeToString())
    row: dict[str, object] = {"sizes": "dynamic" if dynamic else "fixed", "MiB": path.stat().st_size / 2**20}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = call()
        row[f"{name} s"] = time.process_time() - start
        return result

    model = timed("load", lambda: onnx_file.load(path))
    row["nodes"] = len(model.graph)
    row["blocks"] = len(timed("find", lambda: find.find(model)).blocks)
    fused = timed("fuse", lambda: fuse(model))
    timed("save", lambda: onnx_file.save(fused.model, out))
    command = [*python_command("simam_deploy.cli"), "fuse", str(path), "-o", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    row["command s"] = used.ru_utime + used.ru_stime
    row["peak MiB"] = used.ru_maxrss / 2**10
    return row


def main() -> None:
    """Print and keep the table."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(dynamic, Path(folder)) for dynamic in (False, True)]
    columns = list(rows[0])
    render.table("recognising, CPU seconds", columns, [list(row.values()) for row in rows], right=columns[1:])
    keep("recognise", rows)


if __name__ == "__main__":
    main()
