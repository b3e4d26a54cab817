"""SimAM with one value inside that was quantised."""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from helpers.onnx_models import CHAIN, model


def rounded(at: int, k: int, dtype: int, opset: int, chain: str = CHAIN, **given: Any) -> onnx.ModelProto:
    """With one pair between a node and its input k."""
    proto = ir.to_proto(model(chain, **given))
    proto.opset_import[0].version = opset
    proto.ir_version = 10
    node = proto.graph.node[at]
    scale = numpy_helper.from_array(np.array(0.01, np.float32), "scale")
    zero = helper.make_tensor("zero", dtype, [], [0])
    pair = [
        helper.make_node("QuantizeLinear", [node.input[k], "scale", "zero"], ["integers"]),
        helper.make_node("DequantizeLinear", ["integers", "scale", "zero"], ["floats"]),
    ]
    node.input[k] = "floats"
    for one in reversed(pair):
        proto.graph.node.insert(at, one)
    proto.graph.initializer.extend([scale, zero])
    onnx.checker.check_model(proto, full_check=True)
    return proto
