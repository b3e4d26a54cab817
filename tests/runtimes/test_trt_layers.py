"""Kinds of layers that the trt_network runtime computes, each against ONNX Runtime on a small model."""

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import compose, numpy_helper, parser

from simam_deploy.errors import RuntimeUnavailable
from simam_deploy.formula import Array
from simam_deploy.runtimes import open_session
from simam_deploy.runtimes.trt_layers import ACTIVATIONS, ELEMENTWISE, KINDS, REDUCTIONS
from simam_deploy.runtimes.trt_parse import ParsedLayer, parse

pytestmark = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")

FED = ("x", "z")
"""Inputs of these names are fed; the others become weights."""
IMAGE = "(float[2,4,9,11] x"
CASES = {
    "CONVOLUTION strided": (
        f"{IMAGE}, float[6,2,3,2] w, float[6] b) => (float[2,6,a,c] y)",
        "y = Conv <group = 2, strides = [2, 1], dilations = [1, 3], pads = [1, 0, 2, 1]> (x, w, b)",
    ),
    "CONVOLUTION depthwise": (f"{IMAGE}, float[4,1,3,3] w) => (float[2,4,a,c] y)", "y = Conv <group = 4> (x, w)"),
    "CONVOLUTION in space": (
        "(float[1,2,4,5,6] x, float[3,2,2,1,3] w) => (float[1,3,a,b,c] y)",
        "y = Conv <pads = [0, 1, 0, 1, 0, 2]> (x, w)",
    ),
    "CONVOLUTION with a kernel that is fed": (
        f"{IMAGE}, float[3,4,2,1] z) => (float[2,3,a,c] y)",
        "y = Conv <strides = [1, 2]> (x, z)",
    ),
    "POOLING": (
        f"{IMAGE}) => (float[2,4,a,c] y)",
        "y = MaxPool <kernel_shape = [3, 2], strides = [2, 3], pads = [1, 0, 2, 1]> (x)",
    ),
    "SCALE": (
        f"{IMAGE}, float[4] a, float[4] b, float[4] c) => (float[2,4,9,11] y) <float[4] v = {{1, 0.1, 3, 20}}>",
        "y = BatchNormalization <epsilon = 0.1> (x, a, b, c, v)",
    ),
    "NORMALIZATION of planes": (
        f"{IMAGE}, float[4] a, float[4] b) => (float[2,4,9,11] y)",
        "y = InstanceNormalization <epsilon = 0.1> (x, a, b)",
    ),
    "NORMALIZATION of layers": (
        f"{IMAGE}, float[9,11] a) => (float[2,4,9,11] y)",
        "y = LayerNormalization <axis = -2, epsilon = 0.1> (x, a)",
    ),
    "RESIZE": (
        f"{IMAGE}) => (float[a,b,c,d] y) <float[4] s = {{1, 1, 2, 1.5}}>",
        """y = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">
               (x, , s)""",
    ),
    "MATRIX_MULTIPLY of batches": (
        "(float[2,1,3,4] x, float[5,4,2] z) => (float[2,5,3,2] y)",
        "y = MatMul (x, z)",
    ),
    "MATRIX_MULTIPLY transposed": (
        "(float[4,3] x, float[2,4] w, float[2] b) => (float[3,2] y)",
        "y = Gemm <transA = 1, transB = 1, alpha = 0.5, beta = 2.0> (x, w, b)",
    ),
    **{
        f"ELEMENTWISE {op}": (f"{IMAGE}, float[9,1] z) => (float[2,4,9,11] y)", f"y = {op} (x, z)")
        for op in ("Add", "Sub", "Mul", "Div")
    },
    "ELEMENTWISE Pow": (
        f"{IMAGE}, float[4,1,1] w) => (float[2,4,9,11] y)",
        "a = Sigmoid (x)\n y = Pow (a, w)",
    ),
    "ELEMENTWISE of integers": ("(int64[5,4] x, int64[4] z) => (int64[5,4] y)", "y = Div (x, z)"),
    "ACTIVATION Relu": ("(float[3,4] x) => (float[3,4] y)", "y = Relu (x)"),
    "ACTIVATION Sigmoid": ("(float[3,4] x) => (float[3,4] y)", "a = Mul (x, x)\n b = Mul(a, x)\n y = Sigmoid (b)"),
    "ACTIVATION Clip": (
        "(float[3,4] x) => (float[3,4] y) <float a = {-0.5}, float b = {0.25}>",
        "y = Clip (x, a, b)",
    ),
    "REDUCE ReduceSum": (
        f"{IMAGE}) => (float[2,11] y) <int64[2] k = {{-2, 1}}>",
        "y = ReduceSum <keepdims = 0> (x, k)",
    ),
    "REDUCE ReduceMean": (f"{IMAGE}) => (float[2,1,9,1] y) <int64[2] k = {{-1, 1}}>", "y = ReduceMean (x, k)"),
    "REDUCE ReduceProd": (
        "(int64[3,5] x) => (int64[3] y) <int64[1] k = {-1}>",
        "y = ReduceProd <keepdims = 0> (x, k)",
    ),
    "CAST to integers": ("(float[3,4] x) => (int32[3,4] y)", "a = Add (x, x)\n y = Cast <to = 6> (a)"),
    "CAST to truth": ("(float[3,4] x) => (bool[3,4] y)", "a = Relu (x)\n y = Cast <to = 9> (a)"),
    "CAST from integers": ("(int64[3,4] x) => (float[3,4] y)", "y = Cast <to = 1> (x)"),
    "CONCATENATION": (f"{IMAGE}, float[2,4,2,11] z) => (float[2,4,13,11] y)", "y = Concat <axis = -2> (x, z, z)"),
    "CONSTANT": ("(float[3,4] x, float[2,1,4] w) => (float[2,3,4] y)", "y = Add (x, w)"),
    "IDENTITY": ("(float[3,4] x) => (float[3,4] y)", "y = Identity (x)"),
    "GATHER": (
        f"{IMAGE}) => (float[2,4,2,11] y) <int64[2] k = {{3, 8}}>",
        "y = Gather <axis = -2> (x, k)",
    ),
    "SHAPE": ("(float[N,3,H,W] x) => (int64[4] y)", "y = Shape (x)"),
    "SHUFFLE transposed": (f"{IMAGE}) => (float[11,2,9,4] y)", "y = Transpose <perm = [3, 0, 2, 1]> (x)"),
    "SHUFFLE with 0 and -1": (f"{IMAGE}) => (float[a,b,c] y) <int64[3] r = {{0, -1, 33}}>", "y = Reshape (x, r)"),
    "SHUFFLE to sizes that are computed": (
        "(float[N,3,H,W] x) => (float[N,a] y)",
        "y = Flatten (x)",
    ),
    "SLICE": (f"{IMAGE}) => (float[2,4,a,11] y) <int64[2] k = {{2, 7}}>", "z, y = Split <axis = -2> (x, k)"),
    "SLICE of SHAPE": ("(float[N,3,H,W] x) => (int64[a] y)", "y = Shape <start = -3, end = -1> (x)"),
    "SOFTMAX": (f"{IMAGE}) => (float[2,4,9,11] y)", "y = Softmax <axis = 1> (x)"),
    "SQUEEZE": ("(float[1,3,1,4] x) => (float[3,4] y) <int64[2] k = {-2, 0}>", "y = Squeeze (x, k)"),
    "UNSQUEEZE": (
        f"{IMAGE}) => (float[2,1,4,9,11,1] y) <int64[2] k = {{-1, 1}}>",
        "y = Unsqueeze (x, k)",
    ),
    "QUANTIZE and DEQUANTIZE": (  # halves, and beyond both limits
        "(int64[5,8] x) => (float[5,8] y) <float s = {2}, int8 n = {0}>",
        """a = Mul (x, x)
           b = Mul (a, x)
           c = Cast <to = 1> (b)
           q = QuantizeLinear (c, s, n)
           y = DequantizeLinear (q, s, n)""",
    ),
    "DEQUANTIZE along an axis": (
        "(float[3,2] x, int8[2,4] q) => (float[3,4] y) <float[4] s = {0.5, 0.25, 1, 2}, int8[4] n = {0, 0, 0, 0}>",
        "w = DequantizeLinear <axis = -1> (q, s, n)\n y = MatMul (x, w)",
    ),
}


