"""Standard ONNX operators that a SimAM block may hold, by their effect on data."""

from __future__ import annotations

import onnx_ir as ir

from simam_deploy.graph.number_types import UP_TO_32_BITS


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


STATISTICS = _names(
    """AveragePool Einsum GlobalAveragePool GroupNormalization InstanceNormalization LayerNormalization MatMul
    MeanVarianceNormalization ReduceL1 ReduceL2 ReduceMean ReduceSum ReduceSumSquare"""
)
"""Reductions of a plane to one number."""
GATES = _names("Exp HardSigmoid Sigmoid Softplus Tanh")
"""Every spelling of a sigmoid has one of these."""
ELEMENTWISE = _names(
    """Abs Add Cast CastLike Div Exp Identity Log Mul Neg Pow Reciprocal Sigmoid Softplus Sqrt Sub Sum Tanh"""
)
SHAPING = _names("Expand Flatten Reshape Squeeze Tile Transpose Unsqueeze")
PICKING = _names("Concat Gather Slice Split")
"""These may treat one channel or position differently from another."""
REGROUPING = _names("Flatten Reshape Tile Transpose")
"""These may mix channels or batch elements, in groups that a small probe does not show."""
TWO_SIDED = _names("Clip Greater LeakyRelu Less Max Min Relu Where")
"""Operators with two branches on data. A check is valid only if its probes reach both branches."""
PIECEWISE = TWO_SIDED | _names("Ceil Equal Floor HardSigmoid MaxPool Mod ReduceMax ReduceMin Round Sign")
"""Operators that may compute a different function outside the probes."""
NORMALIZATIONS = _names("GroupNormalization InstanceNormalization LayerNormalization")
"""With a scale and a bias, learned or trivial."""
PASSING = _names("Cast CastLike Flatten Identity Reshape Squeeze Transpose Unsqueeze")
"""Changes of type or shape alone. A pair of them around a block may belong to it."""
KEEPING_RANK = _names("BatchNormalization Clip Concat Dropout HardSigmoid HardSwish LeakyRelu PRelu Relu Resize Selu")
"""Operators that keep the rank, besides the elementwise ones."""
MEASURES = _names("Shape Size")
IN_INFERENCE = _names("Dropout")
"""No effect in inference, random in training."""
KNOWN = STATISTICS | GATES | ELEMENTWISE | SHAPING | PICKING | PIECEWISE | IN_INFERENCE
ON_SIZES = _names(
    """Abs Add And Cast CastLike Ceil Clip Concat Constant ConstantOfShape Div Equal Expand Flatten Floor Gather Gemm
    Greater GreaterOrEqual Identity Less LessOrEqual Max Min Mod Mul Neg Not Or Pow Range Reciprocal ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum Reshape Round Slice Split Sqrt Squeeze Sub Sum Tile Transpose Unsqueeze
    Where"""
)
"""Operators with which exporters compute sizes, and constants from sizes."""

UNEVEN = _names(
    """And Ceil Equal Floor Greater GreaterOrEqual Less LessOrEqual Min Mod Not Or ReduceMax ReduceMin Round Where"""
)
"""On sizes, these may give a different number at a size without a probe. Max is left out: max(n, 1) is common."""

FLOATS = (*UP_TO_32_BITS, ir.DataType.DOUBLE)
WIDE_INTEGERS = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)


def cast_to(node: ir.Node) -> ir.DataType | None:
    """The target type of a Cast or CastLike; None for other nodes, and if unknown."""
    if node.op_type == "CastLike" and len(node.inputs) > 1 and node.inputs[1] is not None:
        like = node.inputs[1]
        before = like.producer()
        if before is not None and before.op_type in ("Cast", "CastLike"):
            return cast_to(before)
        return like.dtype if like.const_value is None else like.const_value.dtype
    to = node.attributes.get("to") if node.op_type == "Cast" else None
    return None if to is None or to.is_ref() else ir.DataType(to.as_int())
