"""Writing an ONNX file weight by weight, so that no second copy of the weights is ever in memory.

A protobuf message is a row of fields, each with its number and length in front; their order is free, and a later one
replaces an earlier one. So the graph is written without its weights, and they behind it, one after the other: those
that are in other files straight from there.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import BinaryIO

import onnx
import onnx_ir as ir


def without_values(tensor: ir.TensorProtocol) -> ir.ExternalTensor:
    """A tensor of that type and shape which says that its values are in a file. There is no such file."""
    shape = ir.Shape(tensor.shape.numpy())
    return ir.ExternalTensor("", None, None, tensor.dtype, shape=shape, name=tensor.name or "")


def write_inline(model: ir.Model, path: Path) -> None:
    """Write `model` with all its weights to `path`, a single file. The weights of `model` itself get lost."""
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
    body = proto.graph.SerializeToString()
    proto.ClearField("graph")
    number = onnx.GraphProto.INITIALIZER_FIELD_NUMBER
    size = len(body) + sum(len(_front(number, weight.length)) + weight.length for weight in weights)
    with path.open("wb") as stream:
        stream.write(proto.SerializeToString() + _front(onnx.ModelProto.GRAPH_FIELD_NUMBER, size) + body)
        for weight in weights:
            stream.write(_front(number, weight.length))
            weight.write(stream)


class _Weight:
    """A tensor as the bytes of a TensorProto: `length` of them."""

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
        if isinstance(self._tensor, ir.ExternalTensor):
            _copy(self._tensor, stream)
        elif self._whole is None:
            stream.write(self._tensor.tobytes())


def in_memory(tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    """The same values, and no open file."""
    return ir.Tensor(tensor.numpy().copy(), dtype=tensor.dtype, name=tensor.name, doc_string=tensor.doc_string)


def _copy(tensor: ir.ExternalTensor, stream: BinaryIO) -> None:
    """From file to file: pages of a mapped one would count as memory in use."""
    with Path(tensor.path).open("rb") as source:
        source.seek(tensor.offset or 0)
        left = tensor.nbytes
        while left:
            block = source.read(min(left, 2**20))
            if not block:
                raise OSError(errno.EIO, "it became shorter while it was read", str(tensor.path))
            stream.write(block)
            left -= len(block)


def _front(number: int, length: int) -> bytes:
    """What stands in front of `length` bytes that are field `number` of a message."""
    made = bytearray()
    for value in (number << 3 | 2, length):
        left = value
        while left > 0x7F:
            made.append(left & 0x7F | 0x80)
            left >>= 7
        made.append(left)
    return bytes(made)
