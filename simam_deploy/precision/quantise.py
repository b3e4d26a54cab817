"""int8: a float32 model -> the same model with QuantizeLinear and DequantizeLinear around its layers.

    calibration = calibrate(model, samples)
    cpu, tensorrt = (quantise(calibration, target) for target in ("cpu", "tensorrt"))

ONNX Runtime's quantiser places the pairs; a Preset says where and of which type. SimAM with its epilogue is one
node of ours, which it does not know: it stays whole, in float32.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import logging
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import onnx
import onnx_ir as ir

from simam_deploy.errors import InputError, NoBlockError
from simam_deploy.precision.calibrate import INFERRED, Calibration
from simam_deploy.precision.int8_nodes import with_int8_nodes
from simam_deploy.precision.quantised import DQ, LayerRow, Q, Quantised
from simam_deploy.precision.targets import LAYERS, TARGETS, Preset
from simam_deploy.rewrite.fuse import fuse
from simam_deploy.text import counted

INSIDE = "it is in the body of an If, Loop or Scan"
NONE: Mapping[str, str] = {}
NO_RANGE = "its inputs and outputs are not float32, or of unknown type"


def quantise(
    calibration: Calibration, target: str = "cpu", *, keep_float: Mapping[str, str] = NONE, only: str | None = None
) -> Quantised:
    """Quantise a calibrated model. Does not change `calibration`.

    target : a name in TARGETS.  keep_float : name of a node -> why it stays float32.  only : the one layer.
    Raises InputError for an unknown target or node.
    """
    if target not in TARGETS:
        raise InputError(f"int8 is made for {', '.join(TARGETS)}; asked for {target!r}")
    preset, names = TARGETS[target], calibration.names
    kept = {_plain(calibration, name): reason for name, reason in keep_float.items()}
    chosen = None if only is None else _plain(calibration, only)
    reasons = {**_unfit(calibration, preset), **kept}
    left = {*reasons, *_among_floats(calibration, preset, reasons)}
    if chosen is not None:
        left |= {node.name for node in calibration.model.graph.node} - {chosen}
    proto = _with_pairs(calibration, preset, left)
    _tidy(proto, calibration.model)
    model = ir.from_proto(proto)
    model.graph.sort()
    _read_floats(model, {*preset.layers, *preset.around}, left)
    rows = _rows(model, reasons, chosen)
    names.take_back(model)
    notes = [*calibration.notes, *preset.notes, *(with_int8_nodes(model) if preset.simam else [])]
    q, dq = (sum(n.op_type == op and not n.domain for n in model.graph.all_nodes()) for op in (Q, DQ))
    if inside := sum(1 for row in rows if row.reason == INSIDE):
        notes.append(f"{counted(inside, 'layer')} in the bodies of If, Loop and Scan stay float32")
    if preset.form != "function":
        with contextlib.suppress(NoBlockError):
            model = fuse(model, preset.form).model
    rows = [LayerRow(names.nodes[row.node], row.op, row.reason) for row in rows]
    return Quantised(model, target, calibration.method, calibration.samples, tuple(rows), q, dq, tuple(notes))


def _plain(calibration: Calibration, name: str) -> str:
    """Plain name of a node of the user. Raises InputError."""
    plain = calibration.names.plain(name)
    if plain is None:
        held = [*calibration.names.nodes.values()]
        near = difflib.get_close_matches(name, held, n=3) or held[:3]
        raise InputError(f"no node has the name {name!r}; there are {', '.join(map(repr, near))}, ...")
    return plain


def _unfit(calibration: Calibration, preset: Preset) -> dict[str, str]:
    """Reasons against rounding around nodes of the graph, by plain name."""
    model, own = calibration.model, calibration.names.values
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    broken = {name for name, pair in calibration.ranges.items() if not np.isfinite(pair).all()}
    broken |= {name for name, tensor in weights.items() if not _is_finite(tensor)}
    reasons = {}
    for node in model.graph.node:
        touched = [name for name in (*node.input, *node.output) if name in broken]
        if node.domain not in ("", "ai.onnx"):
            reasons[node.name] = f"it is of the domain {node.domain}"  # the quantiser goes by the operator alone
        elif touched and touched[0] in weights:
            reasons[node.name] = f"its weight {own[touched[0]]!r} holds NaN or infinity"
        elif touched:
            reasons[node.name] = f"{own[touched[0]]!r} becomes NaN or infinite on the samples"
        elif node.op_type in LAYERS and (reason := _unfit_layer(node, calibration, preset, weights)):
            reasons[node.name] = reason
    return reasons


def _unfit_layer(
    node: onnx.NodeProto, calibration: Calibration, preset: Preset, weights: Mapping[str, onnx.TensorProto]
) -> str:
    if node.op_type not in preset.layers:
        return f"{node.op_type} has no integer kernel there"
    if not {node.input[0], node.output[0]} <= {*calibration.ranges, *weights}:
        return NO_RANGE
    if preset.bias and any(name and name not in weights for name in node.input[2:]):
        return "its bias is no constant, which int32 needs"
    if preset.bias and node.op_type == "Gemm" and {*node.input[1:]} <= {*weights}:
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        outputs = weights[node.input[1]].dims[0 if transposed else 1]
        if any(list(weights[bias].dims) != [outputs] for bias in node.input[2:]):
            return f"its bias is no vector of {outputs} numbers, which int32 needs"
    return ""


def _among_floats(calibration: Calibration, preset: Preset, reasons: Collection[str]) -> list[str]:
    """Nodes around layers that gain nothing from integers. By plain name.

    Such a node reads what is float anyway, or no layer reads what comes of it: at the end of a detector, one scale
    for boxes and scores would leave nothing of the scores. An activation goes with the layer in front.
    """
    nodes = calibration.model.graph.node
    layers = [node for node in nodes if node.op_type in LAYERS and node.name not in reasons]
    behind = {name for node in layers for name in node.output if node.op_type in preset.behind}
    wanted = {name for node in layers for name in node.input}
    rounded = behind | wanted
    around = [node for node in nodes if node.op_type in preset.around and node.name not in reasons]
    joined = set()
    for node in around:
        given = {name for name in node.input if name in calibration.ranges}
        if given and given <= rounded:
            rounded.update(node.output)
            joined.add(node.name)
    for node in reversed(around):
        if wanted.isdisjoint(node.output) and not (node.op_type in ("Relu", "Clip") and node.input[0] in behind):
            joined.discard(node.name)
        elif node.name in joined:
            wanted.update(node.input)
    return [node.name for node in nodes if node.op_type in preset.around and node.name not in joined]


def _is_finite(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type != onnx.TensorProto.FLOAT:
        return True
    return bool(np.isfinite(onnx.numpy_helper.to_array(tensor)).all())


def _with_pairs(calibration: Calibration, preset: Preset, left: Collection[str]) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import TensorData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    ranges = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in calibration.ranges.items()
        if np.isfinite((low, high)).all()
    }
    quantiser = QDQQuantizer(
        copy.deepcopy(calibration.model),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8 if preset.signed else QuantType.QUInt8,
        tensors_range=ranges,
        nodes_to_quantize=[],
        nodes_to_exclude=[*left],
        op_types_to_quantize=[*preset.layers, *preset.around],
        extra_options={
            "ActivationSymmetric": preset.signed,
            "QuantizeBias": preset.bias,
            "QDQDisableWeightAdjustForInt32Bias": not preset.bias,
            "OpTypesToExcludeOutputQuantization": [op for op in LAYERS if op not in preset.behind],
        },
    )
    with _quiet():
        made: onnx.ModelProto = quantiser.quantize_model()
    return made


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser's warnings off the root logger. They name values as they are in the copy."""

    def of_others(record: logging.LogRecord) -> bool:
        return "onnxruntime" not in record.pathname

    root = logging.getLogger()
    root.addFilter(of_others)
    try:
        yield
    finally:
        root.removeFilter(of_others)


