"""onnx's own NumPy evaluator, with the operators that it lacks for us."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from simam_deploy.formula import DEFAULT_LAMBDA, OP_DOMAIN, OPS, Op, neighbours, reference

Array = NDArray[Any]


def _kernel(name: str, op: Op) -> type[OpRun]:
    """The node without a body, by its formula. The evaluator goes by the name of the class."""

    def run(_: OpRun, x: Array, *given: Array, e_lambda: float | None = None) -> tuple[Array]:
        y = reference(x, DEFAULT_LAMBDA if e_lambda is None else float(e_lambda))
        if op.affine:
            y = neighbours(y, *given, activation=op.activation)
        return (y.astype(x.dtype),)

    return type(name, (OpRun,), {"op_domain": OP_DOMAIN, "_run": run})


KERNELS = {name: _kernel(name, op) for name, op in OPS.items()}
"""Our operators, by name."""


class Erf(OpRun):
    """The evaluator's own Erf, also inside Gelu, rounds to float32 (onnx 1.23)."""

    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        return (np.vectorize(math.erf, otypes=[np.float64])(x).astype(x.dtype),)


class _BatchNormalization(OpRun):
    """In inference. The evaluator's own computes with the statistics of the batch before opset 14 (onnx 1.23)."""

    def _run(
        self,
        x: Array,
        *given: Array,
        epsilon: float = 1e-5,
        momentum: float | None = None,
        training_mode: int | None = None,
        spatial: int | None = None,
    ) -> tuple[Array]:
        del momentum, training_mode, spatial
        sizes = (-1, *(1,) * (x.ndim - 2))
        scale, bias, mean, variance = (
            v.reshape(sizes) if v.ndim == 1 else v for v in given
        )  # opset 7: or each place
        return ((scale * (x - mean) / np.sqrt(variance + epsilon) + bias).astype(x.dtype),)


def _in_inference(node: onnx.NodeProto, opset: int) -> bool:
    """Whether a node is a BatchNormalization that says so by having one output: so from opset 7 to 13."""
    return (node.domain, node.op_type) == ("", "BatchNormalization") and 7 <= opset < 14 and not any(node.output[1:])


def evaluator(model: onnx.ModelProto, kernels: list[type[OpRun]]) -> ReferenceEvaluator:
    """An evaluator that uses kernels everywhere. With new_ops alone, it would not inside functions.

    A kernel goes before a function of its name: give none that the model has a body for, or put the bodies in place.
    """

    class Evaluator(ReferenceEvaluator):
        def __init__(self, proto: Any, new_ops: list[type[OpRun]] | None = None, **given: Any) -> None:
            super().__init__(proto, new_ops=[*kernels, *(new_ops or [])], **given)

        def _load_impl(self, node: onnx.NodeProto, input_types: Any = None) -> Any:
            if _in_inference(node, self.opsets.get("", 0)):
                return _BatchNormalization
            return super()._load_impl(node, input_types)

    return Evaluator(model)