def drawn(declared: onnx.ValueInfoProto) -> Array:
    """Sizes that the file leaves open are 3."""
    kind = declared.type.tensor_type
    shape = [dim.dim_value or 3 for dim in kind.shape.dim]
    x = np.random.default_rng(len(declared.name) + sum(shape)).standard_normal(shape)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    return x.astype(dtype) if dtype.kind == "f" else np.where(x < 0, 9 * x - 1, 9 * x + 1).astype(dtype)


def model_of(texts: tuple[str, str], prefix: str = "") -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A model of these nodes, with weights drawn, and feeds. prefix : of all its names."""
    model = parser.parse_model('<ir_version: 8, opset_import: ["" : 19]> g {} {{ {} }}'.format(*texts))
    feeds = {value.name: drawn(value) for value in model.graph.input}
    for value in [value for value in model.graph.input if value.name not in FED]:
        model.graph.input.remove(value)
        model.graph.initializer.append(numpy_helper.from_array(feeds.pop(value.name), value.name))
    return compose.add_prefix(model, prefix), {prefix + name: x for name, x in feeds.items()}


@dataclass(frozen=True)
class Run:
    """Layers of all cases, and the outputs by runtime and type."""

    layers: list[ParsedLayer]
    outputs: dict[str, dict[str, Array]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All cases in one file."""
    path = tmp_path_factory.mktemp("layers") / "all.onnx"
    parts = [model_of(texts, f"{at}_") for at, texts in enumerate(CASES.values())]
    whole = parts[0][0]
    for part, _ in parts[1:]:
        whole.graph.MergeFrom(part.graph)
    onnx.save(whole, path)
    feeds = {name: x for _, given in parts for name, x in given.items()}
    outputs = {}
    for runtime, dtype in (
        ("ort", None),
        ("trt_network", None),
        ("onnx_reference", "float64"),
        ("trt_network", "float64"),
    ):
        with open_session(path, runtime, dtype=dtype) as session:
            outputs[session.label] = session.run(feeds)
    return Run(parse(path).layers, outputs)


