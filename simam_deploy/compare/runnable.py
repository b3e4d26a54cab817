"""The precision of a file, and the runtimes that compute it as it says."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from simam_deploy.compare.limits import Precision
from simam_deploy.graph.number_types import INTEGER_LAYERS, precision
from simam_deploy.runtimes import installed

LAYERS = INTEGER_LAYERS | {"Conv", "ConvTranspose", "Gemm", "MatMul"}
FLOAT16 = ("onnx_half", "ort")
"""Runtimes for a float16 file by default: the oracle, and ONNX Runtime, which loads it and computes in float32 on a
CPU. OpenVINO does so too; the evaluator of onnx accumulates in float16, which no GPU does."""
NOT_SHOWN = "on a CPU it computes {} in float32, so it shows that the file loads; onnx_half shows its arithmetic"


def precision_of(model: ir.Model) -> Precision:
    """The precision of a model, and for a quantised one the number of its layers."""
    name = precision(model)
    layers = sum(node.op_type in LAYERS for node in model.graph.all_nodes()) if "int8" in name else 0
    return Precision(name, layers)


def runtimes_for(kind: Precision, general: Sequence[str], provider: str | None = None) -> list[str]:
    """Runtimes for a file by default.

    general : those for float32 files.  provider : asked for of ort, which then is among them.
    """
    if kind.quantised:
        wanted: Sequence[str] = ("onnx_half",) if kind.half else ("ort",)
    else:
        wanted = {"": general, "bf16": FLOAT16[:1], "fp16": FLOAT16}[kind.low]
    asked = [*wanted, *([] if provider is None else ["ort"])]
    return [name for name in dict.fromkeys(asked) if name in installed()]
