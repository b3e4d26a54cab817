"""Graphs that exporters alone do not make: SimAM inside branches, loops and functions, and beside other users."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper, parser

Shape = tuple[int, ...]
OPSET = 18


@dataclass(frozen=True)
class Wrapped:
    """A graph built by hand, and what is true of it."""

    name: str
    label: str
    e_lambda: tuple[float, ...]
    make: Callable[[], onnx.ModelProto]
    shapes: tuple[Shape, ...] = ((2, 3, 12, 9),)
    posts: tuple[str, ...] = ()


WRAPPED: dict[str, Wrapped] = {}
STATIC = "float[2,3,12,9]"
DYNAMIC = "float[batch,3,height,width]"
BOTH = ((2, 3, 12, 9), (3, 3, 10, 14))


def chain(x: str = "x", y: str = "y", *, lam: str = "0.0001", n: str = "107.0", p: str = "") -> str:
    """SimAM from x to y; inner names start with p. n : a number, or "" to measure x."""
    size = (
        f"{p}n = Constant <value_float: float = {n}> ()"
        if n
        else f"""{p}hw = Shape <start: int = 2> ({x})
        {p}m = ReduceProd <keepdims: int = 0> ({p}hw)
        {p}one = Constant <value_int: int = 1> ()
        {p}less = Sub ({p}m, {p}one)
        {p}n = Cast <to: int = 1> ({p}less)"""
    )
    return f"""{p}axes = Constant <value_ints: ints = [2, 3]> ()
        {p}lam = Constant <value_float: float = {lam}> ()
        {p}four = Constant <value_float: float = 4.0> ()
        {p}half = Constant <value_float: float = 0.5> ()
        {size}
        {p}mean = ReduceMean <keepdims: int = 1> ({x}, {p}axes)
        {p}c = Sub ({x}, {p}mean)
        {p}d = Mul ({p}c, {p}c)
        {p}s = ReduceSum <keepdims: int = 1> ({p}d, {p}axes)
        {p}v = Div ({p}s, {p}n)
        {p}t = Add ({p}v, {p}lam)
        {p}q = Mul ({p}t, {p}four)
        {p}e = Div ({p}d, {p}q)
        {p}z = Add ({p}e, {p}half)
        {p}g = Sigmoid ({p}z)
        {y} = Mul ({x}, {p}g)
        """


def text(body: str, *functions: str, kind: str = STATIC, outputs: str = "out", inputs: str = "") -> onnx.ModelProto:
    """image -> Conv `x0` -> body -> outputs, of which `out` has x's shape. Nodes are named by their first output."""
    out = ", ".join(f"{kind if name == 'out' else 'float[a,b,c,d]'} {name}" for name in outputs.split())
    model = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": {OPSET}, "local": 1]>
        net ({kind} image{inputs}) => ({out}) {{
        x0 = Conv <kernel_shape: ints = [1, 1]> (image, weight)
        {body}
        }}"""
        + "".join(functions)
    )
    weight = np.random.default_rng(0).standard_normal((3, 3, 1, 1)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "weight"))
    _name(model.graph)
    for function in model.functions:
        for node in function.node:
            node.name = node.output[0]
    return model


def _name(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        node.name = f"{node.op_type}_{node.output[0]}"
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _name(attribute.g)


def function(name: str, body: str, inputs: str = "x", outputs: str = "y", attributes: str = "") -> str:
    """A model-local function of domain `local`."""
    return f"""
    <domain: "local", opset_import: ["": {OPSET}, "local": 1]>
    {name} {attributes} ({inputs}) => ({outputs}) {{
        {body}
    }}"""


def wrap(
    label: str, e_lambda: tuple[float, ...], shapes: tuple[Shape, ...] = BOTH[:1], **how: object
) -> Callable[[Callable[[], onnx.ModelProto]], Callable[[], onnx.ModelProto]]:
    """Put a graph into WRAPPED, by the name of the function that makes it."""

    def put(make: Callable[[], onnx.ModelProto]) -> Callable[[], onnx.ModelProto]:
        name = make.__name__.strip("_")
        assert name not in WRAPPED, name
        WRAPPED[name] = Wrapped(name, label, e_lambda, make, shapes, **how)  # type: ignore[arg-type]
        return make

    return put
