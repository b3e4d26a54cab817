"""Quantised operators that are refused, by TensorRT-RTX's parser too."""

import onnx
import onnx_ir as ir
import pytest
from helpers.graphs import parse

from simam_deploy.engines.int8_parsing import unparsed_int8

PAIR = """g (float[1,3,4,4] x, float s) => (float[1,3,4,4] y) <%s z = {%d}> {
    q = QuantizeLinear (x, s, z)
    y = DequantizeLinear (q, s, z)
}"""
BIAS = """g (float[1,3,4,4] x, float s) => (float[1,3,4,4] y) <int32[3,1,1] b = {1, 2, 3}> {
    d = DequantizeLinear (b, s)
    y = Add (x, d)
}"""
TAKEN = [PAIR % ("int8", 0), PAIR % ("uint8", 0)]
REFUSED = [
    (PAIR % ("int8", 3), "QuantizeLinear 'q' has a zero point that is not 0"),
    (PAIR % ("uint8", 128), "QuantizeLinear 'q' has a zero point that is not 0"),
    (BIAS, "DequantizeLinear 'd' reads int32, as integer biases are stored"),
    (
        "g (uint8[1,3,8,8] x, uint8[3,3,1,1] w) => (int32[1,3,8,8] y) { y = ConvInteger (x, w) }",
        "ConvInteger 'y' computes on integers",
    ),
    (
        "g (uint8[4,4] x, float s, uint8 z) => (uint8[4,4] y) { y = QLinearMatMul (x, s, z, x, s, z, s, z) }",
        "QLinearMatMul 'y' computes on integers",
    ),
    (
        "g (float[4,4] x) => (uint8[4,4] y) { y, s, z = DynamicQuantizeLinear (x) }",
        "DynamicQuantizeLinear 'y' computes on integers",
    ),
]


def model_of(text: str) -> onnx.ModelProto:
    model = parse(text)
    if len(model.graph.input) > 1 and model.graph.input[1].name == "s":  # a constant, as quantisers write it
        scale = onnx.helper.make_tensor("s", onnx.TensorProto.FLOAT, [], [0.1])
        del model.graph.input[1]
        model.graph.initializer.append(scale)
    return model


@pytest.mark.parametrize(("text", "reason"), [*((text, "") for text in TAKEN), *REFUSED])
def test_what_the_parser_refuses(text: str, reason: str) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    model = model_of(text)
    assert unparsed_int8(ir.from_proto(model)) == reason
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    network = trt.Builder(logger).create_network(0)
    assert trt.OnnxParser(network, logger).parse(model.SerializeToString()) == (not reason)
