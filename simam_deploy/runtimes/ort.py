"""ONNX Runtime, with exactly the execution provider that was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simam_deploy.errors import ModelFileError, RuntimeUnavailable
from simam_deploy.runtimes import graph
from simam_deploy.runtimes.session import (
    Array,
    Session,
    first_line,
    framework,
    pick,
    refuse_types_outside_numpy,
)

_BROKEN_FILE = {"InvalidProtobuf", "InvalidGraph", "InvalidArgument", "NoSuchFile", "NoModel"}
_ONLY_ERRORS = 3


class OrtSession(Session):
    """An ONNX file in onnxruntime.InferenceSession.

    provider : as ONNX Runtime names it. Its list of providers holds what the package was built with, not what
               works here, and a session without the one asked for runs on the CPU. So the session is asked.
    threads  : intra-op threads; 0 leaves the number to ONNX Runtime. Operators run one after the other.
               The idle threads sleep after a run. By default they spin for a while and take the cores from whatever
               comes next, so that on few cores a session would be timed by what ran before it.
    """

    def __init__(self, artifact: object, *, provider: str = "CPUExecutionProvider", threads: int = 0) -> None:
        self._ort = framework("onnxruntime", "ort", "ort" if provider.startswith("CPU") else "ort-gpu")
        super().__init__(f"ort[{provider}]")
        path, model = graph.read(artifact, "ort")
        graph.refuse_without_body(model, path, "ort")
        self.inputs = graph.input_specs(model, path)
        self.outputs = graph.output_specs(model, path)
        refuse_types_outside_numpy("ort", self.inputs + self.outputs)
        if provider not in self._ort.get_available_providers():
            raise self._not_given(provider, "it is not in this build")
        self._names = [spec.name for spec in self.outputs]
        self._session = self._load(path, provider, threads)
        if (got := self._session.get_providers()[0]) != provider:
            raise self._not_given(provider, f"the session got {got}; onnxruntime wrote the cause to stderr")
        self._session.disable_fallback()

    def _load(self, path: Path, provider: str, threads: int) -> Any:
        options = self._ort.SessionOptions()
        options.log_severity_level = _ONLY_ERRORS
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            return self._ort.InferenceSession(str(path), options, providers=[provider])
        except Exception as error:  # its exceptions share no base class, but a module
            if not type(error).__module__.startswith("onnxruntime") and not isinstance(error, RuntimeError):
                raise
            kind = ModelFileError if type(error).__name__ in _BROKEN_FILE else RuntimeUnavailable
            raise kind(
                f"ort (onnxruntime {self._ort.__version__}) cannot load {path}: {first_line(error)}"
            ) from error

    def _not_given(self, provider: str, why: str) -> RuntimeUnavailable:
        return RuntimeUnavailable(
            f"ort: asked for {provider}, but {why}\n"
            f"onnxruntime {self._ort.__version__} has {', '.join(self._ort.get_available_providers())}\n"
            'for NVIDIA: pip uninstall onnxruntime; pip install "simam-deploy[ort-gpu]" '
            "(onnxruntime and onnxruntime-gpu are one module: the one installed last wins)"
        )

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return pick(self.outputs, self._session.run(self._names, dict(feeds)))

    def _close(self) -> None:
        del self._session


SESSION = OrtSession
