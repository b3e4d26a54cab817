"""Presets of int8: which operators become integer on a target, and how activations and biases are rounded."""

from __future__ import annotations

from dataclasses import dataclass

from simam_deploy.rewrite.for_runtime import RUNTIMES

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that are worth integers: they do most of the work."""
CALIBRATED = frozenset(
    """Add AveragePool Clip Concat Conv ConvTranspose Flatten Gather Gemm GlobalAveragePool LeakyRelu MatMul MaxPool
    Mul Pad Relu Reshape Resize Sigmoid Slice Split Squeeze Transpose Unsqueeze""".split()  # noqa: SIM905
)
"""Operators whose inputs and outputs get a range."""


@dataclass(frozen=True)
class Preset:
    """How to quantise for one target.

    signed : activations are int8 with zero point 0, instead of uint8 with any.
    layers : operators of LAYERS that become integer.
    behind : those of them whose outputs are rounded too. Without it, ONNX Runtime has no integer Conv.
    around : operators that are rounded between layers.
    bias   : whether the bias is int32, with the scales of input and weight.
    form   : of SimAM in the result, that of the runtime.
    simam  : whether SimAM is one node on integers, where integer layers stand around it.
    notes  : for the user.
    """

    signed: bool
    layers: tuple[str, ...]
    behind: tuple[str, ...]
    around: frozenset[str]
    bias: bool
    form: str
    simam: bool = False
    notes: tuple[str, ...] = ()


_WITHOUT_VNNI = "on x86 CPUs without VNNI, sums of uint8 by int8 products may saturate: verify it on such a machine"
_AROUND = CALIBRATED - {*LAYERS}
TARGETS = {
    "cpu": Preset(
        False,
        ("Conv", "Gemm", "MatMul"),
        behind=("Conv",),
        around=_AROUND,
        bias=True,
        form=RUNTIMES["onnxruntime"].form,
        simam=True,
        notes=(_WITHOUT_VNNI,),
    ),
    "tensorrt": Preset(True, LAYERS, behind=(), around=frozenset(), bias=False, form=RUNTIMES["tensorrt"].form),
    "openvino": Preset(False, LAYERS, behind=LAYERS, around=_AROUND, bias=False, form=RUNTIMES["openvino"].form),
}
"""OpenVINO 2026.4 moves the scales of a layer without rounding behind it into SimAM, whose results are then wrong."""
