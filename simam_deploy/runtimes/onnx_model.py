"""Inputs, outputs and requirements of an ONNX file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import onnx

from simam_deploy.artifacts import manifest
from simam_deploy.errors import InputError, RuntimeUnavailable
from simam_deploy.formula import BLOCKED_DOMAIN, INT8_DOMAIN, OP_DOMAIN, OP_NAME
from simam_deploy.graph import onnx_file
from simam_deploy.graph.traverse import nodes
from simam_deploy.runtimes.session import TensorSpec
from simam_deploy.text import on_one_line

DOMAINS = (OP_DOMAIN, BLOCKED_DOMAIN, INT8_DOMAIN)
"""Domains of our operators. Their names begin with OP_NAME."""


def read(artifact: object, runtime: str) -> tuple[Path, onnx.ModelProto]:
    """Path and model, without weights in other files.

    Raises InputError if artifact is no path, RuntimeUnavailable for a specialised file outside ort, ModelFileError as
    `onnx_file.read`.
    """
    if not isinstance(artifact, str | os.PathLike):
        raise InputError(f"runtime {runtime!r} opens the path of an ONNX file; got {type(artifact).__name__}")
    path = Path(artifact)
    model = onnx_file.read(path)
    if runtime != "ort" and (mark := specialisation(model)):
        raise RuntimeUnavailable(
            f"{runtime} cannot run {path}: it was specialised for ONNX Runtime on {mark.get('machine')}; "
            "open the portable file that it was made from"
        )
    return path, model


def specialisation(model: onnx.ModelProto) -> manifest.Record | None:
    """Record of the specialisation of a file; None if it is portable."""
    return manifest.specialised({entry.key: entry.value for entry in model.metadata_props})


def ours(model: onnx.ModelProto) -> int:
    """Number of nodes of our operators after inlining all other functions."""
    bodies = {(f.domain, f.name, f.overload): f for f in model.functions}

    def count(sequence: Iterable[onnx.NodeProto]) -> int:
        total = 0
        for node in sequence:
            if node.domain in DOMAINS and node.op_type.startswith(OP_NAME):
                total += 1
            elif body := bodies.get((node.domain, node.op_type, node.overload)):
                total += count(body.node)
            total += sum(count(g.node) for a in node.attribute for g in ([a.g] if a.HasField("g") else a.graphs))
        return total

    return count(model.graph.node)


def without_fallback(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Nodes of our domains without a fallback definition in the file: form custom_op."""
    bodies = {(f.domain, f.name, f.overload) for f in model.functions}
    return [n for n in nodes(model) if n.domain in DOMAINS and (n.domain, n.op_type, n.overload) not in bodies]


def refuse_without_fallback(model: onnx.ModelProto, path: Path, runtime: str, why: str = "") -> None:
    """Raise RuntimeUnavailable if a node of ours has no fallback definition.

    why : reason why there is no kernel library; "" for a runtime without such libraries.
    """
    if bare := without_fallback(model):
        names = sorted({on_one_line(f"{node.domain}.{node.op_type}") for node in bare})
        where = on_one_line(bare[0].name or bare[0].output[0])
        raise RuntimeUnavailable(
            f"{runtime} cannot run {path}: {', '.join(names)} (form custom_op, {len(bare)} nodes, the first at "
            f"'{where}') has no fallback definition in the file, and {why or f'{runtime} has no kernel for it'}; "
            "use --form function"
        )


def input_specs(model: onnx.ModelProto, path: Path) -> tuple[TensorSpec, ...]:
    """Inputs of the model, without weights, which old files list among them."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return tuple(_spec(value, path) for value in model.graph.input if value.name not in weights)


def output_specs(model: onnx.ModelProto, path: Path) -> tuple[TensorSpec, ...]:
    """Outputs of the model."""
    return tuple(_spec(value, path) for value in model.graph.output)


def _spec(value: onnx.ValueInfoProto, path: Path) -> TensorSpec:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.elem_type:
        declared = value.type.WhichOneof("value") or "nothing"
        raise InputError(f"{path}: {value.name!r} is declared as {declared}; only typed tensors can be fed and read")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    shape: list[int | str | None] = [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else dim.dim_param or None
        for dim in kind.shape.dim  # a negative size is dynamic, as in ONNX Runtime
    ]
    return TensorSpec(value.name, dtype, tuple(shape) if kind.HasField("shape") else None)
