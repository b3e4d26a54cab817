"""The float32 model that is quantised: SimAM as one node, BatchNormalization in the convolution, all else in place.

The quantiser puts rounding between any two nodes that it knows. So SimAM and its epilogue are one node that it does
not know, and what is no function of ours is inlined, as it does not look into functions.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import RemoveInitializersFromInputsPass

from simam_deploy.errors import InputError, NoBlockError, RuntimeUnavailable
from simam_deploy.graph import onnx_file
from simam_deploy.graph.onnx_file import constants
from simam_deploy.match.quantised import is_quantised
from simam_deploy.precision.flat import flatten
from simam_deploy.rewrite.fuse import fuse
from simam_deploy.text import counted

LEAST_OPSET = 13
"""The first opset whose DequantizeLinear has a scale for each channel."""


@dataclass(frozen=True)
class Prepared:
    """model : a model of its own.  notes : for the user."""

    model: ir.Model
    notes: tuple[str, ...]


def prepare(model: ir.Model) -> Prepared:
    """Prepare a float32 model for the quantiser. Does not change `model`.

    Raises InputError for a model that is quantised or half already, of an opset before 13, or with a function that
    cannot be inlined; FormError as `fuse`.
    """
    _refuse(model)
    model = model.clone()
    notes = flatten(model)
    if listed := sum(value.is_initializer() for value in model.graph.inputs):
        notes.append(f"{counted(listed, 'weight')} that could be fed as an input can no longer")
        RemoveInitializersFromInputsPass()(model)
    try:
        fused = fuse(model, "function", epilogue=True)
        model, notes = fused.model, [*notes, *fused.notes]
    except NoBlockError:
        notes.append("no SimAM block was found in it")
    constants.lift(model)
    _fold_betas(model)
    folded = _fold_batch_norms(model)
    if folded:
        notes.append(f"{counted(folded, 'BatchNormalization')} folded into the convolution or Gemm in front")
    return Prepared(model, tuple(notes))


def _refuse(model: ir.Model) -> None:
    if is_quantised(model):
        raise InputError(
            "the file is quantised already (it holds QuantizeLinear or DequantizeLinear); "
            "quantise the float32 file that it was made from"
        )
    if half := onnx_file.half_types(model):
        raise InputError(
            f"the file holds {', '.join(half)}; int8 is made of the float32 file that it was converted from"
        )
    opset = model.opset_imports.get("", 0)
    if opset < LEAST_OPSET:
        raise InputError(
            f"the file is of opset {opset}, and int8 with a scale for each channel needs {LEAST_OPSET}; "
            f"export it with opset {LEAST_OPSET} or later, or raise it with onnx.version_converter"
        )


def _fold_betas(model: ir.Model) -> None:
    """Multiply the bias of each Gemm by its beta. The quantiser of ONNX Runtime 1.32 loses a beta that is not 1."""
    for node in model.graph:
        bias = node.inputs[2] if node.op_type == "Gemm" and not node.domain and len(node.inputs) > 2 else None
        if bias is None or bias.const_value is None or not bias.is_initializer() or "beta" not in node.attributes:
            continue
        held = bias.const_value.numpy()
        name = f"{bias.name}_times_beta_of_{node.outputs[0].name}"
        tensor = ir.tensor((held * node.attributes["beta"].as_float()).astype(held.dtype), name=name)
        value = ir.Value(name=name, const_value=tensor)
        model.graph.register_initializer(value)
        node.replace_input_with(2, value)
        del node.attributes["beta"]
        if not bias.uses() and not bias.is_graph_output():
            del model.graph.initializers[str(bias.name)]


def _fold_batch_norms(model: ir.Model) -> int:
    """Fold each BatchNormalization into the layer in front of it. Returns their number."""
    if not _count(model):
        return 0
    try:
        from onnxscript.rewriter import rewrite
        from onnxscript.rewriter.rules import common as rules
    except ImportError as error:
        raise RuntimeUnavailable(
            f"int8 needs onnxscript to fold BatchNormalization, and it cannot be imported: {error}\n"
            'pip install "simam-deploy[quantise]"'
        ) from error
    before = _count(model)
    names = {node: node.name for node in model.graph}
    layers = {_weight(node): node.name for node in model.graph if node.op_type != "BatchNormalization"}
    folding = (
        rules.fuse_batchnorm_into_conv_rule,
        rules.fuse_batchnorm_into_conv_transpose_rule,
        rules.fuse_batchnorm_into_gemm_rule,
    )
    rewrite(model, pattern_rewrite_rules=folding)
    for node in model.graph:  # the rules make new nodes, with names of their own
        node.name = names.get(node, layers.get(_weight(node)))
    return before - _count(model)


def _count(model: ir.Model) -> int:
    return sum(node.op_type == "BatchNormalization" and not node.domain for node in model.graph)


def _weight(node: ir.Node) -> str | None:
    value = node.inputs[1] if len(node.inputs) > 1 else None
    return value.name if value is not None and value.is_initializer() else None
