"""A model in a later opset, with the fallback definitions of our operators."""

from __future__ import annotations

import onnx
import onnx.version_converter
import onnx_ir as ir

from simam_deploy.errors import InputError
from simam_deploy.formula import OP_DOMAIN
from simam_deploy.graph import onnx_file
from simam_deploy.rewrite.forms import function as form


def raise_opset(model: ir.Model, opset: int) -> ir.Model:
    """`model` in `opset`, by the converter of onnx; the model itself if it is not older.

    Its functions are ours alone. The converter drops them, so they are written anew.
    Raises InputError if the converter refuses an operator, or if the weights exceed the 2 GiB of a message.
    """
    before = model.opset_imports[""]
    if before >= opset:
        return model
    if onnx_file.weight_bytes(model) > onnx_file.PROTOBUF_LIMIT:
        raise InputError(
            f"opset {before} is too old, and onnx converts no model above 2 GiB; export it with --opset {opset}"
        )
    ops = sorted({name for domain, name, _ in model.functions if domain == OP_DOMAIN})
    try:
        converted = onnx.version_converter.convert_version(ir.to_proto(model), opset)
    except Exception as error:  # it raises several types
        raise InputError(
            f"opset {before} is too old, and onnx cannot raise it to {opset}: {error}\n"
            f"export the model anew with --opset {opset}"
        ) from error
    raised = ir.from_proto(converted)
    for function in form.functions(opset, ops, {ir.DataType.FLOAT}):
        raised.functions[function.identifier()] = function
    raised.ir_version = max(raised.ir_version, model.ir_version)
    return raised
