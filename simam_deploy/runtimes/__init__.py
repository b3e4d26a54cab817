"""A model and the name of a runtime -> an open session.

    with open_session("model.onnx", "ort", threads=4) as session:
        y = session.run({"x": x})["y"]

What is asked for is what one gets: a runtime, provider or precision that is not there is an error, never a
quiet substitute. A runtime is one file here and one line in RUNTIMES; its framework is imported when it is opened.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from simam_deploy.errors import InputError
from simam_deploy.runtimes.session import KernelUse, Session, TensorSpec

__all__ = ["OPTIONS", "RUNTIMES", "KernelUse", "Session", "TensorSpec", "installed", "open_session"]

RUNTIMES = {
    "eager": "simam_deploy.runtimes.eager",
    "onnx_reference": "simam_deploy.runtimes.onnx_reference",
    "ort": "simam_deploy.runtimes.ort",
    "openvino": "simam_deploy.runtimes.openvino",
}
"""Name -> module. Its SESSION is the class to open, called with the artifact and the options that it has."""

FRAMEWORKS = {"eager": "torch", "onnx_reference": "onnx", "ort": "onnxruntime", "openvino": "openvino"}
"""Runtime -> the module that it needs."""

MOST_THREADS = 1024
OPTIONS = {
    "provider": ("ort",),
    "kernel": ("ort",),
    "threads": ("eager", "ort", "openvino"),
    "dtype": ("eager", "onnx_reference"),
}
"""Option -> the runtimes that have it."""


def installed() -> list[str]:
    """The runtimes whose framework is found. It is not imported, so opening may still fail."""
    return [name for name in RUNTIMES if find_spec(FRAMEWORKS[name])]


def open_session(
    artifact: object,
    runtime: str = "ort",
    *,
    provider: str | None = None,
    threads: int = 0,
    dtype: str | None = None,
    kernel: str | None = None,
) -> Session:
    """Load a model into a runtime.

    artifact : the path of an ONNX file, for eager an nn.Module.
    provider : ort only: one execution provider. CPUExecutionProvider if None.
    threads  : how many compute one inference; 0 leaves it to the framework. Not for onnx_reference.
    kernel   : ort only: "auto" (default) runs our compiled kernel where the provider's library is there, and says in
               `Session.notes` if it does not; "require" makes that an error; "off" runs the bodies in the file.
    dtype    : eager: "float32" (default) or "float64".  onnx_reference: as in the file (default) or "float64".
    Threads may share the session of any runtime, and each gets the answers to its own feeds. In ort and
    onnx_reference their runs go on side by side; in eager and openvino they take turns. Runs that have begun
    end as ever when one thread closes the session.
    Raises InputError for a wrong kind of artifact or option, ModelFileError if the file cannot be read,
    RuntimeUnavailable if the framework is not installed, cannot run the model or does not give what was asked.
    """
    if runtime not in RUNTIMES:
        raise InputError(f"runtime {runtime!r} is not one of {', '.join(RUNTIMES)}")
    if not 0 <= threads <= MOST_THREADS:
        raise InputError(f"threads must be 0 (left to the framework) to {MOST_THREADS}; got {threads}")
    asked: dict[str, Any] = {"provider": provider, "threads": threads, "dtype": dtype, "kernel": kernel}
    asked = {option: value for option, value in asked.items() if value}
    for option, value in asked.items():
        if runtime not in OPTIONS[option]:
            raise InputError(
                f"runtime {runtime!r} has no option {option} (asked for {value!r}); "
                f"these have: {', '.join(OPTIONS[option])}"
            )
    session: Session = import_module(RUNTIMES[runtime]).SESSION(artifact, **asked)
    return session
