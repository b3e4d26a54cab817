"""Blocks of several types in a file of any opset, and what is in the file."""

import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import parser

from simam_deploy import native

NEWEST = onnx.defs.onnx_opset_version()
OPSETS = [7, 8, 9, 11, 12, 13, 14, 15, 17, 18, NEWEST]
FLOAT, FLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16


def session(proto: onnx.ModelProto, library: native.Library | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if library is not None:
        options.register_custom_ops_library(str(library.path))
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def data(what: ir.Model) -> bytes:
    return ir.to_proto(what).SerializeToString(deterministic=True)


def body(what: ir.Model, name: str = "SimAM") -> list[str]:
    """The operators of a body, but for constants."""
    return [node.op_type for node in what.functions["simam", name, ""] if node.op_type != "Constant"]


def two(opset: int, first: str, second: str) -> ir.Model:
    """x -> SimAM -> y in one type, and beside it x2 -> SimAM -> y2 in another."""
    text = f"""<ir_version: 8, opset_import: ["": {opset}, "simam": 1]>
    g ({first}[2,3,5,7] x, {second}[2,3,5,7] x2) => ({first}[2,3,5,7] y, {second}[2,3,5,7] y2) {{
        y = simam.SimAM <e_lambda: float = 0.1> (x)
        y2 = simam.SimAM <e_lambda: float = 0.1> (x2)
    }}"""
    return ir.from_proto(parser.parse_model(text))
