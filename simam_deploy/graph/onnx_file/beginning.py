"""Quick test whether a file may be an ONNX protobuf message, by its first fields."""

from __future__ import annotations

from typing import BinaryIO

MOST_FIELDS = 200
"""Upper bound on the fields that are read, of the model and of its graph."""
_GRAPH = 7
"""Field number of the graph in a model."""
_VARINT, _FIXED64, _LENGTH, _START, _END, _FIXED32 = range(6)


def reason_against(stream: BinaryIO, size: int) -> str:
    """Reason why the `size` bytes of `stream` are no model, from their first fields; "" without one.

    Field numbers start at 1, so no field begins with a zero. Leaves the stream at its start.
    """
    try:
        _look(stream, size, graph=_GRAPH)
    except ValueError as error:
        return str(error)
    finally:
        stream.seek(0)
    return ""


def _look(stream: BinaryIO, end: int, graph: int | None = None) -> None:
    """Read the fields from the current position, and those of the graph. Raises ValueError."""
    for _ in range(MOST_FIELDS):
        at = stream.tell()
        if at >= end:
            return
        number, kind = divmod(_varint(stream, at), 8)
        if kind == _START and number:  # a group, an obsolete kind
            return
        if not number or kind in (_END, 6, 7):
            raise ValueError(f"no field begins at byte {at:,}")
        length = {_FIXED64: 8, _FIXED32: 4}.get(kind, 0)
        if kind == _VARINT:
            _varint(stream, at)
        elif kind == _LENGTH:
            length = _varint(stream, at)
        behind = stream.tell() + length
        if behind > end:
            raise ValueError(f"the field at byte {at:,} has {length:,} bytes, more than there are")
        if kind == _LENGTH and number == graph:
            _look(stream, behind)
        stream.seek(behind)


def _varint(stream: BinaryIO, field: int) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            break
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise ValueError(f"the field at byte {field:,} does not end")
