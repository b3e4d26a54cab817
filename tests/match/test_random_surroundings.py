"""Random spellings of SimAM in random surroundings: found, with the right λ, and the same numbers afterwards."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from benchmarks.graph_writer import GraphWriter
from simam_deploy.formula import reference, tolerance
from simam_deploy.match.find import find
from simam_deploy.rewrite.fuse import fuse

OPSETS = (11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21)
Draw = st.DrawFn


class Writer(GraphWriter):
    """In the words of one opset."""

    def __init__(self, opset: int) -> None:
        super().__init__()
        self.opset = opset

    def reduce(self, kind: str, x: str, axes: list[int]) -> str:
        if self.opset >= (13 if kind == "ReduceSum" else 18):
            return self.op(kind, x, self.constant(axes, np.int64), keepdims=1)
        return self.op(kind, x, axes=axes, keepdims=1)


def swapped(draw: Draw, a: str, b: str) -> tuple[str, str]:
    return (a, b) if draw(st.booleans()) else (b, a)


def mean(draw: Draw, w: Writer, x: str) -> str:
    axes = draw(st.sampled_from([[2, 3], [-2, -1], [-1, -2]]))
    match draw(st.sampled_from(["mean", "pool", "two"])):
        case "mean":
            return w.reduce("ReduceMean", x, axes)
        case "pool":
            return w.op("GlobalAveragePool", x)
        case _:
            return w.reduce("ReduceMean", w.reduce("ReduceMean", x, [3]), [2])


def square(draw: Draw, w: Writer, c: str) -> str:
    match draw(st.sampled_from(["mul", "pow", "sqrt"])):
        case "mul":
            return w.op("Mul", c, c)
        case "pow":
            return w.op("Pow", c, w.constant(2))
        case _:
            return w.op("Pow", w.op("Abs", c), w.constant(2.0))


def centred(draw: Draw, w: Writer, x: str) -> str:
    m = mean(draw, w, x)
    return w.op("Sub", x, m) if draw(st.booleans()) else w.op("Add", x, w.op("Neg", m))


def count(draw: Draw, w: Writer, x: str, size: tuple[int, int] | None) -> str:
    """M - 1, as a constant or from the shape of x."""
    if size is not None and draw(st.booleans()):
        return w.constant(size[0] * size[1] - 1)
    shape = w.op("Shape", x)
    if draw(st.booleans()):
        picked = w.op("Gather", shape, w.constant([2, 3], np.int64))
        m = w.op("ReduceProd", picked, keepdims=0)
    else:
        m = w.op("Mul", *(w.op("Gather", shape, w.constant(axis, np.int64), axis=0) for axis in (2, 3)))
    if draw(st.booleans()):
        return w.op("Cast", w.op("Sub", m, w.constant(1, np.int64)), to=TensorProto.FLOAT)
    return w.op("Sub", w.op("Cast", m, to=TensorProto.FLOAT), w.constant(1))


def variance(draw: Draw, w: Writer, x: str, c: str, d: str, size: tuple[int, int] | None) -> str:
    match draw(st.sampled_from(["sum", "square", "reciprocal", "mean"])):
        case "sum":
            return w.op("Div", w.reduce("ReduceSum", d, [2, 3]), count(draw, w, x, size))
        case "square" if w.opset >= 18 or draw(st.booleans()):
            return w.op("Div", w.reduce("ReduceSumSquare", c, [2, 3]), count(draw, w, x, size))
        case "mean" if size is not None:
            m = size[0] * size[1]
            return w.op("Mul", w.reduce("ReduceMean", d, [2, 3]), w.constant(m / (m - 1)))
        case _:
            return w.op("Mul", w.reduce("ReduceSum", d, [2, 3]), w.op("Reciprocal", count(draw, w, x, size)))


def gate_input(draw: Draw, w: Writer, d: str, v: str, e_lambda: float) -> str:
    t = w.op("Add", *swapped(draw, v, w.constant(e_lambda)))
    match draw(st.sampled_from(["divide", "quarter", "fold", "reciprocal"])):
        case "divide":
            e = w.op("Div", d, w.op("Mul", *swapped(draw, t, w.constant(4))))
        case "quarter":
            e = w.op("Mul", w.op("Div", d, t), w.constant(0.25))
        case "fold":
            e = w.op("Div", d, w.op("Add", w.op("Mul", v, w.constant(4)), w.constant(4 * e_lambda)))
        case _:
            e = w.op("Mul", *swapped(draw, d, w.op("Reciprocal", w.op("Mul", t, w.constant(4)))))
    return w.op("Add", *swapped(draw, e, w.constant(0.5)))


def gated(draw: Draw, w: Writer, x: str, z: str) -> str:
    match draw(st.sampled_from(["sigmoid", "exp", "tanh", "divide"])):
        case "exp":
            g = w.op("Reciprocal", w.op("Add", w.op("Exp", w.op("Neg", z)), w.constant(1)))
        case "tanh":
            half = w.op("Tanh", w.op("Mul", z, w.constant(0.5)))
            g = w.op("Mul", w.op("Add", half, w.constant(1)), w.constant(0.5))
        case "divide":
            return w.op("Div", x, w.op("Add", w.constant(1), w.op("Exp", w.op("Neg", z))))
        case _:
            g = w.op("Sigmoid", z)
    return w.op("Mul", *swapped(draw, x, g))


@st.composite
def networks(draw: Draw) -> tuple[onnx.ModelProto, tuple[int, ...], float]:
    """The model, the shape of its input, λ."""
    w = Writer(draw(st.sampled_from(OPSETS)))
    n, c = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    h, wide = draw(st.integers(2, 9)), draw(st.integers(2, 9))
    e_lambda = draw(st.sampled_from([1e-6, 1e-4, 1e-3, 0.1, 1.0]))
    fixed = draw(st.booleans())
    x = "image"
    match draw(st.sampled_from(["nothing", "conv", "relu", "bias"])):
        case "conv":
            eye = np.eye(c)[:, :, None, None]
            x = w.op("Conv", x, w.constant(eye))
        case "relu":
            x = w.op("LeakyRelu", x)
        case "bias":
            x = w.op("Add", x, w.constant(np.arange(c)[:, None, None] * 0.1))
    centre = centred(draw, w, x)
    d = square(draw, w, centre)
    v = variance(draw, w, x, centre, d, (h, wide) if fixed else None)
    y = gated(draw, w, x, gate_input(draw, w, d, v, e_lambda))
    outputs = []
    match draw(st.sampled_from(["nothing", "relu", "residual", "concat", "pool", "inner"])):
        case "relu":
            outputs.append(w.op("Relu", y))
        case "residual":
            outputs.append(w.op("Add", y, x))
        case "concat":
            outputs.append(w.op("Concat", y, x, axis=1))
        case "pool":
            outputs.append(w.op("MaxPool", y, kernel_shape=[2, 2]))
        case "inner":
            outputs += [w.op("Relu", y), w.op("Neg", d)]
        case _:
            outputs.append(y)
    shape = (n, c, h, wide)
    graph = helper.make_graph(
        w.nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape if fixed else ["n", c, "h", "w"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in outputs],
        w.weights,
    )
    opsets = [helper.make_opsetid("", w.opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model, shape, e_lambda


def run(model: onnx.ModelProto, image: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"image": image}))


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=networks())
def test_any_spelling_is_found_and_keeps_its_numbers(drawn: tuple[onnx.ModelProto, tuple[int, ...], float]) -> None:
    """Both runs are float32 evaluations of one formula, each within formula.tolerance of the truth but for constants
    that other spellings round once more; what comes behind is linear in y with factor 1. So they are within four
    tolerances of each other. λ is stored in float32, at worst as 4 λ or behind a product: a few of its eps."""
    model, shape, e_lambda = drawn
    source = ir.from_proto(model)
    found = find(source)
    assert len(found.blocks) == 1, found.near_misses
    np.testing.assert_allclose(found.blocks[0].e_lambda, e_lambda, rtol=1e-5)
    image = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    before = run(model, image)
    x = 2 * np.abs(image) + 1
    bound = 4 * tolerance(x, np.float32, e_lambda).max()
    opset = source.opset_imports[""]
    for form in ("primitive", "function") if opset >= 17 else ("primitive",):
        fused = fuse(source, form).model
        for a, b in zip(before, run(ir.to_proto(fused), image), strict=True):
            np.testing.assert_allclose(b, a, rtol=0, atol=bound)
        again = fuse(fused, form).model
        assert ir.to_proto(again).SerializeToString(deterministic=True) == ir.to_proto(fused).SerializeToString(
            deterministic=True
        )
    assert bound < np.abs(image * 0.5 - reference(image, e_lambda)).max() or image.size < 8, "or this shows nothing"
