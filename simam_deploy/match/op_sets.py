"""The standard ONNX operators that may stand in a SimAM block, by what they can do to data."""

from __future__ import annotations

import onnx_ir as ir


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


STATISTICS = _names(
    """AveragePool Einsum GlobalAveragePool GroupNormalization InstanceNormalization LayerNormalization MatMul
    MeanVarianceNormalization ReduceL1 ReduceL2 ReduceMean ReduceSum ReduceSumSquare"""
)
"""These gather a plane into a number."""
GATES = _names("Exp HardSigmoid Sigmoid Softplus Tanh")
"""A sigmoid in any spelling has one of these."""
ELEMENTWISE = _names(
    """Abs Add Cast CastLike Div Exp Identity Log Mul Neg Pow Reciprocal Sigmoid Softplus Sqrt Sub Sum Tanh"""
)
SHAPING = _names("Expand Flatten Reshape Squeeze Tile Transpose Unsqueeze")
PICKING = _names("Concat Gather Slice Split")
"""These may treat one channel or position unlike another."""
REGROUPING = _names("Flatten Reshape Tile Transpose")
"""These may mix channels or batch elements, in groups that a small probe does not have."""
TWO_SIDED = _names("Clip Greater LeakyRelu Less Max Min Relu Where")
"""These treat data in one of two ways, or as it is between two bounds; a probe shows both, or cannot be trusted."""
PIECEWISE = TWO_SIDED | _names("Ceil Equal Floor HardSigmoid MaxPool Mod ReduceMax ReduceMin Round Sign")
"""These may change what is computed where no probe looks."""
NORMALIZATIONS = _names("GroupNormalization InstanceNormalization LayerNormalization")
"""With a scale and a bias, which are learned or trivial."""
PASSING = _names("Cast CastLike Flatten Identity Reshape Squeeze Transpose Unsqueeze")
"""These hand data on in another type or shape: a pair of them may stand around a block and belong to it."""
KEEPING_RANK = _names("BatchNormalization Clip Concat Dropout HardSigmoid HardSwish LeakyRelu PRelu Relu Resize Selu")
"""Besides those that are elementwise."""
MEASURES = _names("Shape Size")
IN_INFERENCE = _names("Dropout")
"""These do nothing in inference, and something random in training."""
KNOWN = STATISTICS | GATES | ELEMENTWISE | SHAPING | PICKING | PIECEWISE | IN_INFERENCE
ON_SIZES = _names(
    """Abs Add And Cast CastLike Ceil Clip Concat Constant ConstantOfShape Div Equal Expand Flatten Floor Gather Gemm
    Greater GreaterOrEqual Identity Less LessOrEqual Max Min Mod Mul Neg Not Or Pow Range Reciprocal ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum Reshape Round Slice Split Sqrt Squeeze Sub Sum Tile Transpose Unsqueeze
    Where"""
)
"""What exporters compute sizes with, and constants of them."""

UNEVEN = _names(
    """And Ceil Equal Floor Greater GreaterOrEqual Less LessOrEqual Min Mod Not Or ReduceMax ReduceMin Round Where"""
)
"""On sizes, these may give another number at a size that is not tried. Max is not among them: max(n, 1) is common."""

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
WIDE_INTEGERS = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)


def cast_to(node: ir.Node) -> ir.DataType | None:
    """The type that a Cast gives, or a CastLike where its second input says; None for other nodes, and if unknown."""
    if node.op_type == "CastLike" and len(node.inputs) > 1 and node.inputs[1] is not None:
        like = node.inputs[1]
        before = like.producer()
        if before is not None and before.op_type in ("Cast", "CastLike"):
            return cast_to(before)
        return like.dtype if like.const_value is None else like.const_value.dtype
    to = node.attributes.get("to") if node.op_type == "Cast" else None
    return None if to is None or to.is_ref() else ir.DataType(to.as_int())
