"""ONNX files in and out: opened with every way to be broken put into words, saved whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from simam_deploy.errors import ModelFileError, SimAMDeployError
from simam_deploy.onnx_stream import in_memory, write_inline
from simam_deploy.walk import nodes

PROTOBUF_LIMIT = 2**31 - 64 * 2**20
"""Weights beyond this go to a file of their own: a protobuf message ends at 2 GiB, and the graph needs some."""


def load(path: str | os.PathLike[str]) -> ir.Model:
    """Open an ONNX file; weights stay on the disk until they are used.

    Raises ModelFileError: no such file, not ONNX or truncated, an IR version or opset newer than the installed onnx,
    weights in a file that is missing, too short, or outside the model's folder.
    """
    return _open(Path(path))[1]


def read(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """The same file as a protobuf message, for those who hand it on. Checked alike, raises alike."""
    return _open(Path(path))[0]


def _open(source: Path) -> tuple[onnx.ModelProto, ir.Model]:
    try:
        proto = onnx.load(source, format="protobuf", load_external_data=False)
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
        _check(model, source)
    except ModelFileError:
        raise
    except Exception as error:  # onnx_ir raises many types on malformed graphs
        raise ModelFileError(f"{source} is not a valid ONNX file: {_root(error)}") from error
    return proto, model


@contextmanager
def blaming(path: str | os.PathLike[str]) -> Iterator[None]:
    """An unexpected exception inside the block is the file's fault if the onnx checker refuses the file.

    Then ModelFileError is raised in its place; otherwise it is a defect of ours and keeps its trace. The checker is
    not asked beforehand, as it is stricter than the runtimes that a file may have been made for.
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
    """What an exception began with: the outer ones only say in which function."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error


def save(model: ir.Model, path: str | os.PathLike[str]) -> None:
    """Write `model` to `path`, a path inside `files.staging`.

    One file while the weights fit into 2 GiB, otherwise they go to `<path>.data`. The model is not changed.
    """
    target = Path(path)
    copy = model.clone()
    _inline_attributes(copy)
    if weight_bytes(model) > PROTOBUF_LIMIT:
        ir.save(copy, target, format="protobuf", external_data=f"{target.name}.data")
    else:
        write_inline(copy, target)


def weight_files(model: ir.Model) -> set[Path]:
    """The files besides the model's own that hold its weights."""
    return {Path(tensor.path) for tensor in _tensors(model) if isinstance(tensor, ir.ExternalTensor)}


def weight_bytes(model: ir.Model) -> int:
    """Size of all initialisers in bytes."""
    return sum(
        v.const_value.nbytes for g in model.graphs() for v in g.initializers.values() if v.const_value is not None
    )


def half_types(model: ir.Model) -> list[str]:
    """Names of the 16-bit float types among the inputs, outputs and weights."""
    values = [
        *model.graph.inputs,
        *model.graph.outputs,
        *(v for g in model.graphs() for v in g.initializers.values()),
    ]
    held = {v.const_value.dtype if v.const_value is not None else v.dtype for v in values}
    return sorted(dtype.name for dtype in held if dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16))


def _refuse_unknown(proto: onnx.ModelProto, source: Path) -> None:
    if not proto.ir_version or not proto.HasField("graph"):
        raise ModelFileError(f"{source} is not an ONNX file, or is truncated: it holds no graph")
    if proto.ir_version > onnx.IR_VERSION:
        raise ModelFileError(
            f"{source} has IR version {proto.ir_version}; the installed onnx {onnx.__version__} reads up to "
            f"{onnx.IR_VERSION}\npip install --upgrade onnx"
        )
    imports = (*proto.opset_import, *(e for function in proto.functions for e in function.opset_import))
    for entry in (*imports, *nodes(proto)):
        if entry.domain == "ai.onnx":  # the long name of the default domain
            entry.domain = ""
    newest = onnx.defs.onnx_opset_version()
    opset = {entry.domain: entry.version for entry in proto.opset_import}.get("")
    if opset is None:
        raise ModelFileError(f"{source} names no opset: it is truncated, or holds no standard ONNX operators")
    if opset > newest:
        raise ModelFileError(
            f"{source} has opset {opset}; the installed onnx {onnx.__version__} knows up to {newest}\n"
            "pip install --upgrade onnx"
        )


