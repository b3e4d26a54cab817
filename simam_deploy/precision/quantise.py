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
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from simam_deploy.errors import InputError, NoBlockError
from simam_deploy.precision.calibrate import CALIBRATED, INFERRED, Calibration
from simam_deploy.rewrite.fuse import fuse
from simam_deploy.runtimes.session import framework
from simam_deploy.text import as_table, counted, on_lines

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that are worth integers: they do most of the work."""
INSIDE = "it is in the body of an If, Loop or Scan"
Q, DQ = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True)
class Preset:
    """How to quantise for one target.

    signed   : activations are int8 with zero point 0, instead of uint8 with any.
    around   : operators that get rounding, besides LAYERS.
    behind   : whether the outputs of LAYERS are rounded. ONNX Runtime has no integer Conv otherwise.
    bias     : whether the bias is int32, with the scales of input and weight.
    form     : of SimAM in the result.
    """

    signed: bool
    around: frozenset[str]
    behind: bool
    bias: bool
    form: str = "function"


TARGETS = {
    "cpu": Preset(signed=False, around=CALIBRATED, behind=True, bias=True),
    "tensorrt": Preset(signed=True, around=frozenset(), behind=False, bias=False),
    "openvino": Preset(signed=False, around=CALIBRATED, behind=True, bias=False, form="primitive"),
}


@dataclass(frozen=True)
class LayerRow:
    """A layer. reason : why it stays float; "" if it is integer."""

    node: str
    op: str
    reason: str


@dataclass(frozen=True, repr=False)
class Quantised:
    """A quantised model and its report. q, dq : numbers of QuantizeLinear and DequantizeLinear nodes."""

    model: ir.Model = field(repr=False)
    target: str
    method: str
    samples: int
    rows: tuple[LayerRow, ...]
    q: int
    dq: int
    notes: tuple[str, ...]

    @property
    def integer(self) -> tuple[str, ...]:
        """Names of the layers that are integer."""
        return tuple(row.node for row in self.rows if not row.reason)

    def __repr__(self) -> str:
        rows = [(row.node, row.op, "float32" if row.reason else "int8", row.reason) for row in self.rows]
        table = as_table(("node", "operator", "type", "why"), rows)
        return "\n".join((table, *map(on_lines, self.notes), self.verdict))

    @property
    def verdict(self) -> str:
        """Numbers of layers, in one line."""
        left = len(self.rows) - len(self.integer)
        stay = f", {left} in float32" if left else ""
        return f"{counted(len(self.integer), 'layer')} in int8{stay}; {self.q} {Q}, {self.dq} {DQ}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        held = {key: getattr(self, key) for key in ("target", "method", "samples", "q", "dq")}
        return {**held, "layers": [asdict(row) for row in self.rows], "notes": list(self.notes)}


def quantise(
    calibration: Calibration, target: str = "cpu", *, keep_float: Collection[str] = (), only: str | None = None
) -> Quantised:
    """Quantise a calibrated model. Does not change `calibration`.

    target : a name in TARGETS.  keep_float : names of nodes that stay float32.  only : the one layer to quantise.
    Raises InputError for an unknown target or node.
    """
    if target not in TARGETS:
        raise InputError(f"int8 is made for {', '.join(TARGETS)}; asked for {target!r}")
    preset, names = TARGETS[target], calibration.names
    kept = {_plain(calibration, name): "asked for" for name in keep_float}
    chosen = None if only is None else _plain(calibration, only)
    reasons = {**_unfit(calibration), **kept}
    proto = _with_pairs(calibration, preset, reasons, chosen)
    _tidy(proto, calibration.model)
    model = ir.from_proto(proto)
    model.graph.sort()
    _read_floats(model, {*LAYERS, *preset.around}, reasons)
    rows = _rows(model, reasons, chosen)
    q, dq = (sum(n.op_type == op and not n.domain for n in model.graph.all_nodes()) for op in (Q, DQ))
    names.take_back(model)
    notes = list(calibration.notes)
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


def _unfit(calibration: Calibration) -> dict[str, str]:
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
    return reasons


def _is_finite(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type != onnx.TensorProto.FLOAT:
        return True
    return bool(np.isfinite(onnx.numpy_helper.to_array(tensor)).all())


def _with_pairs(
    calibration: Calibration, preset: Preset, reasons: dict[str, str], chosen: str | None
) -> onnx.ModelProto:
    framework("onnxruntime", "ort", "quantise")
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
        nodes_to_quantize=[] if chosen is None else [chosen],
        nodes_to_exclude=[*reasons],
        op_types_to_quantize=[*LAYERS, *preset.around],
        extra_options={
            "ActivationSymmetric": preset.signed,
            "QuantizeBias": preset.bias,
            "OpTypesToExcludeOutputQuantization": [] if preset.behind else [*LAYERS],
        },
    )
    made: onnx.ModelProto = quantiser.quantize_model()
    return made


def _tidy(made: onnx.ModelProto, source: onnx.ModelProto) -> None:
    """Take the marks of the quantiser off, and of its shape inference."""
    made.producer_name, made.producer_version = source.producer_name, source.producer_version
    kept = [entry for entry in source.metadata_props if entry.key != INFERRED]
    del made.metadata_props[:]
    made.metadata_props.extend(kept)


def _read_floats(model: ir.Model, rounded: Collection[str], reasons: Collection[str]) -> None:
    """Let float nodes read what float nodes made without rounding.

    The quantiser rounds a value for all that read it, so also the shortcut from one SimAM to the next. An integer
    layer has no float result, so its readers keep the pair behind it.
    """

    def is_float(node: ir.Node | None) -> bool:
        return node is None or node.op_type not in rounded or node.name in reasons

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
            reason = "" if integer else reasons.get(name, "its inputs are not float32, or of unknown type")
        rows.append(LayerRow(name, node.op_type, reason))
    return rows
