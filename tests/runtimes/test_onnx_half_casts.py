"""The casts of ONNX Runtime that the oracle rests on: they round to even, and no optimisation removes them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from simam_deploy.graph.round_low import round_low
from simam_deploy.precision.low_types import BF16, FP16, LOW_TYPES, LowType
from simam_deploy.precision.to_low import to_low
from simam_deploy.runtimes import open_session

LOWS = [pytest.param(low, id=name) for name, low in LOW_TYPES.items()]


def rounded_by_oracle(x: np.ndarray, low: LowType, folder: Path) -> np.ndarray:
    """float32 -> float32, by way of the type."""
    text = f"g (float[n] x) => (float[n] y) {{ a = Cast<to = {low.dtype.value}>(x) y = Cast<to = 1>(a) }}"
    path = folder / "net.onnx"
    onnx.save(parser.parse_model(f'<ir_version: 10, opset_import: ["" : 22]> {text}'), path)
    with open_session(path, "onnx_half") as session:
        return session.run({"x": x})["y"]


@pytest.mark.parametrize("low", LOWS)
def test_every_number_and_every_tie(low: LowType, tmp_path: Path) -> None:
    """All 65536 numbers: subnormal and infinite ones and NaN too, the ties between them, and what is beside a tie."""
    with np.errstate(invalid="ignore"):  # NaN that signal
        numbers = np.arange(2**16, dtype=np.uint16).view(low.dtype.numpy()).astype(np.float32)
    numbers = np.append(numbers[~np.isnan(numbers)], np.float32(np.nan))
    ordered = np.sort(numbers[np.isfinite(numbers)]).astype(np.float64)
    beyond = 2 * ordered[-1] - ordered[-2]
    between = np.append(ordered[:-1] + np.diff(ordered) / 2, (ordered[-1] + beyond) / 2).astype(np.float32)
    x = np.concatenate([numbers, between, np.nextafter(between, np.inf), np.nextafter(between, -np.inf), [3e38]])
    x = x.astype(np.float32)
    with np.errstate(over="ignore"):
        expected = x.astype(low.dtype.numpy()).astype(np.float32)
    got = rounded_by_oracle(x, low, tmp_path)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(np.signbit(got)[got == 0], np.signbit(x)[got == 0])


@pytest.mark.parametrize(
    ("low", "x", "expected"),
    [
        (FP16, 2049, 2048),  # halfway to 2050: to even
        (FP16, 2051, 2052),
        (FP16, 65519, 65504),
        (FP16, 65520, np.inf),
        (FP16, 2.0**-25, 0),
        (FP16, 3 * 2.0**-25, 2.0**-23),
        (BF16, 257, 256),
        (BF16, 259, 260),
        (BF16, 3.397e38, np.inf),
        (BF16, 2.0**-134, 0),
        (BF16, 3 * 2.0**-134, 2.0**-132),
    ],
)
def test_numbers_by_hand(low: LowType, x: float, expected: float, tmp_path: Path) -> None:
    """What NumPy and ml_dtypes are tested by."""
    assert rounded_by_oracle(np.array([x], np.float32), low, tmp_path) == expected


NETS = {
    "convolutions": """<float[8, 8, 3, 3] w, float[8] s, float[8] v> {
        a = Conv<pads = [1, 1, 1, 1]>(x, w)
        n = BatchNormalization(a, s, s, s, v)
        r = Relu(n)
        c = Conv<pads = [1, 1, 1, 1]>(r, w)
        d = Add(c, x)
        y = Relu(d)
    }""",
    "gelu": """<float[16, 16] k, float[16] b, float z = {1.4142}, float one = {1}> {
        a = MatMul(x, k)
        n = Add(a, b)
        d = Div(n, z)
        e = Erf(d)
        f = Add(e, one)
        y = Mul(n, f)
    }""",
    "layer norm": """<float[16] b, float two = {2}, float z = {0.01}, int64[1] axes = {3}> {
        u = ReduceMean(x, axes)
        c = Sub(x, u)
        p = Pow(c, two)
        v = ReduceMean(p, axes)
        t = Add(v, z)
        s = Sqrt(t)
        n = Div(c, s)
        q = Mul(n, b)
        y = Add(q, b)
    }""",
    "attention": """<float z = {8}> {
        t = Transpose<perm = [0, 1, 3, 2]>(x)
        a = MatMul(x, t)
        b = Div(a, z)
        c = Softmax(b)
        y = MatMul(c, x)
    }""",
    "transposes": """<float[8] b> {
        u = Transpose<perm = [0, 2, 3, 1]>(x)
        v = Add(u, b)
        s = Sigmoid(v)
        w = Mul(v, s)
        y = Transpose<perm = [0, 3, 1, 2]>(w)
    }""",
    "quantised": """<float z = {0.02}, int8 o = {0}, float[8, 8, 3, 3] w> {
        q = QuantizeLinear(x, z, o)
        d = DequantizeLinear(q, z, o)
        k = QuantizeLinear(w, z, o)
        l = DequantizeLinear(k, z, o)
        c = Conv<pads = [1, 1, 1, 1]>(d, l)
        e = QuantizeLinear(c, z, o)
        y = DequantizeLinear(e, z, o)
    }""",
    "no work": """<float z = {0}, float one = {1}> {
        a = Mul(x, x)
        b = Add(a, z)
        c = Mul(b, one)
        d = Identity(c)
        y = Div(d, one)
    }""",
}


def model_of(body: str, low: LowType) -> ir.Model:
    """In the type, rounded by the oracle."""
    rng = np.random.default_rng(0)
    proto = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> '
        f"g (float[1, 8, 16, 16] x) => (float[1, 8, 16, 16] y) {body.replace('z = {8}', 'z = {8.0}')}"
    )
    filled = {tensor.name for tensor in proto.graph.initializer}
    for value in [v for v in proto.graph.value_info if v.name not in filled]:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        weights = np.abs(rng.standard_normal(shape)) + 0.1 if value.name == "v" else rng.standard_normal(shape) / 4
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weights.astype(np.float32), value.name))
    return round_low(to_low(ir.from_proto(proto), low).model)


def run(model: ir.Model, level: str, x: np.ndarray, written: Path) -> Any:
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # it warns that the written file is for this machine
    options.optimized_model_filepath = str(written)
    session = ort.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})[0]


def roundings(model: onnx.ModelProto, low: LowType) -> int:
    casts = Counter(
        a.i for node in model.graph.node if node.op_type == "Cast" for a in node.attribute if a.name == "to"
    )
    return casts[low.dtype.value]


@pytest.mark.parametrize("low", LOWS)
@pytest.mark.parametrize("name", NETS)
def test_optimisation_changes_no_bit(name: str, low: LowType, tmp_path: Path) -> None:
    model = model_of(NETS[name], low)
    x = low.rounded(np.random.default_rng(1).standard_normal((1, 8, 16, 16))).astype(np.float32)
    plain = run(model, "ORT_DISABLE_ALL", x, tmp_path / "plain.onnx")
    fast = run(model, "ORT_ENABLE_ALL", x, tmp_path / "fast.onnx")
    np.testing.assert_array_equal(fast, plain)
    before, after = ir.to_proto(model), onnx.load(tmp_path / "fast.onnx")
    needless = {"no work": 3, "quantised": 0}.get(name, 0)  # what is rounded already
    assert roundings(after, low) == roundings(before, low) - needless > 0


@pytest.mark.parametrize("low", LOWS)
def test_folded_constants_are_rounded(low: LowType, tmp_path: Path) -> None:
    """Optimisation computes b * b + b before the run."""
    text = "g (float[2] x) => (float[2] y) <float[2] b = {0.1, 0.3}> { c = Mul(b, b) d = Add(c, b) y = Mul(x, d) }"
    proto = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 22]> {text}')
    model = round_low(to_low(ir.from_proto(proto), low).model)
    got = run(model, "ORT_ENABLE_ALL", np.ones(2, np.float32), tmp_path / "fast.onnx")
    b = low.rounded(np.array([0.1, 0.3], np.float32))
    np.testing.assert_array_equal(got, low.rounded(low.rounded(b * b) + b))
    assert len([node for node in onnx.load(tmp_path / "fast.onnx").graph.node if node.op_type == "Mul"]) == 1
