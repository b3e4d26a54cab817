"""Small ONNX models with SimAM in them, as text: the graph is readable in the test."""

import re

import onnx
import onnx_ir as ir
from onnx import parser

CHAIN = """
   mean = ReduceMean <keepdims: int = 1> (x, hw)
   c = Sub (x, mean)
   d = Mul (c, c)
   s = ReduceSum <keepdims: int = 1> (d, hw)
   v = Div (s, n)
   t = Add (v, lam)
   q = Mul (t, four)
   e = Div (d, q)
   z = Add (e, half)
   g = Sigmoid (z)
   y = Mul (x, g)
"""
"""SimAM of x, spelled out; the tests change one line of it."""


def again(x: str, y: str) -> str:
    """A second chain, from x to y."""
    inner = re.sub(r"\b(mean|c|d|s|v|t|q|e|z|g|x|y)\b", r"\g<1>_2", CHAIN)
    return inner.replace("x_2", x).replace("y_2", y)


def model(
    chain: str = CHAIN,
    *,
    shape: str = "2, 3, 5, 7",
    n: float = 34,
    lam: float = 1e-4,
    four: float = 4,
    half: float = 0.5,
    hw: str = "2, 3",
    dtype: str = "float",
    outputs: str = "y",
    before: str = "x = Relu (image)",
    after: str = "out = Relu (y)",
    weights: str = "",
) -> ir.Model:
    """image -> Relu -> chain -> Relu -> out, with opset 18.

    outputs : further outputs of the graph.  weights : further initialisers, each with a comma behind it.
    """
    scalars = ", ".join(f"{dtype} {k} = {{{v}}}" for k, v in {"n": n, "lam": lam, "four": four, "half": half}.items())
    extra = "".join(f", {dtype}[{shape}] {name}" for name in outputs.split() if name != "y")
    text = f"""<ir_version: 8, opset_import: ["": 18]>
    net ({dtype}[{shape}] image) => ({dtype}[{shape}] out{extra})
    <{weights} int64[{hw.count(",") + 1}] hw = {{{hw}}}, {scalars}>
    {{
    {before}
    {chain}
    {after}
    }}"""
    proto = parser.parse_model(text)
    for at, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}_{at}"
    onnx.checker.check_model(proto)
    return ir.from_proto(proto)


PART = f"""<domain: "m", opset_import: ["": 18]>
    part (x) => (out) {{
        hw = Constant <value_ints = [2, 3]> ()
        n = Constant <value_float = 34.0> ()
        lam = Constant <value_float = 0.1> ()
        four = Constant <value_float = 4.0> ()
        half = Constant <value_float = 0.5> ()
        {CHAIN}
        out = Relu (y)
    }}"""
"""A function of another domain with SimAM of 5x7 maps in it."""


def chain(x: str, y: str, tag: str) -> str:
    """CHAIN from x to y, with inner names of its own."""
    inner = ["mean", "c", "d", "s", "v", "t", "q", "e", "z", "g"]
    text = CHAIN.replace("(x, ", "(X, ").replace("(s, n)", f"(s, n_{tag})")
    for name in inner:
        for before, after in ((" ", " "), ("(", ","), ("(", ")"), (" ", ")")):
            text = text.replace(f"{before}{name}{after}", f"{before}{tag}_{name}{after}")
    return text.replace("(X,", f"({x},").replace("   y =", f"   {y} =")
