"""Files of two inputs and two outputs, under names and in orders of choice."""

import json
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import parser

CHAIN = """
   mean = ReduceMean <axes = [2, 3], keepdims = 1> (x)
   c = Sub (x, mean)
   d = Mul (c, c)
   s = ReduceSum <keepdims = 1> (d, hw)
   v = Div (s, n)
   t = Add (v, lam)
   q = Mul (t, four)
   e = Div (d, q)
   z = Add (e, half)
   g = Sigmoid (z)
   boxes = Mul (x, g)
   scores = Sub (boxes, u)
"""
SHAPE = "float[2, 3, 5, 7]"


def save(
    path: Path, inputs: Sequence[str] = ("x", "u"), outputs: Sequence[str] = ("boxes", "scores"), **rename: str
) -> Path:
    """boxes = simam(x), scores = boxes - u. rename : other names for values."""
    text = f"""<ir_version: 8, opset_import: ["": 17]>
    net ({", ".join(f"{SHAPE} {name}" for name in inputs)}) => ({", ".join(f"{SHAPE} {name}" for name in outputs)})
    <int64[2] hw = {{2, 3}}, float n = {{34}}, float lam = {{0.0001}}, float four = {{4}}, float half = {{0.5}}>
    {{ {CHAIN} }}"""
    model = parser.parse_model(text)
    graph = model.graph
    names = [names for node in graph.node for names in (node.input, node.output)]
    for held in names:
        held[:] = [rename.get(name, name) for name in held]
    for value in (*graph.input, *graph.output):
        value.name = rename.get(value.name, value.name)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


EXCHANGED = {"boxes": "scores", "scores": "boxes"}


def report(out: str) -> tuple[bool, list[str]]:
    read = json.loads(out)
    return read["passed"], read["notes"]
