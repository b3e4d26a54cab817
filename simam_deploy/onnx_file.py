"""ONNX files in and out: opened with every way to be broken put into words, saved whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from simam_deploy.errors import ModelFileError

PROTOBUF_LIMIT = 2**31 - 64 * 2**20
"""Weights beyond this go to a file of their own: a protobuf message ends at 2 GiB, and the graph needs some."""


def load(path: str | os.PathLike[str]) -> ir.Model:
    """Open an ONNX file; weights stay on the disk until they are used.

    Raises ModelFileError: no such file, not ONNX or truncated, an IR version or opset newer than the installed onnx,
    weights in a file that is missing, too short, or outside the model's folder.
    """
    source = Path(path)
    try:
        proto = onnx.load(source, load_external_data=False)
    except FileNotFoundError:
        raise ModelFileError(f"there is no file {source}") from None
    except IsADirectoryError:
        raise ModelFileError(f"{source} is a folder; give the .onnx file in it") from None
    except OSError as error:
        raise ModelFileError(f"cannot read {source}: {error.strerror}") from error
    except (DecodeError, ValueError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{source} is not an ONNX file, or is truncated: {error}") from error
    _refuse_unknown(proto, source)
    try:
        model = ir.from_proto(proto)
    except Exception as error:  # onnx_ir raises many types on malformed graphs
        raise ModelFileError(f"{source} is not a valid ONNX file: {error}") from error
    for tensor in _external(model):
        tensor.base_dir = source.parent
        _check_external(tensor, source)
    return model


def save(model: ir.Model, path: str | os.PathLike[str]) -> None:
    """Write `model` to `path`, a path inside `files.staging`.

    One file while the weights fit into 2 GiB, otherwise they go to `<path>.data`. The model is not changed.
    """
    target = Path(path)
    if weight_bytes(model) > PROTOBUF_LIMIT:
        ir.save(model, target, external_data=f"{target.name}.data")
    else:
        ir.save(ir.external_data.load_to_model(model.clone()), target)


def weight_files(model: ir.Model) -> set[Path]:
    """The files besides the model's own that hold its weights."""
    return {Path(tensor.path) for tensor in _external(model)}


def weight_bytes(model: ir.Model) -> int:
    """Size of all initialisers in bytes."""
    return sum(
        v.const_value.nbytes for g in model.graphs() for v in g.initializers.values() if v.const_value is not None
    )


def _refuse_unknown(proto: onnx.ModelProto, source: Path) -> None:
    if not proto.ir_version or not proto.HasField("graph"):
        raise ModelFileError(f"{source} is not an ONNX file, or is truncated: it holds no graph")
    if proto.ir_version > onnx.IR_VERSION:
        raise ModelFileError(
            f"{source} has IR version {proto.ir_version}; the installed onnx {onnx.__version__} reads up to "
            f"{onnx.IR_VERSION}\npip install --upgrade onnx"
        )
    newest = onnx.defs.onnx_opset_version()
    opset = {entry.domain: entry.version for entry in proto.opset_import}.get("")
    if opset is None:
        raise ModelFileError(f"{source} names no opset of the default domain: it is truncated, or not a network")
    if opset > newest:
        raise ModelFileError(
            f"{source} has opset {opset}; the installed onnx {onnx.__version__} knows up to {newest}\n"
            "pip install --upgrade onnx"
        )


def _external(model: ir.Model) -> Iterator[ir.ExternalTensor]:
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                yield value.const_value


def _check_external(tensor: ir.ExternalTensor, source: Path) -> None:
    location = PurePosixPath(tensor.location)
    if location.is_absolute() or ".." in location.parts:
        raise ModelFileError(
            f"{source} wants its weights {tensor.name!r} from {tensor.location}, outside its own folder; "
            "that is refused, as a file could so read any other"
        )
    held = Path(tensor.path)
    if not held.is_file():
        raise ModelFileError(
            f"{source} keeps its weights in {held.name}, which is missing; put it back into {source.parent}/"
        )
    needed = (tensor.offset or 0) + (tensor.length or 0)
    if held.stat().st_size < needed:
        raise ModelFileError(
            f"{held} is truncated: {source.name} needs {needed} bytes of it, it has {held.stat().st_size}"
        )
