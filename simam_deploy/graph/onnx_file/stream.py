"""Write an ONNX file weight by weight, without a second copy of the weights in memory.

A protobuf message is a sequence of fields with number and length, in any order. So the graph is written without its
weights, and the weights follow one by one. Weights in other files are copied from file to file.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import onnx
import onnx_ir as ir

from simam_deploy.artifacts.manifest import data_file
from simam_deploy.artifacts.opening import opened, sha256
from simam_deploy.graph.onnx_file.external import copy, in_memory

_LEAST, _PAGE = 1024, 4096
"""Bytes. Smaller weights stay in the model; larger ones begin at a page, so that they can be mapped."""


def without_values(tensor: ir.TensorProtocol) -> ir.ExternalTensor:
    """A tensor of that type and shape with values in a file that does not exist."""
    shape = ir.Shape(tensor.shape.numpy())
    return ir.ExternalTensor("", None, None, tensor.dtype, shape=shape, name=tensor.name or "")


def write_inline(model: ir.Model, path: Path) -> None:
    """Write `model` with all weights to one file at `path`. Destroys the weights of `model`."""
    weights: list[_Weight] = []
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None and graph is model.graph:
                weights.append(_Weight(value.const_value, str(value.name)))
                value.const_value = without_values(value.const_value)
            elif isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = in_memory(value.const_value)
    proto = ir.to_proto(model)
    del proto.graph.initializer[:]
    graph_bytes = proto.graph.SerializeToString()
    proto.ClearField("graph")
    number = onnx.GraphProto.INITIALIZER_FIELD_NUMBER
    size = len(graph_bytes) + sum(len(_front(number, weight.length)) + weight.length for weight in weights)
    with path.open("wb") as stream:
        stream.write(proto.SerializeToString() + _front(onnx.ModelProto.GRAPH_FIELD_NUMBER, size) + graph_bytes)
        for weight in weights:
            stream.write(_front(number, weight.length))
            weight.write(stream)


def write_beside(model: ir.Model, path: Path) -> None:
    """Write `model` to `path`, and its weights to `<path>.<hash>.data`. Destroys the weights of `model`.

    The hash of the content keeps the files of an older model in place until the model itself is replaced.
    """
    data = path.with_name(f"{path.name}.data")
    places: list[tuple[ir.Value, int]] = []
    with data.open("wb") as stream:
        for graph in model.graphs():
            for value in graph.initializers.values():
                tensor = value.const_value
                if tensor is not None and not isinstance(tensor, ir.StringTensor) and tensor.nbytes >= _LEAST:
                    stream.write(bytes(-stream.tell() % _PAGE))
                    places.append((value, stream.tell()))
                    _write_values(tensor, stream)
                elif isinstance(tensor, ir.ExternalTensor):
                    value.const_value = in_memory(tensor)
    with opened(data) as written:
        digest = sha256(written)
    named = data.rename(data_file(path, digest))
    for value, offset in places:
        tensor = value.const_value
        assert tensor is not None
        value.const_value = ir.ExternalTensor(
            named.name,
            offset,
            tensor.nbytes,
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=str(value.name),
            doc_string=tensor.doc_string,
            metadata_props=dict(tensor.metadata_props),
        )
    path.write_bytes(ir.to_proto(model).SerializeToString())


def _write_values(tensor: ir.TensorProtocol, stream: BinaryIO) -> None:
    if isinstance(tensor, ir.ExternalTensor):
        copy(tensor, stream)
    else:
        stream.write(tensor.tobytes())


class _Weight:
    """A tensor as the bytes of a TensorProto, `length` of them."""

    def __init__(self, tensor: ir.TensorProtocol, name: str) -> None:
        self._whole: onnx.TensorProto | None = None
        self._tensor = tensor
        head = onnx.TensorProto(name=name)
        if isinstance(tensor, ir.StringTensor):
            self._whole = ir.serde.serialize_tensor(tensor)
        elif isinstance(tensor, ir.TensorProtoTensor) and not tensor.raw.HasField("raw_data"):
            self._whole = tensor.raw
        else:
            head.data_type, head.doc_string = tensor.dtype.value, tensor.doc_string or ""
            head.dims.extend(tensor.shape.numpy())
            for key, value in tensor.metadata_props.items():
                head.metadata_props.add(key=key, value=value)
        self._head = head.SerializeToString()
        if self._whole is None:
            self._head += _front(onnx.TensorProto.RAW_DATA_FIELD_NUMBER, tensor.nbytes)
        self.length = len(self._head) + (tensor.nbytes if self._whole is None else self._whole.ByteSize())

    def write(self, stream: BinaryIO) -> None:
        """Write the bytes."""
        if self._whole is not None:
            stream.write(self._whole.SerializeToString())
        stream.write(self._head)
        if self._whole is None:
            _write_values(self._tensor, stream)


def _front(number: int, length: int) -> bytes:
    """Header of field `number` of a message, with `length` bytes of content."""
    made = bytearray()
    for value in (number << 3 | 2, length):
        left = value
        while left > 0x7F:
            made.append(left & 0x7F | 0x80)
            left >>= 7
        made.append(left)
    return bytes(made)
