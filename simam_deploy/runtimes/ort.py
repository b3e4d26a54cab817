"""ONNX Runtime, with exactly the requested execution provider."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from simam_deploy import native
from simam_deploy.artifacts.manifest import Record
from simam_deploy.errors import InputError, ModelFileError, RuntimeUnavailable
from simam_deploy.formula import OP_NAME, Array
from simam_deploy.runtimes import fallbacks, onnx_model
from simam_deploy.runtimes.session import (
    KernelUse,
    Session,
    first_line,
    framework,
    pick,
    refuse_types_outside_numpy,
)

_BROKEN_FILE = {"InvalidProtobuf", "InvalidGraph", "InvalidArgument", "NoSuchFile", "NoModel"}
_ONLY_ERRORS, _NOTHING = 3, 4
"""Severities of its log, which prints names from a file to stderr unescaped. The exceptions say the same, except for
a provider that could not be loaded, which only the log reports."""
CPU, CUDA = native.CPU, native.CUDA
KERNEL = ("auto", "require", "off")


class OrtSession(Session):
    """An ONNX file in onnxruntime.InferenceSession.

    provider : name in ONNX Runtime. Its list of providers is that of the build, not of the machine, and a session
               without the requested one runs on the CPU. So the session itself is queried.
    threads  : intra-op threads; 0 leaves the number to ONNX Runtime. Operators run one after the other.
               Idle threads sleep after a run. By default they spin for a while, and take the cores from the next
               session that is timed.
    kernel   : "auto", "require" or "off", see open_session. Registers the provider's library only for files with
               nodes of ours whose fallback definitions match the kernel, see fallbacks.py. ONNX Runtime then uses the
               kernel, or fails to load if the kernel does not support the type of x; "auto" then loads the file
               without the library.
    """

    def __init__(self, artifact: object, *, provider: str = CPU, threads: int = 0, kernel: str = "auto") -> None:
        if kernel not in KERNEL:
            raise InputError(f"kernel is one of {', '.join(KERNEL)}; got {kernel!r}")
        self._ort = framework("onnxruntime", "ort", "ort" if provider.startswith("CPU") else "ort-gpu")
        super().__init__(f"ort[{provider}]")
        self._path, model = onnx_model.read(artifact, "ort")
        self._provider, self._threads, self._ours = provider, threads, onnx_model.ours(model)
        self._library, self._why = self._choose(kernel, model)
        self._refuse_elsewhere(onnx_model.specialisation(model))
        if self._library is None:
            onnx_model.refuse_without_fallback(model, self._path, "ort", self._why)
        self.inputs = onnx_model.input_specs(model, self._path)
        self.outputs = onnx_model.output_specs(model, self._path)
        refuse_types_outside_numpy("ort", self.inputs + self.outputs)
        if provider not in self._ort.get_available_providers():
            raise self._not_given(provider, "it is not in this build")
        self._names = [spec.name for spec in self.outputs]
        may_go_without = kernel == "auto" and not onnx_model.without_fallback(model)
        self._session = self._load_with_or_without(may_go_without=may_go_without)
        if (got := self._session.get_providers()[0]) != provider:
            raise self._not_given(provider, f"the session got {got}; onnxruntime wrote the cause to stderr")
        self._session.disable_fallback()
        if self._ours and kernel == "auto" and self._why:
            self.notes.append(f"SimAM runs as the fallback definition in the file: {self._why}")

    def _choose(self, kernel: str, model: onnx.ModelProto) -> tuple[native.Library | None, str]:
        """The library to register, or None and the reason."""
        library, why = None, ""
        if not self._ours:
            why = f"it has no node of the domain {onnx_model.DOMAINS[0]}; write it with --form function"
        elif kernel == "off":
            why = "kernel='off' was asked for"
        elif self._provider not in native.LIBRARIES:
            why = f"the kernel libraries are for {CPU} and {CUDA}"
        else:
            library = native.library(self._provider)
            why = fallbacks.difference(model) if library else native.why_not(self._provider)
            library = None if why else library
        if kernel == "require" and library is None:
            raise RuntimeUnavailable(f"ort: asked for the kernel in {self._path}, but {why}")
        return library, why

    def _refuse_elsewhere(self, mark: Record | None) -> None:
        """Raise RuntimeUnavailable if the file is specialised for another machine, hence another weight layout."""
        if mark is None:
            return
        made_for, made_with = mark.get("machine"), mark.get("onnxruntime")
        if self._provider != CPU:
            raise RuntimeUnavailable(
                f"ort cannot run {self._path} on {self._provider}: it is specialised for the CPU of {made_for}; "
                "use the portable file, which runs everywhere"
            )
        if self._library is None:
            raise RuntimeUnavailable(f"ort cannot run {self._path}, which is specialised for {made_for}: {self._why}")
        if made_for != self._library.machine:
            raise RuntimeUnavailable(
                f"ort cannot run {self._path}: it was specialised for '{made_for}' and this machine is "
                f"'{self._library.machine}'\nspecialise the portable file here (simam-deploy fuse --specialise cpu), "
                "or use the portable file, which runs everywhere"
            )
        if made_with != self._ort.__version__:
            self.notes.append(f"specialised with ONNX Runtime {made_with}, run with {self._ort.__version__}")

    def _load_with_or_without(self, *, may_go_without: bool) -> Any:
        if self._library is None or not may_go_without:
            return self._load()
        try:
            return self._load()
        except (ModelFileError, RuntimeUnavailable) as error:
            self._library, self._why = None, f"with the kernel library, {first_line(error.__cause__ or error)}"
            return self._load()

    def _load(self, profile: Path | None = None) -> Any:
        options = self._ort.SessionOptions()
        options.log_severity_level = _NOTHING if self._provider == CPU else _ONLY_ERRORS
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        try:
            if self._library is not None:
                options.register_custom_ops_library(str(self._library.path))
            return self._ort.InferenceSession(str(self._path), options, providers=[self._provider])
        except Exception as error:  # its exceptions share no base class, but a module
            if not type(error).__module__.startswith("onnxruntime") and not isinstance(error, RuntimeError):
                raise
            kind = ModelFileError if type(error).__name__ in _BROKEN_FILE else RuntimeUnavailable
            raise kind(
                f"ort (onnxruntime {self._ort.__version__}) cannot load {self._path}: {first_line(error)}"
            ) from error

    def kernel_use(self, feeds: Mapping[str, Array]) -> KernelUse:
        """Count the nodes that run as the kernel, in the profile of a run of a second session."""
        if self._library is None:
            return KernelUse(0, self._ours, why=self._why)
        self._check(feeds)
        with tempfile.TemporaryDirectory(prefix="simam-deploy-") as folder:
            session = self._load(Path(folder, "profile"))
            session.run(self._names, dict(feeds))
            events = json.loads(Path(session.end_profiling()).read_text())
        ran = {
            (event["name"], event["args"].get("node_index"))
            for event in events
            if event.get("cat") == "Node"
            and event["args"].get("op_name", "").startswith(OP_NAME)
            and event["args"].get("provider") == self._provider
        }
        return KernelUse(len(ran), self._ours, self._library.target if self._provider == CPU else "cuda")

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
