"""The conversion to 16 bits in every kind of graph: the file is valid, loads, and is near the float32 network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.half_operators import CASES, SHAPES, inputs, result
from onnx import parser

from simam_deploy.errors import InputError
from simam_deploy.graph import onnx_file
from simam_deploy.precision.low_types import BF16, FP16, LOW_TYPES, LowType
from simam_deploy.precision.to_low import InLow, to_low
from simam_deploy.runtimes import open_session

LOWS = [pytest.param(low, id=name) for name, low in LOW_TYPES.items()]
ROUNDINGS = 12
"""Largest error of the graphs below, in roundings. Their values are below 4, with five roundings at most."""
X = np.array([0.7, -1.3])


def text(graph: str, opset: int = 18, functions: str = "") -> str:
    return f'<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1, "f" : 1]> {graph} {functions}'


GRAPHS = {
    "a loop": """g (float[2] x) => (float[2] y, float[m, 2] s) <bool t = {1}, int64 n = {2}> {
        y, s = Loop(n, t, x) <body = body (int64 i, bool c, float[2] v) => (bool d, float[2] w, float[2] z) {
            d = Identity(c)
            w = Mul(v, v)
            z = Sub(w, v)
        }>
    }""",
    "a scan": """g (float[2] x) => (float[2] y, float[1, 2] s) <int64[1] axes = {0}> {
        rows = Unsqueeze(x, axes)
        y, s = Scan<num_scan_inputs = 1, body = body (float[2] a, float[2] r) => (float[2] t, float[2] u) {
            t = Mul(a, r)
            u = Sub(t, r)
        }>(x, rows)
    }""",
    "a branch": """g (float[2] x) => (float[2] y) <bool c = {1}, float[2] w = {0.3, 0.9}> {
        a = Mul(x, w)
        b = If(c)<then_branch = t () => (float[2] u) <float[2] w = {0.1, 0.2}> { v = Mul(a, w) u = Add(v, x) },
                  else_branch = e () => (float[2] v) { v = Identity(a) }>
        y = Mul(b, x)
    }""",
    "a sequence": """g (float[2] x) => (float[2] y) <int64 at = {0}> {
        a = Mul(x, x)
        s = SequenceConstruct(a, x)
        b = SequenceAt(s, at)
        y = Mul(b, x)
    }""",
    "a loop over a sequence": """g (float[2] x) => (float[k] y) <bool t = {1}, int64 n = {2}> {
        e = SequenceEmpty()
        s = Loop(n, t, e) <body = body (int64 i, bool c, seq(float[2]) a) => (bool d, seq(float[2]) f) {
            d = Identity(c)
            p = Mul(x, x)
            f = SequenceInsert(a, p)
        }>
        y = ConcatFromSequence<axis = 0>(s)
    }""",
    "an optional": """g (float[2] x) => (float[2] y) {
        a = Mul(x, x)
        o = Optional(a)
        b = OptionalGetElement(o)
        y = Mul(b, x)
    }""",
    "outputs used inside and listed twice": """g (float[2] x) => (float[2] y, float[2] z, float[2] y) {
        y = Mul(x, x)
        z = Sub(y, x)
    }""",
    "an input and a weight as outputs": """g (float[2] x) => (float[2] x, float[2] w, float[2] y)
        <float[2] w = {0.3, 0.9}> { y = Mul(x, w) }""",
    "weights that are inputs": """g (float[2] x, float[2] w) => (float[2] y)
        <float[2] w = {0.3, 0.9}> { y = Mul(x, w) }""",
    "names that the conversion would take": """g (float[2] x) => (float[2] y) <float[2] w = {0.3, 0.9}> {
        "w/fp16" = Mul(x, w)
        "w/bf16" = Mul("w/fp16", w)
        "x/fp32" = Sub("w/bf16", w)
        "y/fp16" = Mul("x/fp32", x)
        "y/bf16" = Mul("y/fp16", x)
        y = Sub("y/bf16", x)
    }""",
    "names of any characters": """g (float[2] x) => (float[2] "Ä/ y") {
        "/a b" = Mul(x, x)
        "Ä/ y" = Sub("/a b", x)
    }""",
    "filled tensors": """g (float[2] x) => (float[2] y) {
        s = Shape(x)
        z = ConstantOfShape(s)
        h = ConstantOfShape<value: tensor = float[1] {0.5}>(s)
        a = Add(x, z)
        y = Mul(a, h)
    }""",
    "an identity matrix": """g (float[2] x) => (float[2, 2] y) <int64[2, 2] s = {0, 0, 0, 0}> {
        e = EyeLike<dtype = 1>(s)
        y = Mul(e, x)
    }""",
    "constants": """g (float[2] x) => (float[2] y) {
        t = Constant<value: tensor = float[2] {0.3, 0.9}>()
        f = Constant<value_floats = [0.5, 0.25]>()
        a = Mul(x, t)
        y = Mul(a, f)
    }""",
    "a window": """g (float[2] x) => (float[2] y) <int64 n = {2}> { w = HannWindow(n) y = Mul(w, x) }""",
    "statistics of a layer norm": """g (float[2] x) => (float[2] y, float[1] m) <float[2] w = {0.3, 0.9}> {
        y, m = LayerNormalization(x, w)
    }""",
    "a float64 part": """g (float[2] x) => (float[2] y) { a = Cast<to = 11>(x) b = Mul(a, a) y = Cast<to = 1>(b) }""",
    "a float16 part": """g (float[2] x) => (float[2] y, float16[2] z) {
        h = Cast<to = 10>(x)
        z = Mul(h, h)
        w = Cast<to = 1>(z)
        v = CastLike(x, z)
        k = Mul(v, h)
        l = CastLike(k, x)
        y = Mul(w, l)
    }""",
    "one node of ONNX Runtime": """g (float[2] x) => (float[2] y) {
        a = Mul(x, x)
        b = com.microsoft.QuickGelu(a)
        y = Mul(b, x)
    }""",
    "no nodes": "g (float[2] x) => (float[2] x) { }",
}


def results(path: Path, runtime: str, x: np.ndarray) -> dict[str, np.ndarray]:
    with open_session(path, runtime, **({"kernel": "off"} if runtime == "ort" else {})) as session:
        (spec,) = session.inputs
        return session.run({"x": x.astype(spec.dtype)})


def written(model: ir.Model, path: Path) -> Path:
    onnx_file.save(model, path)
    onnx.checker.check_model(path, full_check=True)
    return path


@pytest.mark.parametrize("low", LOWS)
@pytest.mark.parametrize("declared", [False, True], ids=["bare", "declared"])
@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph(name: str, declared: bool, low: LowType, tmp_path: Path) -> None:
    proto = parser.parse_model(text(GRAPHS[name]))
    proto = onnx.shape_inference.infer_shapes(proto) if declared else proto
    model = ir.from_proto(proto)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    onnx.save(proto, tmp_path / "net.onnx")
    exact = results(tmp_path / "net.onnx", "ort", X)
    for keep_io in (False, True):
        made = to_low(model, low, keep_io=keep_io)
        path = written(made.model, tmp_path / "low.onnx")
        got = results(path, "onnx_half", X)
        assert list(got) == list(exact)
        for output, array in exact.items():
            np.testing.assert_allclose(got[output].astype(float), array, rtol=0, atol=ROUNDINGS * low.half_ulp)
        if low is FP16:
            for output, array in results(path, "ort", X).items():
                np.testing.assert_allclose(
                    array.astype(float), got[output].astype(float), rtol=0, atol=ROUNDINGS * low.half_ulp
                )
        if keep_io:
            kinds = [value.dtype for value in (*made.model.graph.inputs, *made.model.graph.outputs)]
            assert name == "a float16 part" or low.dtype not in kinds
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before
    assert _bytes(to_low(model, low)) == _bytes(to_low(model, low))


def _bytes(made: InLow) -> bytes:
    return ir.to_proto(made.model).SerializeToString(deterministic=True)


@pytest.mark.parametrize("low", LOWS)
def test_every_operator(low: LowType, tmp_path: Path) -> None:
    """Those of the oracle's test, in float32 and one by one: whatever is converted loads."""
    kinds, failed = {"c": "bool", "q": "int8", "i": "int64"}, {}
    takes = ", ".join(f"{kinds.get(n, 'float')}{[*shape] if shape else ''} {n}" for n, shape in SHAPES.items())
    for case in CASES:
        sizes = ", ".join(f"d{axis}" for axis in range(result(case, inputs()).ndim))
        proto = parser.parse_model(text(f"g ({takes}) => (float[{sizes}] Y) {{ {case} }}", 22))
        made = to_low(ir.from_proto(proto), low)
        try:
            path = written(made.model, tmp_path / "low.onnx")
            with open_session(path, "ort" if low is FP16 else "onnx_half") as session:
                types = {spec.name: spec.dtype for spec in session.inputs}
                session.run({name: np.asarray(x).astype(types[name]) for name, x in inputs().items()})
        except Exception as error:
            failed[case] = str(error)[:200]
    assert not failed


