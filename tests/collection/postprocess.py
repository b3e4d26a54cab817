"""What the field runs on a file before it ships it: simplifiers, optimisers, converters; model -> model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx import ModelProto


def slimmed(model: ModelProto) -> ModelProto:
    import onnxslim

    return onnxslim.slim(model)


def simplified(model: ModelProto) -> ModelProto:
    import onnxsim

    result, ok = onnxsim.simplify(model)
    assert ok
    return result


def _optimised(model: ModelProto, level: str) -> ModelProto:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def ort_basic(model: ModelProto) -> ModelProto:
    return _optimised(model, "ORT_ENABLE_BASIC")


def ort_extended(model: ModelProto) -> ModelProto:
    """May use ONNX Runtime's own operators (com.microsoft)."""
    return _optimised(model, "ORT_ENABLE_EXTENDED")


def _float16(model: ModelProto, **how: object) -> ModelProto:
    from onnxconverter_common import float16

    return float16.convert_float_to_float16(_copy(model), **how)


def float16_plain(model: ModelProto) -> ModelProto:
    """Clips constants at 1e4, the default: H*W - 1 of a map of 104x104 too."""
    return _float16(model)


def float16_keep_io(model: ModelProto) -> ModelProto:
    return _float16(model, keep_io_types=True, max_finite_val=65504)


def float16_but_reductions(model: ModelProto) -> ModelProto:
    """Reductions, powers and divisions stay in float32, between casts."""
    from onnxconverter_common import float16

    kept = ["ReduceMean", "ReduceSum", "Pow", "Div", "Sub", "InstanceNormalization", "LayerNormalization"]
    return _float16(model, op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, *kept])


def float16_but_sums(model: ModelProto) -> ModelProto:
    """Casts in the middle of the block."""
    from onnxconverter_common import float16

    return _float16(model, op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, "ReduceMean", "ReduceSum"])


def raised(model: ModelProto) -> ModelProto:
    """The next opsets, by onnx's own converter."""
    now = next(o.version for o in model.opset_import if not o.domain)
    return onnx.version_converter.convert_version(model, 13 if now < 13 else 20 if now < 20 else 21)


def inlined(model: ModelProto) -> ModelProto:
    import onnx.inliner

    return onnx.inliner.inline_local_functions(model)


def folded(model: ModelProto) -> ModelProto:
    import onnxscript.optimizer

    return onnxscript.optimizer.optimize(_copy(model))


def shared_subexpressions(model: ModelProto) -> ModelProto:
    """onnx_ir's passes: equal computations merged, identities removed, constants lifted, names mended."""
    from onnx_ir.passes import common

    result = ir.from_proto(model)
    for make in (
        common.CommonSubexpressionEliminationPass,
        common.IdentityEliminationPass,
        common.LiftConstantsToInitializersPass,
        common.DeduplicateInitializersPass,
        common.NameFixPass,
    ):
        result = make()(result).model
    return ir.to_proto(result)


def without_names(model: ModelProto) -> ModelProto:
    """Nodes without names, no shapes of inner values."""
    result = _copy(model)
    for node in result.graph.node:
        node.name = ""
    del result.graph.value_info[:]
    return result


def without_shapes(model: ModelProto) -> ModelProto:
    """Inputs and outputs of unknown size as well (the rank stays)."""
    result = without_names(model)
    for value in (*result.graph.input, *result.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            dim.Clear()
    return result


def inferred(model: ModelProto) -> ModelProto:
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def renamed(model: ModelProto) -> ModelProto:
    """Every value named by a number, as obfuscators and old exporters do."""
    result = _copy(model)
    names = {v.name: v.name for v in (*result.graph.input, *result.graph.output)}
    for node in result.graph.node:
        if any(a.HasField("g") for a in node.attribute):
            return result
    for tensor in result.graph.initializer:
        tensor.name = names.setdefault(tensor.name, str(len(names)))
    for node in result.graph.node:
        for values in (node.input, node.output):
            values[:] = [names.setdefault(v, str(len(names))) if v else "" for v in values]
    del result.graph.value_info[:]
    return result


def _copy(model: ModelProto) -> ModelProto:
    result = ModelProto()
    result.CopyFrom(model)
    return result


POSTS: dict[str, Callable[[ModelProto], ModelProto]] = {
    post.__name__: post
    for post in (
        slimmed, simplified, ort_basic, ort_extended, float16_plain, float16_keep_io, float16_but_reductions,
        float16_but_sums, raised, inlined, folded, shared_subexpressions, without_names, without_shapes, inferred,
        renamed,
    )
}  # fmt: skip
