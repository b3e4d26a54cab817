"""A model in a later opset, with the fallback definitions of our operators."""

from __future__ import annotations

import onnx
import onnx.version_converter
import onnx_ir as ir

from simam_deploy.errors import InputError
from simam_deploy.formula import OP_DOMAIN
from simam_deploy.graph.onnx_file import constants
from simam_deploy.graph.onnx_file.external import in_memory
from simam_deploy.rewrite.forms import function as form

LARGEST = 1024
"""Bytes of a constant that the converter may read: axes, sizes, limits."""
OVERLOOKED = {"Scan": 9, "GroupNormalization": 21}
"""Operators that changed in this opset. The converter of onnx 1.23 leaves them as they are."""
RESIZE = 11
"""Resize got coordinate_transformation_mode, whose default is not what it did before. The converter leaves it out."""


def raise_opset(model: ir.Model, opset: int) -> ir.Model:
    """`model` in `opset`, by the converter of onnx; the model itself if it is not older.

    Its functions are ours alone. The converter drops them, so they are written anew. It sees no large weights, which
    may be in other files or exceed a message.
    Raises InputError if an operator cannot be converted.
    """
    before = model.opset_imports.get("", opset)
    if before >= opset:
        return model
    try:
        raised, weights = _converted(model, before, opset)
    except Exception as error:  # it raises several types
        raise InputError(
            f"opset {before} is too old, and onnx cannot raise it to {opset}: {error}\n"
            f"export the model anew with --opset {opset}"
        ) from error
    constants.replace(raised, lambda t: weights[int(str(t.location))] if isinstance(t, ir.ExternalTensor) else t)
    if before < RESIZE:
        _as_before(raised)
    _copy_metadata(model, raised)
    ops = sorted({name for domain, name, _ in model.functions if domain == OP_DOMAIN})
    for function in form.functions(opset, ops, {ir.DataType.FLOAT}):
        raised.functions[function.identifier()] = function
    raised.ir_version = max(raised.ir_version, model.ir_version)
    return raised


def _converted(model: ir.Model, before: int, opset: int) -> tuple[ir.Model, list[ir.TensorProtocol]]:
    """The model with an external tensor for each large weight, and the weights. Locations are indices."""
    for node in model.graph.all_nodes():
        if not node.domain and before < OVERLOOKED.get(node.op_type, 0) <= opset:
            raise ValueError(f"{node.op_type} is another operator since opset {OVERLOOKED[node.op_type]}")
    weights: list[ir.TensorProtocol] = []

    def light(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        if tensor.nbytes <= LARGEST:
            return in_memory(tensor) if isinstance(tensor, ir.ExternalTensor) else tensor
        weights.append(tensor)
        place, shape = str(len(weights) - 1), ir.Shape(tensor.shape.numpy())
        return ir.ExternalTensor(place, 0, tensor.nbytes, tensor.dtype, shape=shape, name=tensor.name or "")

    copy = model.clone()
    constants.replace(copy, light)
    return ir.from_proto(onnx.version_converter.convert_version(ir.to_proto(copy), opset)), weights


def _as_before(model: ir.Model) -> None:
    """Let each Resize compute positions as before opset 11."""
    for node in model.graph.all_nodes():
        if node.op_type == "Resize" and not node.domain:
            node.attributes["coordinate_transformation_mode"] = ir.AttrString(
                "coordinate_transformation_mode", "asymmetric"
            )
            node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", "floor")


def _copy_metadata(model: ir.Model, raised: ir.Model) -> None:
    """The converter keeps the names of nodes and values, and drops the metadata of nodes and graphs."""
    raised.graph.metadata_props.update(model.graph.metadata_props)
    known = {value.name: node for node in model.graph.all_nodes() for value in node.outputs}
    for node in raised.graph.all_nodes():
        for value in node.outputs:
            if value.name in known and known[value.name].op_type == node.op_type:
                node.metadata_props.update(known[value.name].metadata_props)
