"""Standard operators that replace others for shape inference.

Files that ONNX Runtime optimised and saved hold operators that onnx does not know, and its shape inference stops
there. For inference alone, each is replaced by a standard operator with the same output shapes. A convolution with a
fused activation becomes the convolution.
"""

from __future__ import annotations

from collections.abc import Container

import onnx
from onnx import helper

from simam_deploy.formula import INT8_DOMAIN, OP_DOMAIN, OPS

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
    **{(domain, name): _SAME for domain in (OP_DOMAIN, INT8_DOMAIN) for name in OPS},
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
"""The standard operator, and the indices of the inputs that it keeps."""
_OTHER_LAYOUT = ("channels_last", "transBatchA", "transBatchB")
"""Attributes that permute axes."""
_SINCE = {"Resize": 13, "QuantizeLinear": 10, "DequantizeLinear": 10, "MatMul": 12}
"""First opset of these operators in the form used here. MatMul may become an Einsum. The others have no limit."""
UNBOUNDED = "Unique"
"""Replaces Range, for which inference would write out all numbers, billions too. Its output has one axis of unknown
length and the type of the first input. It keeps three inputs; a true Unique has one."""
Name = tuple[str, str]


def is_range(node: onnx.NodeProto) -> bool:
    """Whether `node` is a Range, or its replacement."""
    return not node.domain and (node.op_type == "Range" or (node.op_type == UNBOUNDED and len(node.input) == 3))


def stand_in(graph: onnx.GraphProto | onnx.FunctionProto, opset: int, bodies: Container[Name] = ()) -> None:
    """Replace operators by standard ones with the same output shapes, in this graph alone.

    Unknown operators and calls of functions stay. The result is for shape inference only: it computes other values.
    """
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
    """Add the inputs of Slice or Resize that are attributes in ONNX Runtime's operator."""
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
