"""The NumPy evaluator of onnx, with the operators that it lacks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from simam_deploy.formula import DEFAULT_LAMBDA, OP_DOMAIN, OPS, Array, Op, apply_epilogue, reference


def _kernel(name: str, op: Op) -> type[OpRun]:
    """Kernel of one of our operators, by its formula. The evaluator finds it by the class name."""

    def run(_: OpRun, x: Array, *given: Array, e_lambda: float | None = None, **plugin: str) -> tuple[Array]:
        del plugin  # formula.PLUGIN
        y = reference(x, DEFAULT_LAMBDA if e_lambda is None else float(e_lambda))
        if op.affine:
            y = apply_epilogue(y, *given, activation=op.activation)
        return (y.astype(x.dtype),)

    return type(name, (OpRun,), {"op_domain": OP_DOMAIN, "_run": run})


KERNELS = {name: _kernel(name, op) for name, op in OPS.items()}
"""Kernels of our operators, by name."""


class Erf(OpRun):
    """Erf in the type of x. The evaluator's own, also inside Gelu, rounds to float32 (onnx 1.23)."""

    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        return (np.vectorize(math.erf, otypes=[np.float64])(x).astype(x.dtype),)


class _BatchNormalization(OpRun):
    """BatchNormalization in inference. Before opset 14, the evaluator's own uses batch statistics (onnx 1.23)."""

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


class _GatherElements(OpRun):
    """GatherElements of any size. The evaluator's own takes axes of up to 64 (onnx 1.23)."""

    def _run(self, data: Array, indices: Array, axis: int | None = None) -> tuple[Array]:
        at = 0 if axis is None else axis
        kept = tuple(slice(None) if i == at % data.ndim else slice(0, n) for i, n in enumerate(indices.shape))
        return (np.take_along_axis(data[kept], indices, axis=at),)


def _in_inference(node: onnx.NodeProto, opset: int) -> bool:
    """Whether a node is a BatchNormalization in inference. From opset 7 to 13, one output says so."""
    return (node.domain, node.op_type) == ("", "BatchNormalization") and 7 <= opset < 14 and not any(node.output[1:])


_SIZES_IN_FLOATS = ("Range", "Resize", "Upsample")
_ANY_ORDER = ("TopK",)
_FLOAT32 = np.finfo(np.float32)


def _rounded(run: Callable[..., Any], random: np.random.Generator, *, whole: bool) -> Callable[..., Any]:
    """`run` of a node on inputs with random relative errors of up to one float32 eps.

    whole : add the errors to integers too, so that no two numbers are equal.
    """

    def read(value: Any) -> Any:
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            return value
        size = _FLOAT32.eps * np.abs(value) + (_FLOAT32.tiny if whole else 0)
        moved = value + random.uniform(-1, 1, value.shape) * size
        return (moved if whole else np.where(value == np.round(value), value, moved)).astype(value.dtype)

    return lambda *inputs, **given: run(*map(read, inputs), **given)


def evaluator(
    model: onnx.ModelProto, kernels: list[type[OpRun]], random: np.random.Generator | None = None
) -> ReferenceEvaluator:
    """An evaluator that uses `kernels` inside functions too, unlike new_ops of onnx.

    A kernel precedes a function of its name. Pass no kernel for a function of the model, or inline functions first.
    random : source of rounding errors, for `Session.run_with_roundings`. Sizes given as floats stay exact.
    """

    class Evaluator(ReferenceEvaluator):
        def __init__(self, proto: Any, new_ops: list[type[OpRun]] | None = None, **given: Any) -> None:
            super().__init__(proto, new_ops=[*kernels, *(new_ops or [])], **given)
            for node in self.rt_nodes_:
                if random is not None and node.op_type not in _SIZES_IN_FLOATS:
                    node.run = _rounded(node.run, random, whole=node.op_type in _ANY_ORDER)

        def _load_impl(self, node: onnx.NodeProto, input_types: Any = None) -> Any:
            if _in_inference(node, self.opsets.get("", 0)):
                return _BatchNormalization
            if (node.domain, node.op_type) == ("", "GatherElements"):
                return _GatherElements
            return super()._load_impl(node, input_types)

    return Evaluator(model)
