"""Files in old opsets that ONNX Runtime optimised and saved: the shapes behind its own operators."""

from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
from onnx import parser

from simam_deploy.graph import onnx_file
from simam_deploy.match.find import find

EVERY = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
NUMBERS = ", ".join(str(round(0.01 * (-1) ** i * (i % 13), 2)) for i in range(16 * 3 * 9))


def network(opset: int) -> onnx.ModelProto:
    """image -> convolution -> ReLU -> SimAM of fixed size -> out."""
    sum_ = "ReduceSum <axes: ints = [2, 3], keepdims: int = 1> (d)"
    axes = ""
    if opset >= 13:
        sum_, axes = "ReduceSum <keepdims: int = 1> (d, axes)", "int64[2] axes = {2, 3},"
    return parser.parse_model(f"""<ir_version: 8, opset_import: ["": {opset}]>
    net (float[1, 3, 7, 9] image) => (float[1, 16, 7, 9] out)
    <float[16, 3, 3, 3] weight = {{{NUMBERS}}}, {axes} float n = {{62}}, float lam = {{0.1}}, float four = {{4}},
     float half = {{0.5}}>
    {{
        a = Conv <pads: ints = [1, 1, 1, 1], kernel_shape: ints = [3, 3]> (image, weight)
        x = Relu (a)
        mean = ReduceMean <axes: ints = [2, 3], keepdims: int = 1> (x)
        c = Sub (x, mean)
        d = Mul (c, c)
        s = {sum_}
        v = Div (s, n)
        t = Add (v, lam)
        q = Mul (t, four)
        e = Div (d, q)
        z = Add (e, half)
        g = Sigmoid (z)
        out = Mul (x, g)
    }}""")


@pytest.mark.parametrize("opset", [7, 9, 10, 11, 12, 13, 17])
def test_the_size_of_the_map_is_known(opset: int, tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.graph_optimization_level = EVERY
    options.optimized_model_filepath = str(tmp_path / "o.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(network(opset).SerializeToString(), options, providers=["CPUExecutionProvider"])
    (block,) = find(onnx_file.load(tmp_path / "o.onnx")).blocks
    assert (block.shape, block.e_lambda) == ((1, 16, 7, 9), 0.1)
