"""Cost of a node, from the shapes of its inputs and outputs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import onnx

from simam_deploy.graph.shapes.types import StaticShape

_POOLS = ("AveragePool", "LpPool", "MaxPool")
_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "ConvTranspose": 1, "DeformConv": 1, "QLinearConv": 3}
"""Index of the input that holds the weights."""
_RECURRENT = ("GRU", "LSTM", "RNN")
_MATRICES = {"MatMul": 0, "MatMulInteger": 0, "QLinearMatMul": 0}


def work_of(node: onnx.NodeProto, known: Mapping[str, StaticShape]) -> int:
    """Number of values that a node reads and writes, or of products that it sums, if larger.

    known : shapes by name. A value without a shape counts as one number.
    """
    read = [math.prod(known.get(name, ())) for name in node.input if name]
    made = sum(math.prod(known[name]) for name in node.output if name in known)
    return max(sum(read) + made, *_products(node, known, read, made), 0)


def _products(node: onnx.NodeProto, known: Mapping[str, StaticShape], read: list[int], made: int) -> Iterator[int]:
    kind = node.op_type
    shapes = [known.get(name, ()) for name in node.input]
    if kind in _MATRICES and shapes and shapes[0]:
        yield made * shapes[0][-1]
    elif kind == "Gemm" and len(shapes[0]) == 2:
        yield made * shapes[0][0 if _number(node, "transA") else 1]
    elif kind in _POOLS:
        yield made * math.prod(size for a in node.attribute if a.name == "kernel_shape" for size in a.ints)
    elif kind in _CONVOLUTIONS and len(shapes) > (at := _CONVOLUTIONS[kind]) and shapes[at]:
        yield (read[0] if kind == "ConvTranspose" else made) * math.prod(shapes[at]) // max(shapes[at][0], 1)
    elif kind in _RECURRENT and len(shapes) > 2 and shapes[0]:
        yield math.prod(shapes[0][:-1]) * (math.prod(shapes[1]) + math.prod(shapes[2]))
    elif kind == "Einsum":
        yield _combinations(node, shapes, read, made)


def _combinations(node: onnx.NodeProto, shapes: list[StaticShape], read: list[int], made: int) -> int:
    equation = next((a.s.decode(errors="replace") for a in node.attribute if a.name == "equation"), "")
    if "..." in equation:
        return math.prod(read)
    sizes: dict[str, int] = {}
    for term, shape in zip(equation.partition("->")[0].replace(" ", "").split(","), shapes, strict=False):
        sizes.update(zip(term, shape, strict=False))
    return max(math.prod(sizes.values()), made)


def _number(node: onnx.NodeProto, name: str) -> int:
    return next((a.i for a in node.attribute if a.name == name), 0)
