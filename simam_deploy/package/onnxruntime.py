"""ONNX Runtime: a Python program that runs the file, and the options of its TensorRT provider."""

from __future__ import annotations

from pathlib import Path

import onnx

from simam_deploy.errors import InputError
from simam_deploy.package.facts import Facts, TensorFacts
from simam_deploy.package.quoting import library
from simam_deploy.package.trtexec import shape_list

NUMBERS = {
    "FLOAT": "float32",
    "FLOAT16": "float16",
    "DOUBLE": "float64",
    "BOOL": "bool_",
    **{f"{sign}INT{bits}": f"{sign}int{bits}".lower() for sign in ("", "U") for bits in (8, 16, 32, 64)},
}
"""ONNX's name of a type -> NumPy's."""


def program(facts: Facts, plugin: Path | None) -> str:
    """The program. Raises InputError for inputs of types that NumPy lacks."""
    feeds = (f"    {tensor.name!r}: np.zeros({facts.best(tensor)}, np.{_type(tensor)})," for tensor in facts.inputs)
    loaded = [f"options.register_custom_ops_library({library(plugin)!r})"] if plugin else []
    return "\n".join(
        (
            f"# Runs {facts.title} in ONNX Runtime on the CPU.",
            "import numpy as np",
            "import onnxruntime",
            "",
            "options = onnxruntime.SessionOptions()",
            *loaded,
            'providers = ["CPUExecutionProvider"]',
            f"session = onnxruntime.InferenceSession({str(facts.path)!r}, options, providers=providers)",
            "feeds = {",
            *feeds,
            "}",
            "for output, value in zip(session.get_outputs(), session.run(None, feeds)):",
            "    print(output.name, value.shape, value.dtype)",
            "",
            '# With TensorRT: providers = [("TensorrtExecutionProvider", tensorrt), *providers]',
            "# Checked as text alone: no GPU has run it. It sets no precision: the types are those of the file.",
            *facts.remarks,
            "tensorrt = {",
            *(f"    {name!r}: {value!r}," for name, value in _tensorrt(facts).items()),
            "}",
            "",
        )
    )


def notes(plugin: Path | None) -> list[str]:
    """Remarks on the library."""
    if plugin is None:
        return ["SimAM runs as its fallback definition; --plugin LIB takes our op library, with the kernel"]
    return ["the TensorRT provider takes no node of ours for a plugin; there, SimAM runs as its fallback definition"]


def _tensorrt(facts: Facts) -> dict[str, str]:
    """Options of the provider; engines are kept, since their build takes minutes."""
    options = {"trt_engine_cache_enable": "True", "trt_engine_cache_path": "engines"}
    if facts.profiles:
        for end in ("min", "opt", "max"):
            shapes = {name: getattr(profile, end) for name, profile in facts.profiles.items()}
            options[f"trt_profile_{end}_shapes"] = shape_list(shapes)
    return options


def _type(tensor: TensorFacts) -> str:
    kind = onnx.TensorProto.DataType.Name(tensor.dtype)
    if kind not in NUMBERS:
        raise InputError(
            f"input {tensor.name!r} is {kind}, and NumPy, by which ONNX Runtime is fed, has no such numbers\n"
            "convert the file with --keep-io, which leaves inputs and outputs in float32"
        )
    return NUMBERS[kind]
