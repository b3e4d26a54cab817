"""Conversion of an ONNX model to float64."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from simam_deploy.errors import InputError
from simam_deploy.graph.traverse import graphs, tensors

_NARROW = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
NAMES_A_TYPE = ("to", "dtype", "stash_type", "output_dtype", "output_datatype", "softmax_precision", "precision")
"""Attributes of standard operators whose integer is an element type."""
_KEEP_STASH_TYPE = ("LayerNormalization", "RMSNormalization")
"""onnx.reference refuses a stash_type other than float32 in these, and computes in the type of x."""


def widen(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a model with float64 in place of float32, float16 and bfloat16.

    Converts weights, constants, casts and declared types, also in functions and in graphs inside nodes.
    Values stay as stored: a weight rounded to float16 stays rounded, and the float32 attribute e_lambda = 1e-4 is
    9.99999975e-5.
    The result is for onnx.reference alone. Resize's scales and DequantizeLinear have no float64 signature, so other
    runtimes may refuse it. In onnx.reference, AffineGrid and LinearAttention still compute in float32; for Erf,
    graph/evaluator.py has a float64 kernel.
    Raises InputError if weights are in other files (onnx.load reads them), or if a function takes the target type of
    a cast as an attribute.
    """
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for tensor in tensors(wide):
        _widen_tensor(tensor)
    values = [v for g in graphs(wide) for v in (*g.input, *g.output, *g.value_info)]
    values += [v for function in wide.functions for v in function.value_info]
    for value in values:
        _widen_type(value.type)
    _widen_nodes(wide.graph.node, _opset(wide.opset_import))
    for function in wide.functions:
        _widen_nodes(function.node, _opset(function.opset_import))
    return wide


def _opset(imports: Iterable[onnx.OperatorSetIdProto]) -> int:
    return next((o.version for o in imports if o.domain in ("", "ai.onnx")), onnx.defs.onnx_opset_version())


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_location == TensorProto.EXTERNAL:
        raise InputError(f"the values of '{tensor.name}' are in another file; load the model with onnx.load first")
    if tensor.data_type in _NARROW:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))


def _widen_type(kind: onnx.TypeProto) -> None:
    match kind.WhichOneof("value"):
        case "tensor_type" if kind.tensor_type.elem_type in _NARROW:
            kind.tensor_type.elem_type = TensorProto.DOUBLE
        case "sparse_tensor_type" if kind.sparse_tensor_type.elem_type in _NARROW:
            kind.sparse_tensor_type.elem_type = TensorProto.DOUBLE
        case "sequence_type":
            _widen_type(kind.sequence_type.elem_type)
        case "optional_type":
            _widen_type(kind.optional_type.elem_type)
        case "map_type":
            _widen_type(kind.map_type.value_type)


def _widen_nodes(nodes: Any, opset: int) -> None:
    """nodes : a repeated field of NodeProto, changed in place."""
    for i in reversed(range(len(nodes))):
        node = nodes[i]
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                _widen_nodes(inner.node, opset)
        if node.domain in ("", "ai.onnx"):
            _widen_type_attributes(node, opset)
            if node.op_type == "Constant" and (cast := _widen_constant(node)):
                nodes.insert(i + 1, cast)


def _widen_type_attributes(node: onnx.NodeProto, opset: int) -> None:
    if node.op_type in _KEEP_STASH_TYPE:
        return
    given = {attribute.name: attribute for attribute in node.attribute}
    for name in NAMES_A_TYPE:
        if name in given and given[name].ref_attr_name:
            raise InputError(
                f"'{node.name or node.output[0]}' ({node.op_type}) takes its type from attribute "
                f"'{given[name].ref_attr_name}' of a function; inline the functions (onnx.inliner) first"
            )
        if name in given and given[name].i in _NARROW:
            given[name].i = TensorProto.DOUBLE
    if node.op_type == "ConstantOfShape" and not given:
        node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1))))
    if onnx.defs.has(node.op_type):
        for name, attribute in onnx.defs.get_schema(node.op_type, opset).attributes.items():
            if name in NAMES_A_TYPE and name not in given and attribute.default_value.i in _NARROW:
                node.attribute.append(helper.make_attribute(name, TensorProto.DOUBLE))


def _widen_constant(node: onnx.NodeProto) -> onnx.NodeProto | None:
    """Make `node` a float64 constant. If its value is an attribute of the function, returns a Cast to insert."""
    attribute = node.attribute[0]
    if attribute.name not in ("value_float", "value_floats"):
        return None
    if attribute.ref_attr_name:
        name = node.output[0]
        node.output[0] = f"{name}_before_widening"
        return helper.make_node("Cast", [node.output[0]], [name], to=TensorProto.DOUBLE)
    value = numpy_helper.from_array(np.array(helper.get_attribute_value(attribute), dtype=np.float64))
    attribute.CopyFrom(helper.make_attribute("value", value))
    return None
