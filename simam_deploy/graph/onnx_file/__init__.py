"""Read and write ONNX files. Every kind of damage has its own error; a file is saved whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeGuard

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from simam_deploy.artifacts.file_kinds import what_is
from simam_deploy.artifacts.opening import opened
from simam_deploy.errors import ModelFileError, SimAMDeployError
from simam_deploy.graph.onnx_file import constants, external
from simam_deploy.graph.onnx_file.beginning import reason_against
from simam_deploy.graph.onnx_file.check import check_graphs, check_message, cost_of, count_nodes
from simam_deploy.graph.onnx_file.external import bring_in, put_beside
from simam_deploy.graph.onnx_file.stream import write_beside, write_inline

__all__ = [
    "PROTOBUF_LIMIT",
    "blaming",
    "both",
    "bring_in",
    "cost_of",
    "count_nodes",
    "half_types",
    "load",
    "put_beside",
    "read",
    "save",
    "weight_bytes",
    "weight_files",
]

PROTOBUF_LIMIT = 2**31 - 64 * 2**20
"""Bytes. Larger weights go to a separate file: a protobuf message is limited to 2 GiB, graph included."""


def load(path: str | os.PathLike[str]) -> ir.Model:
    """Open an ONNX file. Weights in other files stay on disk until used.

    A negative size in a declared shape counts as unknown.
    Raises ModelFileError: no such file, a device or a pipe, not ONNX or truncated, an IR version or opset newer than
    the installed onnx, an input of size 0, weights in a file that is missing, too short, behind a symbolic link, or
    outside the model's folder.
    """
    return both(path)[1]


def read(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """Open an ONNX file as a protobuf message, with the checks and errors of `load`."""
    return both(path)[0]


def both(path: str | os.PathLike[str]) -> tuple[onnx.ModelProto, ir.Model]:
    """Results of `read` and `load` from one reading. Raises alike."""
    source = Path(path)
    with opened(source, ModelFileError, ".onnx file") as stream:
        if (size := os.fstat(stream.fileno()).st_size) >= 2**31:
            why = f"{source} is not an ONNX file: it has {size:,} bytes, and ONNX files end at 2 GiB"
            raise ModelFileError(what_is(source) or why)
        if reason := reason_against(stream, size):
            raise ModelFileError(what_is(source) or f"{source} is not an ONNX file, or is truncated: {reason}")
        try:
            proto = onnx.load(stream, format="protobuf", load_external_data=False)
        except OSError as error:
            raise ModelFileError(f"cannot read {source}: {error.strerror}") from error
        except (DecodeError, ValueError, UnicodeDecodeError) as error:
            why = f"{source} is not an ONNX file, or is truncated: {error}"
            raise ModelFileError(what_is(source) or why) from error
    check_message(proto, source)
    try:
        model = ir.from_proto(proto)
        check_graphs(model, source)
    except ModelFileError:
        raise
    except Exception as error:  # onnx_ir raises many types on malformed graphs
        raise ModelFileError(f"{source} is not a valid ONNX file: {_root(error)}") from error
    constants.replace(model, lambda t: external.Companion.of(t, source.parent) if _is_outside(t) else t)
    return proto, model


def _is_outside(tensor: ir.TensorProtocol) -> TypeGuard[ir.ExternalTensor]:
    return isinstance(tensor, ir.ExternalTensor)


@contextmanager
def blaming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Replace an unexpected exception inside the block by ModelFileError, if the onnx checker refuses the file.

    Otherwise the exception is a defect of this package and keeps its trace. The checker does not run beforehand: it
    is stricter than the runtimes.
    """
    try:
        yield
    except SimAMDeployError:
        raise
    except Exception as error:
        root = _root(error)
        if isinstance(root, UnicodeDecodeError | onnx.shape_inference.InferenceError):
            raise ModelFileError(f"{path} is not valid ONNX: {root}") from error
        try:
            onnx.checker.check_model(os.fspath(path))
        except Exception as refusal:
            reason = next((line for line in str(refusal).splitlines() if line.strip()), type(refusal).__name__)
            raise ModelFileError(f"{path} is not valid ONNX: {reason}") from error
        raise


def _root(error: BaseException) -> BaseException:
    """Innermost cause of an exception. The outer ones name functions alone."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error


def save(model: ir.Model, path: str | os.PathLike[str]) -> None:
    """Write `model` to `path`, a path inside `atomic.staging`.

    Weights above PROTOBUF_LIMIT go to `<path>.<hash>.data`, with the hash of their content. `model` stays unchanged.
    Raises ModelFileError if weights in other files are no longer as `load` requires.
    """
    copy = model.clone()
    constants.replace_in_attributes(copy, lambda t: external.in_memory(t) if _is_outside(t) else t)
    write = write_beside if weight_bytes(model) > PROTOBUF_LIMIT else write_inline
    write(copy, Path(path))


def weight_files(model: ir.Model | onnx.ModelProto, source: str | os.PathLike[str]) -> set[Path]:
    """Files other than `source` that hold weights of the model."""
    if isinstance(model, onnx.ModelProto):
        return external.files(model, Path(source))
    return {Path(tensor.path) for tensor in constants.tensors(model) if _is_outside(tensor)}


def weight_bytes(model: ir.Model) -> int:
    """Size of all initialisers in bytes."""
    return sum(
        v.const_value.nbytes for g in model.graphs() for v in g.initializers.values() if v.const_value is not None
    )


def half_types(model: ir.Model) -> list[str]:
    """Names of the 16-bit float types of values, weights and casts, also in functions and subgraphs."""
    held: set[ir.DataType | None] = {tensor.dtype for tensor in constants.tensors(model)}
    parts: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for part in parts:
        held |= {value.dtype for value in (*part.inputs, *part.outputs)}
        for node in part.all_nodes():
            held |= {value.dtype for value in node.outputs}
            to = node.attributes.get("to")
            if node.op_type == "Cast" and to is not None and not to.is_ref():
                held.add(ir.DataType(to.as_int()))
    return sorted(half.name for half in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16) if half in held)
