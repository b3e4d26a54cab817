"""Sessions with bound inputs and outputs, to time one operator without copies.

The Python interface of a runtime copies results into new arrays, which takes as long as one SimAM. Here ONNX Runtime
and OpenVINO write into an existing array; torch allocates as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simam_deploy.formula import Array
from simam_deploy.runtimes.session import Session, TensorSpec, framework

FLOAT32 = np.dtype(np.float32)


class Bound(Session):
    """`call` on the array `x` of a fixed shape. Ignores its result."""

    def __init__(self, label: str, shape: tuple[int, ...], prepare: Callable[[Array], Callable[[], object]]) -> None:
        super().__init__(label)
        self.inputs = (TensorSpec("x", FLOAT32, shape),)
        self.outputs = (TensorSpec("y", FLOAT32, shape),)
        self._prepare = prepare
        self._ready: dict[int, Callable[[], object]] = {}

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """No check and no result; the first call on an array prepares it."""
        return self._run(feeds)

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        x = feeds["x"]
        if id(x) not in self._ready:
            self._ready[id(x)] = self._prepare(x)
        self._ready[id(x)]()
        return {}

    def _close(self) -> None:
        self._ready.clear()


def ort(label: str, path: Path, shape: tuple[int, ...], threads: int, library: Path | None) -> Bound:
    """ONNX Runtime with input and output bound; the op library if one is given."""
    onnxruntime = framework("onnxruntime", "ort", "ort")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if library is not None:
        options.register_custom_ops_library(str(library))
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    y = np.empty(shape, np.float32)

    def prepare(x: Array) -> Callable[[], object]:
        binding = session.io_binding()
        binding.bind_cpu_input("x", x)
        binding.bind_output("y", "cpu", 0, np.float32, shape, y.ctypes.data)
        return lambda: session.run_with_iobinding(binding)

    return Bound(label, shape, prepare)


def openvino(label: str, path: Path, shape: tuple[int, ...], threads: int) -> Bound:
    """OpenVINO in float32 with input and output tensors that share NumPy's memory."""
    import openvino as ov

    options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    model = ov.Core().compile_model(str(path), "CPU", options)
    y = np.empty(shape, np.float32)

    def prepare(x: Array) -> Callable[[], object]:
        request = model.create_infer_request()
        request.set_input_tensor(ov.Tensor(x, shared_memory=True))
        request.set_output_tensor(ov.Tensor(y, shared_memory=True))
        return request.infer

    return Bound(label, shape, prepare)


def on_torch(label: str, call: Callable[[torch.Tensor], Any], shape: tuple[int, ...], threads: int) -> Bound:
    """A function of a tensor, without gradients."""

    def prepare(x: Array) -> Callable[[], object]:
        tensor = torch.from_numpy(x)

        def run() -> object:
            torch.set_num_threads(threads)
            with torch.inference_mode():
                return call(tensor)

        return run

    return Bound(label, shape, prepare)


def copy(shape: tuple[int, ...], threads: int) -> Bound:
    """One read and one write by all threads: the limit."""
    y = torch.empty(shape)
    return on_torch("plain copy", y.copy_, shape, threads)
