"""Networks with blocks inside If, Loop and model-local functions."""

import onnx
import onnx_ir as ir
from onnx import parser

from helpers.onnx_models import CHAIN

HEAD = '<ir_version: 8, opset_import: ["" : 18, "f" : 1]>\n'

BODY = '<domain: "f", opset_import: ["" : 18, "f" : 1]>\n'

GIVEN = "<int64[2] hw = {2, 3}, float n = {34}, float lam = {1e-4}, float four = {4}, float half = {0.5}>"

HELD = """hw = Constant <value_ints = [2, 3]> ()
  n = Constant <value_float = 34.0> ()
  lam = Constant <value_float = 0.0001> ()
  four = Constant <value_float = 4.0> ()
  half = Constant <value_float = 0.5> ()
"""

BY_ATTRIBUTE = HELD.replace("value_float = 0.0001", "value_float: float = @e")

IMAGE = "net (float[2, 3, 5, 7] image) => (float[2, 3, 5, 7] out)"

CHOICE = "net (float[2, 3, 5, 7] image, bool yes) => (float[2, 3, 5, 7] out)"

MEAN = "mean = ReduceMean <keepdims: int = 1> (x, hw)"

MODELS = {
    "in a branch": f"""{CHOICE} {GIVEN} {{
      x = Relu (image)
      out = If (yes) <then_branch = t () => (float[2, 3, 5, 7] y) {{ {CHAIN} }},
                      else_branch = e () => (float[2, 3, 5, 7] y2) {{ y2 = Identity (x) }}>
    }}""",
    "half in a branch": f"""{CHOICE} {GIVEN} {{
      x = Relu (image)
      {MEAN}
      out = If (yes) <then_branch = t () => (float[2, 3, 5, 7] y) {{ {CHAIN.replace(MEAN, "")} }},
                      else_branch = e () => (float[2, 3, 5, 7] y2) {{ y2 = Sub (x, mean) }}>
    }}""",
    "in a loop": f"""net (float[2, 3, 5, 7] image, int64 trips, bool yes) => (float[2, 3, 5, 7] out) {GIVEN} {{
      out = Loop (trips, yes, image) <body =
        b (int64 i, bool go, float[2, 3, 5, 7] x) => (bool on, float[2, 3, 5, 7] y)
        {{ on = Identity (go) {CHAIN} }}>
    }}""",
    "a function": f"{IMAGE} {{ a = Relu (image)  out = f.mine (a) }}\n{BODY} mine (x) => (y) {{ {HELD} {CHAIN} }}",
    "a function with λ": f"""{IMAGE} {{ a = f.mine <e = 0.1> (image)  out = f.mine <e = 0.01> (a) }}
    {BODY} mine <e> (x) => (y) {{ {BY_ATTRIBUTE} {CHAIN} }}""",
    "in a function": f"""{IMAGE} {{ a = f.mine (image)  out = f.mine (a) }}
    {BODY} mine (i) => (y) {{ x = Softmax (i) {HELD} {CHAIN} }}""",
    "in a function in a function": f"""{IMAGE} {{ out = f.outer (image) }}
    {BODY} outer (i) => (o) {{ x = Softmax (i)  z = f.mine (x)  o = Softmax (z) }}
    {BODY} mine (x) => (y) {{ {HELD} {CHAIN} }}""",
    "a function that makes more": f"""{IMAGE} {{ a, g = f.mine (image)  out = Max (a, g) }}
    {BODY} mine (x) => (y, g) {{ {HELD} {CHAIN} }}""",
    "a function of the statistics": f"""{IMAGE} {{ x = Relu (image) {HELD} mean = f.mean_of (x, hw)
    {CHAIN.replace(MEAN, "").replace("y = Mul", "out = Mul")} }}
    {BODY} mean_of (a, axes) => (m) {{ m = ReduceMean <keepdims: int = 1> (a, axes) }}""",
}


def made(name: str) -> ir.Model:
    proto = parser.parse_model(HEAD + MODELS[name])
    for i, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}_{i}"
    onnx.checker.check_model(proto, full_check=True)
    return ir.from_proto(proto)
