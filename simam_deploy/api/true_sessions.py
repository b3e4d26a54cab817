"""The sessions whose results are the truth of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir

from simam_deploy.compare.inputs import Case
from simam_deploy.graph import onnx_file
from simam_deploy.graph.round_low import to_float32
from simam_deploy.precision.low_types import LOW_TYPES
from simam_deploy.precision.reference import low_reference
from simam_deploy.runtimes import open_session
from simam_deploy.runtimes.session import Session


class TrueSessions:
    """The sessions that results are compared with: of a PyTorch module, or of the first file in wide floats."""

    def __init__(self, file: Path, model: ir.Model, module: Any, cases: Sequence[Case], folder: Path) -> None:
        """cases : inputs of the comparison, which show the values that a low type cannot hold."""
        self._file, self._module, self._folder = file, module, folder
        self._model, self._cases = model, cases
        if onnx_file.half_types(model) and module is None:
            self._model, self._file = to_float32(model), folder / "truth.onnx"
            onnx_file.save(self._model, self._file)

    def open(self, dtype: str | None) -> Session:
        """dtype : float64, or None for float32."""
        if self._module is None:
            return open_session(self._file, "onnx_reference", dtype=dtype)
        return open_session(self._module, "eager", dtype=dtype)

    def low(self, low: str) -> Session:
        """The low reference."""
        made = self._folder / f"reference.{low}.onnx"
        if not made.exists():
            with onnx_file.blaming(self._file):
                names = [str(v.name) for v in self._model.graph.inputs if not v.is_initializer()]
                feeds = [dict(zip(names, feed, strict=True)) for case in self._cases for feed in case.feeds]
                onnx_file.save(low_reference(self._model, LOW_TYPES[low], feeds), made)
        return open_session(made, "onnx_half")
