"""Reading an ONNX file far enough to say what it takes, what it returns and what it needs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import onnx

from simam_deploy.artifacts import manifest
from simam_deploy.errors import InputError, RuntimeUnavailable
from simam_deploy.formula import BLOCKED_DOMAIN, OP_DOMAIN, OP_NAME
from simam_deploy.graph import onnx_file
from simam_deploy.graph.traverse import nodes
from simam_deploy.runtimes.session import TensorSpec
from simam_deploy.text import on_one_line

DOMAINS = (OP_DOMAIN, BLOCKED_DOMAIN)
"""Of our operators: the second has them on ONNX Runtime's blocked layout. Their names begin with OP_NAME."""


def read(artifact: object, runtime: str) -> tuple[Path, onnx.ModelProto]:
    """The path and the model, without the weights kept in other files.

    Raises InputError if artifact is no path, ModelFileError as `onnx_file.read`.
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
    """What the file was specialised for; None if it is portable."""
    return manifest.specialised({entry.key: entry.value for entry in model.metadata_props})


def ours(model: onnx.ModelProto) -> int:
    """How many nodes of our operators a runtime sees when every other function is replaced by its body."""
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


def without_body(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes of our domains for which the file holds no function: form custom_op."""
    bodies = {(f.domain, f.name, f.overload) for f in model.functions}
    return [n for n in nodes(model) if n.domain in DOMAINS and (n.domain, n.op_type, n.overload) not in bodies]


def refuse_without_body(model: onnx.ModelProto, path: Path, runtime: str, why: str = "") -> None:
    """Raise RuntimeUnavailable if the file has nodes of ours that only a kernel library can run.

    why : there is none; it takes no libraries if "".
    """
    if bare := without_body(model):
        names = sorted({on_one_line(f"{node.domain}.{node.op_type}") for node in bare})
        where = on_one_line(bare[0].name or bare[0].output[0])
        raise RuntimeUnavailable(
            f"{runtime} cannot run {path}: {', '.join(names)} (form custom_op, {len(bare)} nodes, the first at "
            f"'{where}') has no body in the file, and {why or f'{runtime} has no kernel for it'}; use --form function"
        )


def input_specs(model: onnx.ModelProto, path: Path) -> tuple[TensorSpec, ...]:
    """What the model takes. Old files list their weights among the inputs: these are left out."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return tuple(_spec(value, path) for value in model.graph.input if value.name not in weights)


def output_specs(model: onnx.ModelProto, path: Path) -> tuple[TensorSpec, ...]:
    """What the model returns."""
    return tuple(_spec(value, path) for value in model.graph.output)


def _spec(value: onnx.ValueInfoProto, path: Path) -> TensorSpec:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.elem_type:
        declared = value.type.WhichOneof("value") or "nothing"
        raise InputError(f"{path}: {value.name!r} is declared as {declared}; only typed tensors can be fed and read")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    shape: list[int | str | None] = [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else dim.dim_param or None
        for dim in kind.shape.dim  # below 0 is dynamic, as ONNX Runtime takes it
    ]
    return TensorSpec(value.name, dtype, tuple(shape) if kind.HasField("shape") else None)
