"""Files of every precision parse strongly typed in TensorRT-RTX and build, with SimAM in float32 in all of them."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.graphs import BODY, parse
from helpers.parsed_layers import Layer, blocks_in_float32, parsed_layers
from helpers.to_quantise import images, net

import simam_deploy as sd
from export_models import digits
from simam_deploy.artifacts import manifest
from simam_deploy.precision.wanted import PRECISIONS

pytestmark = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")

TARGETS = ["sm86", "sm89", "sm120"]
COMPUTES_IN = {"fp32": "FLOAT", "fp16": "HALF", "bf16": "BF16", "int8": "INT8", "int8+fp16": "INT8"}
MULTIPLIES = ("CONVOLUTION", "MATRIX_MULTIPLY")


def built(file: Path, to: str) -> list[Layer]:
    """The layers of a file that parses and builds for all targets."""
    engine = file.with_suffix(".engine")
    done = sd.build_engine(file, engine, targets=TARGETS)
    assert (done.targets, done.precision) == (tuple(TARGETS), to)
    assert manifest.read(engine)["precision"] == to
    return parsed_layers(file)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits.onnx"
    sd.export(*digits.build(), path, check=False, exporter="torchscript")
    return path


@pytest.mark.parametrize("epilogue", [False, True], ids=["simam", "epilogue"])
@pytest.mark.parametrize("to", ["fp32", *PRECISIONS])
def test_digits(network: Path, to: str, epilogue: bool, tmp_path: Path) -> None:
    source, low = tmp_path / "digits.onnx", tmp_path / "low.onnx"
    sd.fuse(network, source, epilogue=epilogue)
    if to == "fp32":
        low = source
    else:
        sd.convert(source, low, to=to, target="tensorrt", inputs={"x": digits.training_set()[0][:8]})
    layers = built(low, to)
    assert blocks_in_float32(layers) == 3
    multiply = [layer for layer in layers if layer.kind in MULTIPLIES]
    assert [layer.kind for layer in multiply] == ["CONVOLUTION"] * 3 + ["MATRIX_MULTIPLY"]
    assert {layer.computes_in for layer in multiply} == {COMPUTES_IN[to]}
    assert {layer.made for layer in multiply} == {("HALF" if "fp16" in to else "BF16" if to == "bf16" else "FLOAT",)}


NORM = """g (float[1,3,8,8] x) => (float[1,4,8,8] y)
    <float[4,3,1,1] w1 = {1, 2, -1, 0.5, 1, 1, -1, 2, 3, 1, -2, 1}, float two = {2}, int64[1] channels = {1},
     float[4,4,1,1] w2 = {1, 0, 2, 1, 0, 1, 1, -1, 1, 1, 0, 1, 2, -1, 1, 0}, float epsilon = {0.00001}> {
        [conv1] a = Conv (x, w1)
        [simam] s = simam.SimAM <e_lambda: float = 0.0001> (a)
        [mean] mean = ReduceMean (s, channels)
        [centre] c = Sub (s, mean)
        [square] d = Pow (c, two)
        [variance] v = ReduceMean (d, channels)
        [regular] t = Add (v, epsilon)
        [spread] q = Sqrt (t)
        [norm] n = Div (c, q)
        [conv2] y = Conv (n, w2)
    }"""
"""SimAM, then a LayerNorm over the channels written by hand."""


@pytest.mark.parametrize(
    ("to", "size", "sums_in"), [("fp16", 300, "FLOAT"), ("fp16", 1, "HALF"), ("bf16", 300, "BF16")]
)
def test_a_layer_norm_is_in_float32_where_its_squares_overflow(
    to: str, size: float, sums_in: str, tmp_path: Path
) -> None:
    """SimAM is in float32 always, a LayerNorm where the samples say so; both build."""
    x = (size * np.random.default_rng(0).standard_normal((4, 3, 8, 8))).astype(np.float32)
    source, low = tmp_path / "norm.onnx", tmp_path / "low.onnx"
    onnx.save(parse(NORM, BODY), source)
    sd.convert(source, low, to=to, inputs={"x": x})
    layers = built(low, to)
    assert blocks_in_float32(layers) == 1
    assert {layer.given for layer in layers if layer.kind == "REDUCE" and not layer.block} == {(sums_in,)}
    assert {layer.computes_in for layer in layers if layer.kind in MULTIPLIES} == {COMPUTES_IN[to]}


HALF = """g (float16[1,3,8,8] x) => (float16[1,3,8,8] y) { y = simam.SimAM <e_lambda: float = 0.0001> (x) }"""


def test_half_inside_simam_is_told_apart(tmp_path: Path) -> None:
    """Casts of x to float32 and back are no harm; a sum of halves is one, as is a cast to half inside."""
    file = tmp_path / "half.onnx"
    onnx.save(parse(HALF, BODY), file)
    assert blocks_in_float32(parsed_layers(file)) == 1
    summed = "sum = ReduceSum <keepdims: int = 1> (d, axes)"
    narrow = "low = Cast <to: int = 10> (d)\n  low_sum = ReduceSum <keepdims: int = 1> (low, axes)"
    onnx.save(parse(HALF, BODY.replace(summed, f"{narrow}\n  sum = Cast <to: int = 1> (low_sum)")), file)
    with pytest.raises(AssertionError, match=r"narrower than float32: Layer\(kind='REDUCE', given=\('HALF',"):
        blocks_in_float32(parsed_layers(file))
    back = "low = Cast <to: int = 10> (d)\n  wide = Cast <to: int = 1> (low)"
    onnx.save(parse(HALF, BODY.replace(summed, f"{back}\n  {summed.replace('(d', '(wide')}")), file)
    with pytest.raises(AssertionError, match="rounded between two casts"):
        blocks_in_float32(parsed_layers(file))


@pytest.mark.parametrize("opset", [18, 20])
def test_layers_become_integer_from_any_opset(opset: int, tmp_path: Path) -> None:
    """Before opset 19 DequantizeLinear gives float32 alone."""
    source, low = tmp_path / "net.onnx", tmp_path / "low.onnx"
    onnx.save(net(opset=opset), source)
    done = sd.convert(source, low, to="int8+fp16", target="tensorrt", inputs={"x": images()})
    said = f"opset raised from {opset} to 19, the first for fp16 around int8"
    assert (said in done.notes) == (opset < 19)
    sd.build_engine(low, tmp_path / "net.engine", targets=TARGETS, shapes={"x": (1, 3, 8, 8)})
    layers = parsed_layers(low)
    assert blocks_in_float32(layers) == 1
    multiply = [layer for layer in layers if layer.kind in MULTIPLIES]
    assert {(layer.computes_in, *layer.given) for layer in multiply} == {("INT8", "HALF", "HALF")}
