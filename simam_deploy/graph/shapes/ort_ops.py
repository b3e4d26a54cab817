"""Operators that onnx's shape inference does not know, or not within bounds, as far as the shapes behind them go.

Files that ONNX Runtime optimised and saved hold operators that onnx has never heard of; its shape inference stops
there. For that alone, each has a standard operator with the same shapes: the activation that was fused into a
convolution changes none, so the convolution stands for both.
"""

from __future__ import annotations

from collections.abc import Container

import onnx
from onnx import helper

from simam_deploy.formula import OP_DOMAIN, OPS

_SAME = ("Identity", (0,))
_STANDARD: dict[tuple[str, str], tuple[str, tuple[int, ...]]] = {
    **{
        ("com.microsoft", name): _SAME
        for name in (
            *("Gelu", "BiasGelu", "FastGelu", "QuickGelu", "BiasSoftmax", "BiasDropout", "BitmaskDropout"),
            *("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "EmbedLayerNormalization"),
            *("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "GroupNorm", "SkipGroupNorm"),
        )
    },
    **{(OP_DOMAIN, name): _SAME for name in OPS},
    ("com.microsoft", "FusedConv"): ("Conv", (0, 1, 2)),
    ("com.microsoft", "FusedGemm"): ("Gemm", (0, 1, 2)),
    ("com.microsoft", "FusedMatMul"): ("MatMul", (0, 1)),
    ("com.microsoft", "QLinearAdd"): ("Add", (0, 3)),
    ("com.microsoft", "QLinearMul"): ("Mul", (0, 3)),
    ("com.microsoft", "QLinearAveragePool"): ("AveragePool", (0,)),
    ("com.microsoft", "QLinearGlobalAveragePool"): ("GlobalAveragePool", (0,)),
    ("com.microsoft", "QuantizeLinear"): ("QuantizeLinear", (0, 1, 2)),
    ("com.microsoft", "DequantizeLinear"): ("DequantizeLinear", (0, 1, 2)),
    # in blocks of channels: shaped as others, but for ReorderInput, which rounds C up; nothing behind shows it
    ("com.microsoft.nchwc", "Conv"): ("Conv", (0, 1, 2)),
    ("com.microsoft.nchwc", "MaxPool"): ("MaxPool", (0,)),
    ("com.microsoft.nchwc", "AveragePool"): ("AveragePool", (0,)),
    ("com.microsoft.nchwc", "GlobalMaxPool"): ("GlobalMaxPool", (0,)),
    ("com.microsoft.nchwc", "GlobalAveragePool"): ("GlobalAveragePool", (0,)),
    ("com.microsoft.nchwc", "ReorderInput"): _SAME,
    ("com.microsoft.nchwc", "ReorderOutput"): ("Slice", (0,)),
    ("com.microsoft.nchwc", "Upsample"): ("Resize", (0,)),
}
"""The standard operator, and which inputs it takes."""
_OTHER_LAYOUT = ("channels_last", "transBatchA", "transBatchB")
"""Attributes that move axes about."""
_SINCE = {"Resize": 13, "QuantizeLinear": 10, "DequantizeLinear": 10, "MatMul": 12}
"""The opsets from which these are as they are written here; MatMul may be an Einsum. The others always are."""
UNBOUNDED = "Unique"
"""Stands for Range, of which inference would write down all numbers, billions too: one axis of unknown length, and
the type of the first input. It keeps its three inputs, where a true Unique has one."""
Name = tuple[str, str]


def is_range(node: onnx.NodeProto) -> bool:
    """Whether `node` is a Range, or stands for one."""
    return not node.domain and (node.op_type == "Range" or (node.op_type == UNBOUNDED and len(node.input) == 3))


def stand_in(graph: onnx.GraphProto | onnx.FunctionProto, opset: int, bodies: Container[Name] = ()) -> None:
    """Put standard operators of the same shapes in place of others, in this graph alone. What is not known, and what
    has a body in the file, stays. The graph then computes something else: it is for shape inference only."""
    for node in graph.node:
        if is_range(node):
            node.op_type = UNBOUNDED
            continue
        given = {attribute.name: attribute for attribute in node.attribute}
        name, taken = _STANDARD.get((node.domain, node.op_type), ("", ()))
        known = opset >= _SINCE.get(name, 1) and (node.domain, node.op_type) not in bodies
        if not name or not known or any(given[key].i for key in _OTHER_LAYOUT if key in given):
            continue
        schema = onnx.defs.get_schema(name, max(opset, 1)).attributes
        made = onnx.NodeProto(op_type=name, output=node.output[:1])
        made.input.extend(node.input[at] for at in taken if at < len(node.input))
        made.attribute.extend(attribute for key, attribute in given.items() if key in schema)
        if name == "Slice" and opset < 10:
            ends = [given["channels"].i if "channels" in given else 0]
            made.attribute.extend(
                helper.make_attribute(key, held) for key, held in (("starts", [0]), ("ends", ends), ("axes", [1]))
            )
        elif name in ("Slice", "Resize"):
            if isinstance(graph, onnx.FunctionProto):  # it holds no constants
                continue
            _add_constants(graph, made, given)
        elif name == "MatMul" and any(given[key].i for key in ("transA", "transB") if key in given):
            made.op_type = "Einsum"
            left, right = (key in given and given[key].i for key in ("transA", "transB"))
            equation = f"...{'ki' if left else 'ik'},...{'jk' if right else 'kj'}->...ij"
            made.attribute.append(helper.make_attribute("equation", equation))
        node.CopyFrom(made)


def _add_constants(graph: onnx.GraphProto, made: onnx.NodeProto, given: dict[str, onnx.AttributeProto]) -> None:
    """Give a Slice or Resize the inputs for which ONNX Runtime's operator has attributes."""
    held: dict[str, list[int]]
    if made.op_type == "Resize":
        kind = onnx.TensorProto.FLOAT
        held = {"scales": list(given["scales"].ints) if "scales" in given else []}
        made.input.append("")
    else:
        kind = onnx.TensorProto.INT64
        held = {"from": [0], "to": [given["channels"].i if "channels" in given else 0], "axis": [1]}
    for key, values in held.items():
        made.input.append(f"{made.output[0]}/{key}")
        graph.initializer.append(helper.make_tensor(made.input[-1], kind, [len(values)], values))