def _check(model: ir.Model, source: Path) -> None:
    for tensor in _tensors(model):
        if isinstance(tensor, ir.ExternalTensor):
            tensor.base_dir = source.parent
            _check_external(tensor, source)
        elif isinstance(tensor, ir.TensorProtoTensor):
            _check_inline(tensor, source)
    for graph in _roots(model):
        read = [(value, f"node {n.name!r} ({n.op_type})") for n in graph.all_nodes() for value in n.inputs]
        for value, reader in [*read, *((value, f"the output of {graph.name!r}") for value in graph.outputs)]:
            if value is None or value.producer() is not None or value.is_graph_input() or value.is_initializer():
                continue
            raise ModelFileError(f"{source} is damaged: {reader} reads {value.name!r}, which nothing makes")


def _roots(model: ir.Model) -> list[ir.Graph | ir.Function]:
    return [model.graph, *model.functions.values()]


def _tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value
    for _, attribute in _tensor_attributes(model):
        yield from attribute.as_tensors() if attribute.type is ir.AttributeType.TENSORS else [attribute.as_tensor()]


def _tensor_attributes(model: ir.Model) -> Iterator[tuple[ir.Node, ir.Attr]]:
    """Of every node, inside functions and sub-graphs too."""
    for graph in _roots(model):
        for node in graph.all_nodes():
            for attribute in node.attributes.values():
                tensors = attribute.type in (ir.AttributeType.TENSOR, ir.AttributeType.TENSORS)
                if tensors and not attribute.is_ref():
                    yield node, attribute


def _inline_attributes(model: ir.Model) -> None:
    """Read what nodes keep in other files: those files stay with the old model."""
    for node, attribute in list(_tensor_attributes(model)):
        one = attribute.type is ir.AttributeType.TENSOR
        tensors = [attribute.as_tensor()] if one else list(attribute.as_tensors())
        if any(isinstance(tensor, ir.ExternalTensor) for tensor in tensors):
            held = [in_memory(t) if isinstance(t, ir.ExternalTensor) else t for t in tensors]
            node.attributes[attribute.name] = ir.Attr(attribute.name, attribute.type, held[0] if one else held)


def _check_inline(tensor: ir.TensorProtoTensor, source: Path) -> None:
    if tensor.raw.HasField("raw_data") and len(tensor.raw.raw_data) != tensor.nbytes:
        raise ModelFileError(
            f"{source} is damaged: its weights {tensor.name!r} are {len(tensor.raw.raw_data)} bytes, "
            f"where {tensor.dtype.name} {list(tensor.shape)} takes {tensor.nbytes}"
        )


def _check_external(tensor: ir.ExternalTensor, source: Path) -> None:
    location = (PurePosixPath(tensor.location), PureWindowsPath(tensor.location))  # files travel
    if any(path.anchor or ".." in path.parts for path in location):
        raise ModelFileError(
            f"{source} wants its weights {tensor.name!r} from {tensor.location}, outside its own folder; "
            "that is refused, as a file could so read any other"
        )
    held = Path(tensor.path)
    if not held.is_file():
        raise ModelFileError(
            f"{source} keeps its weights in {tensor.location}, which is missing; put it back into {source.parent}/"
        )
    length = tensor.nbytes if tensor.length is None else tensor.length
    if length < tensor.nbytes:
        raise ModelFileError(
            f"{source} is damaged: its weights {tensor.name!r} take {tensor.nbytes} bytes, "
            f"and it asks for {length} bytes of {held.name}"
        )
    needed = (tensor.offset or 0) + length
    if held.stat().st_size < needed:
        raise ModelFileError(
            f"{held} is truncated: {source.name} needs {needed} bytes of it, it has {held.stat().st_size}"
        )
