"""int8: accuracy and size of digits, SimAM whole or split, integer layers and speed of networks.

    python -m benchmarks.int8

The networks have random weights, so no accuracy is claimed for them. Speed is against float32 with our kernel, in one
interleaved run for each number of threads.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from torch import logspace, nn, randn

from benchmarks.record import keep
from export_models import detector, digits, mobilenetv2, resnet18
from export_models._random import images
from simam_deploy import native
from simam_deploy.cli import render
from simam_deploy.compare.inputs import specs
from simam_deploy.formula import Array
from simam_deploy.graph import onnx_file
from simam_deploy.precision.calibrate import METHODS, calibrate
from simam_deploy.precision.quantise import quantise
from simam_deploy.precision.samples import Samples
from simam_deploy.precision.sensitivity import snr
from simam_deploy.precision.speed import speed
from simam_deploy.precision.targets import TARGETS
from simam_deploy.pytorch.module import SimAM
from simam_deploy.rewrite.fuse import fuse_file
from simam_deploy.runtimes import open_session
from simam_deploy.runtimes.session import framework
from simam_deploy.text import Say, as_table
from simam_deploy.to_onnx import export

THREADS = (1, 2)
SECONDS = 20.0
NETWORKS: dict[str, Callable[[], Any]] = {
    "resnet18": resnet18.build,
    "mobilenetv2": mobilenetv2.build,
    "detector": detector.build,
}
Row = dict[str, Any]


def main() -> None:
    """Print and keep the tables."""
    with render.progress() as say, tempfile.TemporaryDirectory() as folder:
        accuracy = _digits(Path(folder), say)
        planes = _planes(Path(folder))
        networks = [row for name, build in NETWORKS.items() for row in _network(name, build, Path(folder), say)]
    for title, rows in (
        ("digits, 450 held-out scans", accuracy),
        ("planes with a spread of 0.1 to 10", planes),
        ("networks with random weights, target cpu", networks),
    ):
        print(f"\n{title}\n{as_table(list(rows[0]), [list(row.values()) for row in rows])}")
        keep("int8", rows, what=title)


def _digits(folder: Path, say: Say) -> list[Row]:
    file = folder / "digits.onnx"
    export(*digits.build(), file, dynamic=["batch"], check=False, on_progress=say)
    held, labels = digits.test_set()
    samples = Samples({specs(file)[0].name: digits.training_set()[0]}, specs(file), limit=10_000)
    feed = {samples.names[0]: held}
    with open_session(file, "ort") as session:
        exact = session.run(feed)
    rows: list[Row] = [_scored("float32", exact, exact, labels)]
    for method in METHODS:
        calibration = calibrate(file, samples, method=method, on_progress=say)
        for target in TARGETS:
            made = quantise(calibration, target)
            onnx_file.save(made.model, folder / "int8.onnx")
            with open_session(folder / "int8.onnx", "openvino" if target == "openvino" else "ort") as session:
                row = _scored(f"{target}, {method}", session.run(feed), exact, labels)
            rows.append({**row, "Q": made.q, "DQ": made.dq})
    rows[0] |= {"Q": 0, "DQ": 0}
    return rows


def _scored(name: str, got: Mapping[str, Array], exact: Mapping[str, Array], labels: Array) -> Row:
    (read,), (truth,) = ([array.argmax(1) for array in run.values()] for run in (got, exact))
    return {
        "file": name,
        "accuracy %": round(100 * float((read == labels).mean()), 2),
        "as float32 %": round(100 * float((read == truth).mean()), 2),
        "SNR dB": round(snr([dict(exact)], iter([dict(got)])), 1),
    }


def _planes(folder: Path) -> list[Row]:
    """SimAM behind a convolution whose planes have unequal spread: one node, and split by the quantiser."""
    from onnxruntime.quantization import QuantType, quantize_static

    conv = nn.Conv2d(8, 8, 1, groups=8, bias=False)
    conv.weight.data = logspace(-1, 1, 8).reshape(8, 1, 1, 1)
    file = folder / "planes.onnx"
    export(nn.Sequential(conv, SimAM()).eval(), randn(1, 8, 32, 32), file, check=False)
    x = np.random.default_rng(0).standard_normal((8, 8, 32, 32)).astype(np.float32)
    samples = Samples({specs(file)[0].name: x}, specs(file))
    onnx_file.save(quantise(calibrate(file, samples), "cpu").model, folder / "whole.onnx")
    fuse_file(file, folder / "primitive.onnx", "primitive")
    quantize_static(
        folder / "primitive.onnx", folder / "split.onnx", _Reader(samples), per_channel=True,
        activation_type=QuantType.QUInt8,
    )  # fmt: skip
    with open_session(file, "ort") as session:
        exact = [session.run(feed) for feed in samples]
    rows = []
    for name in ("whole", "split"):
        with open_session(folder / f"{name}.onnx", "ort") as session:
            rows.append({"SimAM": name, "SNR dB": round(snr(exact, map(session.run, samples)), 1)})
    return rows


class _Reader:
    def __init__(self, samples: Samples) -> None:
        self._feeds = iter(samples)

    def get_next(self) -> dict[str, Array] | None:
        return next(self._feeds, None)


def _network(name: str, build: Callable[[], Any], folder: Path, say: Say) -> list[Row]:
    model, example = build()
    file, low = folder / f"{name}.onnx", folder / f"{name}.int8.onnx"
    export(model, example, file, check=False, on_progress=say)
    x = images(8, *example.shape[2:], seed=5).numpy()
    samples = Samples({specs(file)[0].name: x}, specs(file))
    made = quantise(calibrate(file, samples, on_progress=say), "cpu")
    onnx_file.save(made.model, low)
    ops = _optimised(low, folder / "optimised.onnx")
    floats = sum(ops.count(op) for op in ("Conv", "FusedConv"))
    feed, rows = {samples.names[0]: example.numpy()}, []
    for threads in THREADS:
        found = speed(file, low, feed, threads=threads, seconds=SECONDS, on_progress=say)
        rows.append(
            {
                "network": name,
                "integer convolutions": f"{ops.count('QLinearConv')} of {ops.count('QLinearConv') + floats}",
                "threads": threads,
                "float32 us": round(found.float32_us),
                "int8 us": round(found.low_us),
                "times as fast": round(found.ratio, 2),
                "at 20 % quantiles": round(found.quiet, 2),
            }
        )
    return rows


def _optimised(file: Path, target: Path) -> list[str]:
    """Operators of the graph that ONNX Runtime runs."""
    onnxruntime = framework("onnxruntime", "ort", "ort")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3  # it warns that the file is for this machine
    with suppress(AttributeError):
        options.register_custom_ops_library(str(native.library().path))  # type: ignore[union-attr]
    onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(target, load_external_data=False).graph.node]


if __name__ == "__main__":
    main()