def test_outputs_keep_their_order_and_names(tmp_path: Path) -> None:
    made = to_low(
        ir.from_proto(parser.parse_model(text(GRAPHS["outputs used inside and listed twice"]))), FP16, keep_io=True
    )
    assert [value.name for value in made.model.graph.outputs] == ["y", "z", "y"]


def test_functions_of_the_user_are_inlined(tmp_path: Path) -> None:
    functions = """<domain: "f", opset_import: ["" : 17, "f" : 1]> outer<alpha: float = 0.5> (x) => (y) {
            a = f.inner(x)
            b = Constant<value_float: float = @alpha>()
            y = Mul(a, b)
        }
        <domain: "f", opset_import: ["" : 18]> inner (x) => (y) { y = Mul(x, x) }"""
    model = ir.from_proto(
        parser.parse_model(text("g (float[2] x) => (float[2] y) { y = f.outer(x) }", functions=functions))
    )
    made = to_low(model, FP16)
    assert made.notes == ["functions inlined: f::inner, f::outer"]
    got = results(written(made.model, tmp_path / "low.onnx"), "onnx_half", X)["y"]
    half = X.astype(np.float16)
    np.testing.assert_array_equal(got, half * half * np.float16(0.5))
    assert len(model.functions) == 2


def test_a_function_that_means_another_operator_is_refused() -> None:
    functions = '<domain: "f", opset_import: ["" : 13]> mean (x) => (y) { y = ReduceMean<axes = [0]>(x) }'
    model = parser.parse_model(text("g (float[2] x) => (float[1] y) { y = f.mean(x) }", functions=functions))
    with pytest.raises(InputError, match=r"(?s)cannot be inlined.*convert_version=True"):
        to_low(ir.from_proto(model), FP16)


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("low", LOWS)
def test_weights_in_another_file(low: LowType, external: bool, tmp_path: Path) -> None:
    proto = parser.parse_model(text("g (float[2] x) => (float[64] y) { y = MatMul(x, w) }"))
    w = np.random.default_rng(0).standard_normal((2, 64)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    onnx.save(proto, tmp_path / "net.onnx", save_as_external_data=external, location="w.bin", size_threshold=0)
    (tmp_path / "elsewhere").mkdir()
    made = to_low(onnx_file.load(tmp_path / "net.onnx"), low)
    got = results(written(made.model, tmp_path / "elsewhere/low.onnx"), "onnx_half", X)["y"]
    exact = low.rounded(X) @ low.rounded(w)
    np.testing.assert_array_equal(got.astype(float), low.rounded(exact.astype(np.float32)))


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 20, 22, 24])
@pytest.mark.parametrize("low", LOWS)
def test_opsets(low: LowType, opset: int, tmp_path: Path) -> None:
    graph = """g (float[1, 2, 4, 4] x) => (float[1, 2] y) <float[2, 2, 3, 3] w, float[2] s = {0.9, 1.1}> {
        c = Conv<pads = [1, 1, 1, 1]>(x, w)
        n = BatchNormalization(c, s, s, s, s)
        r = Relu(n)
        p = GlobalAveragePool(r)
        y = Flatten<axis = 1>(p)
    }"""
    proto = parser.parse_model(text(graph, opset))
    w = np.random.default_rng(0).standard_normal((2, 2, 3, 3)).astype(np.float32) / 6
    proto.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    onnx.save(proto, tmp_path / "net.onnx")
    x = np.random.default_rng(1).standard_normal((1, 2, 4, 4))
    exact = results(tmp_path / "net.onnx", "ort", x)["y"]
    made = to_low(ir.from_proto(proto), low)
    assert (made.kept, made.casts) == ([], 0)
    assert made.model.opset_imports[""] == (max(opset, low.opset))
    got = results(written(made.model, tmp_path / "low.onnx"), "onnx_half", x)["y"]
    np.testing.assert_allclose(got.astype(float), exact, rtol=0, atol=ROUNDINGS * low.half_ulp)


def test_a_value_of_unknown_type_keeps_its_users() -> None:
    graph = "g (float[2] x) => (float[2] y) { a = com.microsoft.Mystery(x) y = Mul(a, x) }"
    made = to_low(ir.from_proto(parser.parse_model(text(graph))), BF16)
    assert {row.op: row.reason for row in made.kept} == {
        "Mystery": "its operator com.microsoft::Mystery is not known to take bf16",
        "Mul": "the type of 'a' is unknown",
    }


@pytest.mark.parametrize("low", LOWS)
def test_weights_that_are_inputs(low: LowType) -> None:
    """Before IR version 4 they are constants; later, callers may replace them."""
    proto = parser.parse_model(text(GRAPHS["weights that are inputs"], 9))
    made = to_low(ir.from_proto(proto), low)
    assert made.casts == 1
    assert "1 weight may be replaced by callers and stay float32, with a cast behind: the first is 'w'" in made.notes
    proto.ir_version = 3
    made = to_low(ir.from_proto(proto), low)
    assert made.casts == 0
    assert [value.name for value in made.model.graph.inputs] == ["x"]
    assert made.model.graph.initializers.popitem()[1].dtype == low.dtype
    assert "IR version raised from 3 to 8, the first with functions" in made.notes
