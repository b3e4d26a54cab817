"""Valid names for options, without importing frameworks, and shell completion.

tests/cli/test_choices.py compares each list with its registry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

FORMS = ("function", "primitive", "instance_norm", "custom_op")
"""rewrite.forms.FORMS."""
RUNTIMES = ("onnx_reference", "ort", "openvino", "onnx_half", "trt_network")
"""runtimes.RUNTIMES that run ONNX files."""
FOR = ("onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "mnn", "ncnn")
"""rewrite.for_runtime.RUNTIMES."""
INPUTS = ("plain", "uniform", "constant", "offset", "faint", "outlier", "large", "adversarial")
"""compare.inputs.MADE, and all of its ADVERSARIAL."""
DEFAULT_INPUTS = ("plain", "uniform", "faint", "outlier", "large")
"""compare.inputs.DEFAULT."""
AXES = ("batch", "time", "length", "depth", "height", "width")
"""to_onnx.axes.NAMES."""
EXPORTERS = ("dynamo", "torchscript")
"""to_onnx.torch_export.EXPORTERS."""
PROVIDERS = ("CPUExecutionProvider", "CUDAExecutionProvider")
"""native.CPU and native.CUDA: those that have a kernel of ours."""
KERNEL = ("auto", "require", "off")
"""runtimes.ort.KERNEL."""
PRECISIONS = ("fp16", "bf16", "int8", "int8+fp16")
"""precision.wanted.PRECISIONS."""
TARGETS = ("cpu", "tensorrt", "openvino")
"""precision.targets.TARGETS."""
CALIBRATIONS = ("minmax", "entropy", "percentile")
"""precision.calibrate.METHODS."""
HOSTS = ("trtexec", "deepstream", "triton", "onnxruntime", "jetson")
"""package.recipes.HOSTS."""
TOOLS = ("autocast", "onnxruntime", "onnxconverter")
"""precision.analysis.TOOLS."""

Complete = Callable[[str], list[str]]


def one_of(names: Sequence[str]) -> Complete:
    """Complete one name."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


def list_of(names: Sequence[str]) -> Complete:
    """Complete the last name of a comma-separated list with a new one."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        used = before.split(",")
        return [f"{before}{comma}{name}" for name in names if name.startswith(last) and name not in used]

    return complete


def file_of(*suffixes: str) -> Complete:
    """Complete paths of files with one of these suffixes. Without a match, shells complete any path."""

    def complete(incomplete: str) -> list[str]:
        folder, slash, start = incomplete.rpartition("/")
        try:
            found = sorted(Path(f"{folder}{slash}" or ".").iterdir())
        except OSError:
            return []
        found = [path for path in found if path.name.startswith(start) and (start or path.name[0] != ".")]
        folders = [path for path in found if path.is_dir()]
        files = [path for path in found if path.suffix in suffixes and path not in folders]
        names = [path.name for path in files] + [f"{path.name}/" for path in folders if files]
        return [f"{folder}{slash}{name}" for name in names]

    return complete
