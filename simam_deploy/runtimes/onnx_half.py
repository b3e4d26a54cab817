"""The oracle of 16-bit arithmetic: float16 and bfloat16 as a GPU computes them, on a CPU. See graph/round_low.py.

ONNX Runtime's own CPU provider computes float16 graphs in float32 and rounds too little; it lacks bfloat16. The
evaluator of onnx accumulates in 16 bits, which no GPU does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from simam_deploy.formula import Array
from simam_deploy.graph import onnx_file
from simam_deploy.graph.round_low import round_low
from simam_deploy.runtimes import onnx_model
from simam_deploy.runtimes.ort import OrtSession
from simam_deploy.runtimes.session import HALVES, Session


class OnnxHalfSession(Session):
    """An ONNX file in stock ONNX Runtime, in float32 with a rounding behind each float16 or bfloat16 result.

    threads : as in OrtSession. Inputs and outputs have the types of the file.
    A file without 16-bit values computes in float32, and `notes` says so.
    """

    def __init__(self, artifact: object, *, threads: int = 0) -> None:
        super().__init__("onnx_half")
        path, proto = onnx_model.read(artifact, "onnx_half")
        onnx_model.refuse_without_fallback(proto, path, "onnx_half")
        self.inputs = onnx_model.input_specs(proto, path)
        self.outputs = onnx_model.output_specs(proto, path)
        with tempfile.TemporaryDirectory(prefix="simam-deploy-") as folder:
            file = Path(folder, "rounded.onnx")
            with onnx_file.blaming(path):
                model = onnx_file.load(path)
                if not onnx_file.half_types(model):
                    self.notes.append(f"{path.name} holds no float16 or bfloat16, so nothing is rounded")
                onnx_file.save(round_low(model), file)
            self._session = OrtSession(file, threads=threads, kernel="off")

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        wide = {
            name: array.astype(np.float32) if array.dtype.name in HALVES else array for name, array in feeds.items()
        }
        types = {spec.name: spec.dtype for spec in self.outputs}
        got = self._session.run(wide)
        return {name: array.astype(types[name], copy=False) for name, array in got.items()}

    def _close(self) -> None:
        self._session.close()
        del self._session


SESSION = OnnxHalfSession