@pytest.mark.parametrize("name", CASES)
def test_as_onnx_runtime_and_the_evaluator(name: str, run: Run) -> None:
    """Within a few roundings of float32 of ONNX Runtime; in float64 within those of the evaluator of onnx."""
    prefix = f"{[*CASES].index(name)}_"
    whose = re.compile(rf"\b(node_of_)?{prefix}")
    kinds = {layer.kind for layer in run.layers if whose.search(f"{layer.node} {layer.output}")}
    assert {word for word in name.split() if word.isupper()} <= kinds
    want, got, truth, wide = (outputs[f"{prefix}y"] for outputs in run.outputs.values())
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    rtol = 1e-6 if name == "SCALE" else 1e-12  # TensorRT folds a BatchNormalization in float32
    np.testing.assert_allclose(wide, truth, rtol=rtol, atol=rtol)


BEYOND = {
    "no such kind": (
        "(float[2,5] x) => (float[2,5] y) <int32 k = {1}>",
        "y = CumSum (x, k)",
        "layer 'node_of_y' (CUMULATIVE) [ONNX Layer: node_of_y]: no such kind",
    ),
    "type": ("(float[2,5] x) => (float[2,5] y)", "y = Elu (x)", "(ACTIVATION) [ONNX Layer: node_of_y]: type is ELU"),
    "op": (f"{IMAGE}, float[11] z) => (float[2,4,9,11] y)", "y = Max (x, z)", "op is MAX"),
    "mode": ("(float[3,4] x, int64[3,4] z) => (float[3,4] y)", "y = GatherElements (x, z)", "mode is ELEMENT"),
    "rounding": (
        f"{IMAGE}) => (float[2,4,a,c] y)",
        "y = MaxPool <kernel_shape = [3, 2], strides = [2, 3], ceil_mode = 1> (x)",
        "padding_mode is EXPLICIT_ROUND_UP",
    ),
    "average": (f"{IMAGE}) => (float[2,4,a,c] y)", "y = AveragePool <kernel_shape = [3, 2]> (x)", "type is AVERAGE"),
    "same": (
        f"{IMAGE}, float[4,4,2,2] w) => (float[2,4,a,c] y)",
        'y = Conv <auto_pad = "SAME_UPPER"> (x, w)',
        "padding_mode is SAME_UPPER",
    ),
    "sizes": (
        f"{IMAGE}) => (float[a,b,c,d] y) <int64[4] s = {{2, 4, 7, 30}}>",
        """y = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">
               (x, , , s)""",
        "shape is [2, 4, 7, 30]",
    ),
    "linear": (
        f"{IMAGE}) => (float[a,b,c,d] y) <float[4] s = {{1, 1, 2, 2}}>",
        'y = Resize <mode = "linear"> (x, , s)',
        "resize_mode is LINEAR, coordinate_transformation is HALF_PIXEL, nearest_rounding is HALF_DOWN",
    ),
    "groups": (
        f"{IMAGE}) => (float[2,4,9,11] y) <float[4] s = {{1, 2, 3, 4}}>",
        "y = GroupNormalization <num_groups = 2> (x, s, s)",
        "num_groups is 2",
    ),
}


@pytest.mark.parametrize("name", BEYOND)
def test_a_layer_that_it_does_not_know_is_refused_by_name(name: str, tmp_path: Path) -> None:
    *texts, words = BEYOND[name]
    path = tmp_path / "model.onnx"
    onnx.save(model_of((texts[0], texts[1]))[0], path)
    with pytest.raises(RuntimeUnavailable, match=re.escape(words)) as refused:
        open_session(path, "trt_network")
    assert f"trt_network cannot run {path}: it does not compute\n  layer '" in str(refused.value)
    assert str(refused.value).endswith("it computes the layers of networks with SimAM; use another runtime")


def test_every_kind_has_a_case() -> None:
    """But plugins, which are in test_trt_network.py."""
    assert {word for name in CASES for word in name.split() if word.isupper()} == {*KINDS} - {"PLUGIN_V3"}
    assert {word for name in CASES if name.startswith("ACTIV") for word in name.upper().split()[1:]} == set(
        ACTIVATIONS
    )
    assert len(ELEMENTWISE) == sum(name.startswith("ELEM") for name in CASES) - 1
    assert len(REDUCTIONS) == sum(name.startswith("REDUCE") for name in CASES)
