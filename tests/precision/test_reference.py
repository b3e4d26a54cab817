"""The low reference keeps in float32 what 16 bits would spoil, and only that."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import parser

from simam_deploy.graph import onnx_file
from simam_deploy.precision.low_types import FP16
from simam_deploy.precision.reference import low_reference
from simam_deploy.precision.to_low import to_low
from simam_deploy.runtimes import open_session

DELICATE = {
    "Div": "Div(a, x)",
    "Exp": "Exp(a)",
    "GlobalAveragePool": "GlobalAveragePool(a)",
    "LayerNormalization": "LayerNormalization(a, s)",
    "Log": "Log(a)",
    "Pow": "Pow(a, x)",
    "Reciprocal": "Reciprocal(a)",
    "ReduceMean": "ReduceMean(a)",
    "ReduceSum": "ReduceSum(a)",
    "Softmax": "Softmax(a)",
    "Softplus": "Softplus(a)",
    "Sqrt": "Sqrt(a)",
    "Sub": "Sub(a, x)",
}


def types(model: ir.Model) -> dict[str, str]:
    return {node.op_type: node.outputs[0].dtype.name for node in model.graph if node.op_type != "Cast"}


@pytest.mark.parametrize("op", DELICATE)
def test_a_delicate_operator_is_float32_and_its_neighbour_is_not(op: str) -> None:
    text = f"""<ir_version: 9, opset_import: ["" : 18]> g (float[1,2,4,4] x) => (float[a,b,c,d] y)
        <float[4] s = {{1, 1, 1, 1}}> {{ a = Relu(x)\n y = {DELICATE[op]} }}"""
    model = ir.from_proto(parser.parse_model(text))
    assert types(to_low(model, FP16).model) == {"Relu": "FLOAT16", op: "FLOAT16"}
    assert types(low_reference(model, FP16)) == {"Relu": "FLOAT16", op: "FLOAT"}


@pytest.mark.parametrize(("size", "type_"), [(1.0, "FLOAT16"), (1000.0, "FLOAT")])
def test_what_is_beyond_the_type_on_the_inputs_is_float32(size: float, type_: str, tmp_path: Path) -> None:
    """1000 x is 1e6 where x is 1000."""
    text = """<ir_version: 9, opset_import: ["" : 18]> g (float[4] x) => (float[4] y)
        <float kilo = {1000}, float milli = {0.001}> { k = Mul(x, kilo)\n y = Mul(k, milli) }"""
    feed = {"x": np.full(4, size, np.float32)}
    made = low_reference(ir.from_proto(parser.parse_model(text)), FP16, [feed])
    assert types(made) == {"Mul": type_}
    onnx_file.save(made, tmp_path / "low.onnx")
    with open_session(tmp_path / "low.onnx", "onnx_half") as session:
        given = {spec.name: feed["x"].astype(spec.dtype) for spec in session.inputs}
        np.testing.assert_allclose(session.run(given)["y"].astype(np.float64), size, rtol=2e-3)
