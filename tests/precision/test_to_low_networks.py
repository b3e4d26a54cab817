"""Whole networks in 16 bits: valid, loaded with and without the kernel, near float32, and with the same blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from export_models import digits
from simam_deploy import native
from simam_deploy.formula import OP_DOMAIN, Array
from simam_deploy.graph import onnx_file
from simam_deploy.match.find import find
from simam_deploy.precision.low_types import FP16, LOW_TYPES, LowType
from simam_deploy.precision.to_low import InLow, to_low
from simam_deploy.rewrite.fuse import fuse
from simam_deploy.runtimes import open_session
from simam_deploy.to_onnx import export

YOLO = Path(__file__).parents[1] / "yolo"
NETS = ("digits", "yolo11n-12", "yolo11n-dynamo")
LEAST_SNR = {"fp16": 54.0, "bf16": 36.0}
"""dB. A rounding of half_ulp / sqrt(3) is 71 or 53; fifty independent ones in a row cost 10 log10(50) = 17."""
LOWS = [pytest.param(low, id=name) for name, low in LOW_TYPES.items()]


@pytest.fixture(scope="module")
def digits_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits.onnx"
    module, example = digits.build()
    export(module, example, path, exporter="torchscript", check=False)
    return path


def source(name: str, digits_file: Path) -> Path:
    return digits_file if name == "digits" else YOLO / f"{name}.onnx"


def feed(model: ir.Model) -> Array:
    (given,) = model.graph.inputs
    assert given.shape is not None
    sizes = [d if isinstance(d, int) else 64 if axis > 1 else 1 for axis, d in enumerate(given.shape)]
    return np.random.default_rng(0).random(sizes).astype(np.float32)


def run(path: Path, runtime: str, x: Array, **options: str) -> list[Array]:
    with open_session(path, runtime, **options) as session:
        (spec,) = session.inputs
        return list(session.run({spec.name: x.astype(spec.dtype)}).values())


def snr(exact: Array, got: Array) -> float:
    wide, off = exact.astype(np.float64), got.astype(np.float64) - exact.astype(np.float64)
    return float(10 * np.log10(np.sum(wide**2) / np.sum(off**2)))


def written(made: InLow, folder: Path) -> Path:
    path = folder / "low.onnx"
    onnx_file.save(made.model, path)
    onnx.checker.check_model(path, full_check=True)
    return path


@pytest.mark.parametrize("low", LOWS)
@pytest.mark.parametrize(("name", "epilogue"), [("digits", True), *((name, False) for name in NETS)])
def test_a_network(name: str, epilogue: bool, low: LowType, digits_file: Path, tmp_path: Path) -> None:
    path = source(name, digits_file)
    model = fuse(onnx_file.load(path), "function", epilogue=epilogue).model
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    made = to_low(model, low)
    file = written(made, tmp_path)
    x = feed(model)
    exact = run(path, "ort", x)
    got = run(file, "onnx_half", x)
    assert min(map(snr, exact, got)) >= LEAST_SNR[low.name]
    if low is FP16:
        body = run(file, "ort", x, kernel="off")
        assert min(map(snr, exact, body)) >= LEAST_SNR[low.name]
    assert [b.e_lambda for b in find(onnx_file.load(file)).blocks] == [b.e_lambda for b in find(model).blocks]
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before
    assert _bytes(to_low(model, low)) == _bytes(made)


def _bytes(made: InLow) -> bytes:
    return ir.to_proto(made.model).SerializeToString(deterministic=True)


@pytest.mark.parametrize("name", NETS)
def test_the_kernel_takes_every_block(name: str, digits_file: Path, tmp_path: Path, library: native.Library) -> None:
    model = fuse(onnx_file.load(source(name, digits_file)), "function", epilogue=True).model
    file = written(to_low(model, FP16), tmp_path)
    x = feed(model)
    with open_session(file, "ort", kernel="require") as session:
        (spec,) = session.inputs
        feeds = {spec.name: x.astype(spec.dtype)}
        got, use = list(session.run(feeds).values()), session.kernel_use(feeds)
    assert use.ran == use.of == sum(node.domain == OP_DOMAIN for node in model.graph)
    assert min(map(snr, run(file, "ort", x, kernel="off"), got)) >= LEAST_SNR["fp16"]


@pytest.mark.parametrize("low", LOWS)
def test_an_epilogue_keeps_its_scale_and_bias(low: LowType, digits_file: Path) -> None:
    model = fuse(onnx_file.load(digits_file), "function", epilogue=True).model
    blocks = [node for node in to_low(model, low).model.graph if node.domain == OP_DOMAIN]
    assert {node.op_type for node in blocks} == {"SimAMAffineRelu", "SimAMAffineAddRelu"}
    for node in blocks:
        wanted = [low.dtype, ir.DataType.FLOAT, ir.DataType.FLOAT, low.dtype]
        assert [v.dtype for v in node.inputs if v] == wanted[: len(node.inputs)]
        assert node.outputs[0].dtype == low.dtype


def test_a_grid_of_a_dynamic_detector_stays_float32(digits_file: Path) -> None:
    """It is computed from sizes, and added to the boxes in float32."""
    made = to_low(fuse(onnx_file.load(source("yolo11n-12-dynamic", digits_file)), "function").model, FP16)
    assert {row.reason for row in made.kept} == {
        "works with numbers that are computed from sizes",
        "ConstantOfShape names the type of its result",
    }
    fixed = to_low(fuse(onnx_file.load(source("yolo11n-12", digits_file)), "function").model, FP16)
    assert (fixed.kept, fixed.casts) == ([], 0)
