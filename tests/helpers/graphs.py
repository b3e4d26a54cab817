"""Small ONNX models, most of them as text, for the tests of whatever reads them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser

from simam_deploy.formula import reference, tolerance
from simam_deploy.graph import onnx_file
from simam_deploy.graph.shapes import Dims
from simam_deploy.rewrite.forms import alone
from simam_deploy.runtimes import Session

BODY = """
<domain: "simam", opset_import: ["" : 18]>
SimAM <e_lambda: float = 0.0001> (x) => (y)
{
  a = Cast <to: int = 1> (x)
  axes = Constant <value_ints: ints = [2, 3]> ()
  mean = ReduceMean <keepdims: int = 1> (a, axes)
  c = Sub (a, mean)
  d = Mul (c, c)
  sum = ReduceSum <keepdims: int = 1> (d, axes)
  hw = Shape <start: int = 2, end: int = 4> (x)
  m = ReduceProd <keepdims: int = 0> (hw)
  one = Constant <value_int: int = 1> ()
  less = Sub (m, one)
  n = Cast <to: int = 1> (less)
  v = Div (sum, n)
  lambda = Constant <value_float: float = @e_lambda> ()
  vl = Add (v, lambda)
  four = Constant <value_float: float = 4.0> ()
  below = Mul (vl, four)
  ratio = Div (d, below)
  half = Constant <value_float: float = 0.5> ()
  z = Add (ratio, half)
  gate = Sigmoid (z)
  product = Mul (a, gate)
  y = CastLike (product, x)
}
"""
WEIGHT = np.array([1, -2, 0.5], dtype=np.float32).reshape(1, 3, 1, 1)


def parse(graph: str, *functions: str, opset: int = 18) -> onnx.ModelProto:
    head = f'<ir_version: 8, opset_import: ["" : {opset}, "simam" : 1]>\n'
    return parser.parse_model(head + graph + "".join(functions))


def simam(
    shape: str = "N,3,H,W", dtype: str = "float", e_lambda: float = 0.25, form: str = "function"
) -> onnx.ModelProto:
    """y = SimAM(x * WEIGHT), where 0.25 is a λ that float32 holds exactly."""
    graph = f"""g ({dtype}[{shape}] x) => ({dtype}[{shape}] y) {{
        t = Mul (x, w)
        y = simam.SimAM <e_lambda: float = {e_lambda}> (t)
    }}"""
    model = parse(graph, BODY if form == "function" else "")
    kind = {"float": np.float32, "float16": np.float16, "double": np.float64}[dtype]
    model.graph.initializer.append(numpy_helper.from_array(WEIGHT.astype(kind), "w"))
    return model


TWO_OUTPUTS = """g (float[2,3] b, float[2,3] a) => (float[2,3] sum, float[2,3] same, float[2,3] weight)
<float[2,3] weight = {1, 2, 3, 4, 5, 6}> {
    same = Identity (b)
    sum = Sub (a, b)
}"""


def save(model: onnx.ModelProto, path: Path, **how: Any) -> Path:
    """Write the model; returns the path."""
    onnx.save(model, path, **how)
    return path


def file(folder: Path, form: str = "function", shape: Dims = ("n", "c", "h", "w"), e_lambda: float = 1e-4) -> Path:
    """SimAM alone, in <folder>/<form>.onnx."""
    path = folder / f"{form}.onnx"
    onnx_file.save(alone(form, shape, e_lambda=e_lambda), path)
    return path


def beside(folder: Path) -> Path:
    """A function-form file whose weights are in sub/weights.bin."""
    (folder / "sub").mkdir(parents=True)
    outside = {"save_as_external_data": True, "location": "sub/weights.bin", "size_threshold": 0}
    return save(simam(), folder / "model.onnx", **outside)


def check(session: Session, x: np.ndarray, e_lambda: float = 0.25) -> None:
    """Run what `simam` made and compare with the formula."""
    y = session.run({"x": x})["y"]
    t = x * WEIGHT.astype(x.dtype)
    assert y.dtype == x.dtype
    assert (np.abs(y - reference(t, e_lambda)) <= tolerance(t, x.dtype, e_lambda)).all()
