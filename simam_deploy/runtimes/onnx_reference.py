"""The NumPy evaluator of onnx: slow, without other dependencies, also in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

from simam_deploy.errors import InputError, RuntimeUnavailable
from simam_deploy.formula import OP_DOMAIN, Array
from simam_deploy.graph import onnx_file
from simam_deploy.graph.evaluator import KERNELS, Erf, evaluator
from simam_deploy.graph.to_float64 import widen
from simam_deploy.graph.traverse import say_defaults
from simam_deploy.runtimes import onnx_model
from simam_deploy.runtimes.session import Session, TensorSpec, first_line, is_float, pick


class OnnxReferenceSession(Session):
    """An ONNX file in onnx.reference.ReferenceEvaluator.

    dtype : None computes in the types of the file. "float64" widens every float of the model (graph/to_float64.py),
            and accepts float feeds of any width.
    Computes our nodes without a fallback definition with `formula.reference`, with a line in `notes`.
    """

    def __init__(self, artifact: object, *, dtype: str | None = None) -> None:
        if dtype not in (None, "float64"):
            raise InputError(f"runtime 'onnx_reference' computes as in the file or in float64; got dtype={dtype!r}")
        super().__init__(f"onnx_reference[{dtype}]" if dtype else "onnx_reference")
        path, model = onnx_model.read(artifact, "onnx_reference")
        say_defaults(model)
        onnx_file.bring_in(model, path)
        self._wide = dtype == "float64"
        if self._wide:
            model = widen(model)
        self.inputs = onnx_model.input_specs(model, path)
        self.outputs = onnx_model.output_specs(model, path)
        kernels: list[type[OpRun]] = [Erf] if self._wide else []
        for name in sorted({node.op_type for node in onnx_model.without_fallback(model)} & KERNELS.keys()):
            kernels.append(KERNELS[name])
            self.notes.append(
                f"{OP_DOMAIN}.{name} has no fallback definition in the file: computed with formula.reference"
            )
        self._parts = model, kernels
        try:
            self._evaluator = evaluator(model, kernels)
        except RuntimeError as error:  # NotImplementedError, for an unknown operator, is one
            raise RuntimeUnavailable(f"{self.label} cannot run {path}: {first_line(error)}") from error

    def _takes(self, spec: TensorSpec, dtype: np.dtype[Any]) -> bool:
        return dtype == spec.dtype or (self._wide and is_float(dtype) and spec.dtype == np.float64)

    def run_with_roundings(self, feeds: Mapping[str, Array], seed: int) -> dict[str, Array]:
        """See `Session`."""
        self._check(feeds)
        return self._results(evaluator(*self._parts, np.random.default_rng(seed)), feeds)

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return self._results(self._evaluator, feeds)

    def _results(self, opened: Any, feeds: Mapping[str, Array]) -> dict[str, Array]:
        copies = {spec.name: np.array(feeds[spec.name], dtype=spec.dtype) for spec in self.inputs}
        with np.errstate(all="ignore"):  # inf is a result like any other, as in every runtime
            results: Any = opened.run(None, copies)
        return pick(self.outputs, [np.array(array) for array in results])  # may be a view, or a weight: copied

    def _close(self) -> None:
        del self._evaluator, self._parts


SESSION = OnnxReferenceSession
