"""Triton Inference Server: a script that lays out a model repository and starts the server."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path

import onnx

from simam_deploy.errors import InputError
from simam_deploy.package.engine_file import EngineFile
from simam_deploy.package.facts import Facts, TensorFacts
from simam_deploy.package.quoting import library, on_one_command_line, printable, protobuf, without

OP_LIBRARY = "our op library, libsimam_onnxruntime.so"
TYPES = {
    "FLOAT": "FP32",
    "FLOAT16": "FP16",
    "BFLOAT16": "BF16",
    "DOUBLE": "FP64",
    "BOOL": "BOOL",
    "STRING": "STRING",
    **{f"{sign}INT{bits}": f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
}
"""ONNX's name of a type -> Triton's."""
END = "END_OF_CONFIG"


def script(facts: Facts, engine: EngineFile | None, plugin: Path | None) -> str:
    """For the ONNX Runtime backend, or with an engine for the TensorRT backend."""
    batch = _batch(facts, engine)
    inputs = tuple(_in_engine(tensor, engine) for tensor in facts.inputs)
    name = printable("the name of the model", facts.path.stem)
    if name.startswith("."):
        raise InputError(f"{facts.path} would be a model called {name!r}, a hidden folder of Triton's\nrename it")
    root = f"models/{name}"
    if engine is None:
        copies = [(facts.path, "model.onnx"), *((file, _beside(file, facts.path)) for file in facts.weights)]
        more = [f"model_operations {{ op_library_filename: {protobuf(library(plugin))} }}"] if plugin else []
        start = []
    else:
        copies = [(engine.path, "model.plan")]
        more = []
        start = (
            [f"--backend-config=tensorrt,plugins={without('the library', library(plugin), ';', 'Triton')}"]
            if plugin
            else []
        )
    folders = sorted({os.path.dirname(f"{root}/1/{to}") for _, to in copies})  # noqa: PTH120
    return "\n".join(
        (
            "#!/bin/sh",
            f"# A model repository of Triton for {facts.title}, and the server.",
            "# Checked as text alone: no Triton has served it.",
            "# max_batch_size 0: the shapes have their batch axis in them. -1 is a dynamic size."
            if not batch
            else f"# The engine's profile has batches of 1 to {batch}; the shapes leave that axis out.",
            "set -e",
            *(f"mkdir -p {shlex.quote(folder)}" for folder in folders),
            *(on_one_command_line("cp", ["--", printable("a file", file), f"{root}/1/{to}"]) for file, to in copies),
            f"cat > {shlex.quote(f'{root}/config.pbtxt')} <<'{END}'",
            f"name: {protobuf(name)}",
            'backend: "onnxruntime"' if engine is None else 'platform: "tensorrt_plan"',
            f"max_batch_size: {batch}",
            *_tensors("input", inputs, batch),
            *_tensors("output", facts.outputs, batch),
            *more,
            END,
            on_one_command_line("tritonserver", ["--model-repository=models", *start]),
            "",
        )
    )


def notes(engine: EngineFile | None, plugin: Path | None) -> list[str]:
    """Remarks on the engine and the library."""
    if engine is not None:
        return [*engine.notes, *_of_plugin(engine, plugin)]
    return _of_plugin(engine, plugin)


def _of_plugin(engine: EngineFile | None, plugin: Path | None) -> list[str]:
    if plugin is None:
        if engine is not None:
            return ["an engine that was built with our plugin needs it here too; name it with --plugin"]
        return ["SimAM runs as its fallback definition; --plugin LIB takes our op library, with the kernel"]
    if engine is None:
        return [f"{plugin} must be {OP_LIBRARY}, under this path where the server runs"]
    return [
        "Triton opens the plugin for all its engines and registers nothing: name the library that registers itself "
        "(autoreg) for the server's TensorRT; docs/howto/tensorrt.md"
    ]


def _beside(file: Path, model: Path) -> str:
    """Place of a file of weights, from the folder of the model."""
    return os.path.relpath(file, model.parent)


def _batch(facts: Facts, engine: EngineFile | None) -> int:
    """The largest batch that Triton may make of requests; 0 where it may make none.

    It may where the first axis is one name in all inputs and outputs, and goes from 1 up in the engine's profile.
    """
    if engine is None or not facts.batched:
        return 0
    ranges = [engine.profiles.get(tensor.name) for tensor in facts.inputs]
    ends = {(shape.min[0], shape.max[0]) for shape in ranges if shape is not None and shape.min}
    if None in ranges or len(ends) != 1:
        return 0
    ((smallest, largest),) = ends
    return largest if smallest == 1 < largest else 0


def _in_engine(tensor: TensorFacts, engine: EngineFile | None) -> TensorFacts:
    """An input with the sizes that the engine's profile fixes."""
    shape = engine.profiles.get(tensor.name) if engine is not None else None
    if shape is None or tensor.dims is None or len(shape.min) != len(tensor.dims) or len(shape.max) != len(shape.min):
        return tensor
    fixed = (
        low if size is None and low == high else size
        for size, low, high in zip(tensor.dims, shape.min, shape.max, strict=True)
    )
    return replace(tensor, dims=tuple(fixed))


def _tensors(what: str, tensors: tuple[TensorFacts, ...], batch: int) -> list[str]:
    return [f"{what} [", ",\n".join(f"  {{ {_tensor(tensor, batch)} }}" for tensor in tensors), "]"]


def _tensor(tensor: TensorFacts, batch: int) -> str:
    kind = onnx.TensorProto.DataType.Name(tensor.dtype)
    if kind not in TYPES:
        raise InputError(f"{tensor.name!r} is {kind}, and Triton has {', '.join(TYPES)}")
    if tensor.dims is None:
        raise InputError(
            f"{tensor.name!r} has no shape in the file, and Triton needs one; onnx.shape_inference writes it"
        )
    dims = ", ".join("-1" if size is None else str(size) for size in tensor.dims[batch > 0 :])
    shape = f"dims: [ {dims} ]" if dims else "dims: [ 1 ] reshape { shape: [ ] }"
    return f"name: {protobuf(tensor.name)} data_type: TYPE_{TYPES[kind]} {shape}"
