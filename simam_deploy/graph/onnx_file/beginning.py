"""Whether a file may be a protobuf message of ONNX, told by its first fields: a few kilobytes of two gigabytes."""

from __future__ import annotations

from typing import BinaryIO

MOST_FIELDS = 200
"""Of the model, and of its graph, that are looked at."""
_GRAPH = 7
"""The number of that field in a model."""
_VARINT, _FIXED64, _LENGTH, _START, _END, _FIXED32 = range(6)


def reason_against(stream: BinaryIO, size: int) -> str:
    """Why the `size` bytes of `stream` are no model, as far as their beginning tells; "" if it does not.

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
    """Go through the fields from where the stream is, and through those of the graph. Raises ValueError."""
    for _ in range(MOST_FIELDS):
        at = stream.tell()
        if at >= end:
            return
        number, kind = divmod(_varint(stream, at), 8)
        if kind == _START and number:  # a group, which nobody writes any more
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
