"""Open a model in a runtime.

    with open_session("model.onnx", "ort", threads=4) as session:
        y = session.run({"x": x})["y"]

A missing runtime, provider or precision is an error, never a silent substitute. A runtime is one file here and one
line in RUNTIMES. Opening a session imports its framework.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from simam_deploy.errors import InputError
from simam_deploy.runtimes.session import KernelUse, Session, TensorSpec

__all__ = [
    "OPTIONS",
    "ROUNDING",
    "RUNTIMES",
    "KernelUse",
    "Session",
    "TensorSpec",
    "for_files",
    "installed",
    "open_session",
]

RUNTIMES = {
    "eager": "simam_deploy.runtimes.eager",
    "onnx_reference": "simam_deploy.runtimes.onnx_reference",
    "ort": "simam_deploy.runtimes.ort",
    "openvino": "simam_deploy.runtimes.openvino",
    "onnx_half": "simam_deploy.runtimes.onnx_half",
    "trt_network": "simam_deploy.runtimes.trt_network",
    "trt": "simam_deploy.runtimes.trt",
}
"""Name -> module. The module's SESSION is the session class, called with the artifact and its options."""

FRAMEWORKS = {
    "eager": ("torch",),
    "onnx_reference": ("onnx",),
    "ort": ("onnxruntime",),
    "openvino": ("openvino",),
    "onnx_half": ("onnxruntime",),
    "trt_network": ("tensorrt_rtx",),
    "trt": ("tensorrt", "tensorrt_rtx"),
}
"""Runtime -> the Python modules of which it needs one."""

ENGINES = ("trt",)
"""Those that run engines, and no ONNX file."""
ROUNDING = ("onnx_half", "trt_network")
"""Those that round each result to its 16-bit type, and exchange bfloat16."""
MOST_THREADS = 1024
MOST_CONTEXTS = 64
OPTIONS = {
    "provider": ("ort",),
    "kernel": ("ort",),
    "threads": ("eager", "ort", "openvino", "onnx_half"),
    "dtype": ("eager", "onnx_reference", "trt_network"),
    "contexts": ("trt",),
    "cuda_graph": ("trt",),
}
"""Option -> the runtimes that support it."""


def installed() -> list[str]:
    """Runtimes with an installed framework. Does not import it, so opening may still fail."""
    return [name for name in RUNTIMES if any(map(find_spec, FRAMEWORKS[name]))]


def for_files() -> list[str]:
    """Installed runtimes that run any ONNX file.

    Not eager and trt, nor onnx_half, the oracle of 16-bit types, nor trt_network, which knows the layers of few
    networks.
    """
    return [name for name in installed() if name not in ("eager", *ENGINES, *ROUNDING)]


def open_session(
    artifact: object,
    runtime: str = "ort",
    *,
    provider: str | None = None,
    threads: int = 0,
    dtype: str | None = None,
    kernel: str | None = None,
    contexts: int = 0,
    cuda_graph: bool = False,
) -> Session:
    """Load a model into a runtime.

    artifact : path of an ONNX file; an nn.Module for eager; path of an engine for trt.
    provider : ort only: one execution provider. CPUExecutionProvider if None.
    threads  : threads of one inference; 0 leaves it to the framework. Not for onnx_reference, trt_network, trt.
    kernel   : ort only: "auto" (default) runs our compiled kernel if the provider has a library, else adds a line to
               `Session.notes`; "require" raises without it; "off" runs the fallback definitions in the file.
    dtype    : eager: "float32" (default) or "float64".  onnx_reference, trt_network: as in the file (default) or
               "float64".
    contexts, cuda_graph : trt only: runs at once, 1 by default; replay runs as CUDA graphs. See runtimes/trt.py.
    onnx_half : an oracle of float16 and bfloat16 arithmetic, for comparisons. See graph/round_low.py.
    trt_network : what TensorRT-RTX parses, computed on a CPU. See runtimes/trt_network.py.
    Threads may share a session; each gets the results of its own feeds. Their runs are concurrent in ort,
    onnx_half, onnx_reference and trt_network, and in trt as many as it has contexts. They take turns in eager and
    openvino. Runs that have begun complete after another thread closes the session.
    Raises InputError for a wrong artifact or option, ModelFileError if the file cannot be read, RuntimeUnavailable if
    the framework is missing, cannot run the model or does not provide an option.
    """
    if runtime not in RUNTIMES:
        raise InputError(f"runtime {runtime!r} is not one of {', '.join(RUNTIMES)}")
    if not 0 <= threads <= MOST_THREADS:
        raise InputError(f"threads must be 0 (left to the framework) to {MOST_THREADS}; got {threads}")
    if not 0 <= contexts <= MOST_CONTEXTS:
        raise InputError(f"contexts must be 1 to {MOST_CONTEXTS}, or 0 for one; got {contexts}")
    asked: dict[str, Any] = {"provider": provider, "threads": threads, "dtype": dtype, "kernel": kernel}
    asked |= {"contexts": contexts, "cuda_graph": cuda_graph}
    asked = {option: value for option, value in asked.items() if value}
    for option, value in asked.items():
        if runtime not in OPTIONS[option]:
            raise InputError(
                f"runtime {runtime!r} has no option {option} (asked for {value!r}); "
                f"these have: {', '.join(OPTIONS[option])}"
            )
    session: Session = import_module(RUNTIMES[runtime]).SESSION(artifact, **asked)
    return session