def _tidy(made: onnx.ModelProto, source: onnx.ModelProto) -> None:
    """Take the marks of the quantiser off, and of its shape inference."""
    made.producer_name, made.producer_version = source.producer_name, source.producer_version
    kept = [entry for entry in source.metadata_props if entry.key != INFERRED]
    del made.metadata_props[:]
    made.metadata_props.extend(kept)


def _read_floats(model: ir.Model, rounded: Collection[str], left: Collection[str]) -> None:
    """Let float nodes read what float nodes made without rounding.

    The quantiser rounds a value for all that read it, so also the shortcut from one SimAM to the next. An integer
    layer has no float result, so its readers keep the pair behind it.
    """

    def is_float(node: ir.Node | None) -> bool:
        return node is None or node.op_type not in rounded or node.name in left

    for node in list(model.graph):
        rounding = node.inputs[0].producer() if node.op_type == DQ and node.inputs[0] is not None else None
        source = rounding.inputs[0] if rounding is not None and rounding.op_type == Q else None
        if source is None or not is_float(source.producer()):
            continue
        for user, index in list(node.outputs[0].uses()):
            if is_float(user) and user.op_type not in (Q, DQ):
                user.replace_input_with(index, source)
        if not node.outputs[0].uses() and not node.outputs[0].is_graph_output():
            model.graph.remove(node, safe=True)
            if rounding is not None and not rounding.outputs[0].uses():
                model.graph.remove(rounding, safe=True)


def _rows(model: ir.Model, reasons: dict[str, str], chosen: str | None) -> list[LayerRow]:
    """A row for each layer, by plain names."""
    rows = []
    for node in model.graph.all_nodes():
        if node.op_type not in LAYERS or node.domain:
            continue
        name = str(node.name)
        made = [v.producer() for v in node.inputs[:2] if v is not None]
        integer = all(before is not None and before.op_type == DQ for before in made)
        if node.graph is not model.graph:
            reason = INSIDE
        elif chosen not in (None, name):
            reason = "another one is asked for alone"
        else:
            reason = "" if integer else reasons.get(name, NO_RANGE)
        rows.append(LayerRow(name, node.op_type, reason))
    return rows
