"""Small ONNX files in text form, for the builder of engines."""

from pathlib import Path

import onnx
from onnx import parser

HEAD = '<ir_version: 8, opset_import: ["" : 18, "simam" : 1]>'
BODY = """
<domain: "simam", opset_import: ["" : 18]>
SimAM <e_lambda>(x) => (y) {
  axes = Constant<value_ints: ints = [2, 3]>()
  f = Cast<to: int = 1>(x)
  mean = ReduceMean<keepdims: int = 1>(f, axes)
  c = Sub(f, mean)
  d = Mul(c, c)
  s = ReduceSum<keepdims: int = 1>(d, axes)
  hw = Shape<start: int = 2, end: int = 4>(x)
  m = ReduceProd<keepdims: int = 0>(hw)
  one = Constant<value_int: int = 1>()
  n = Sub(m, one)
  nf = Cast<to: int = 1>(n)
  v = Div(s, nf)
  lambda = Constant<value_float: float = @e_lambda>()
  vl = Add(v, lambda)
  four = Constant<value_float: float = 4.0>()
  q = Mul(vl, four)
  e = Div(d, q)
  half = Constant<value_float: float = 0.5>()
  z = Add(e, half)
  g = Sigmoid(z)
  o = Mul(f, g)
  y = CastLike(o, x)
}
"""
CALL = "g (float[N,3,H,W] x) => (float[N,3,H,W] y) { [block] y = simam.SimAM<e_lambda: float = 0.1>(x) }"


def save(folder: Path, text: str) -> Path:
    path = folder / "model.onnx"
    onnx.save(parser.parse_model(HEAD + text), path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
