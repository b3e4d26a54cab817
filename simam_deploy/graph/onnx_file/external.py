"""Weights in files beside the model: the allowed locations, and the only code that opens them.

A location is a regular file below the model's folder, with no symbolic link on the way. Hard links are regular files.
The rule holds for every tensor of the message: initialisers, node attributes, function defaults, sparse tensors,
subgraphs.
"""

from __future__ import annotations

import errno
import math
import ntpath
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from simam_deploy.artifacts.opening import SpecialFileError, opened_below
from simam_deploy.errors import ModelFileError
from simam_deploy.graph.traverse import messages

_NUMBER = re.compile(r"[0-9]{1,19}")
"""Numbers that all readers parse alike."""


class Place(NamedTuple):
    """Location of the values of a tensor: `length` bytes from `offset` on, in a file relative to the model."""

    location: str
    offset: int
    length: int


def is_outside(tensor: onnx.TensorProto) -> bool:
    """Whether the values of `tensor` are in another file."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL


def outside(proto: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Every tensor of `proto` with values in another file."""
    return [m for m in messages(proto) if isinstance(m, onnx.TensorProto) and is_outside(m)]


def files(proto: onnx.ModelProto, source: Path) -> set[Path]:
    """Files other than `source` that hold weights of its model."""
    return {source.parent / _entries(tensor, str(source)).get("location", "") for tensor in outside(proto)}


def check(tensors: Iterable[onnx.TensorProto], source: Path) -> None:
    """Raise ModelFileError for weights in a location that is not allowed, or in a file that is too short.

    tensors : all tensors of the model in `source` that are `outside`.
    """
    sizes: dict[str, int] = {}
    for tensor in tensors:
        place = _place(tensor, str(source))
        if place.location not in sizes:
            with opened(source.parent, place.location, str(source)) as stream:
                sizes[place.location] = os.fstat(stream.fileno()).st_size
        _refuse_short(place, sizes[place.location], source.parent, source.name)


def bring_in(proto: onnx.ModelProto, source: Path) -> None:
    """Read the values of every tensor into `proto`, in place."""
    for tensor in outside(proto):
        place = _place(tensor, str(source))
        with opened(source.parent, place.location, str(source)) as stream:
            _refuse_short(place, os.fstat(stream.fileno()).st_size, source.parent, source.name)
            stream.seek(place.offset)
            tensor.raw_data = stream.read(_bytes(tensor, str(source)))
        tensor.ClearField("data_location")
        del tensor.external_data[:]


def put_beside(proto: onnx.ModelProto, source: Path, folder: Path) -> None:
    """Put the weights of `proto`, read from `source`, into `folder` under new names. Changes `proto`.

    Makes hard links to the checked files, or copies on file systems without links.
    """
    names: dict[str, str] = {}
    for tensor in outside(proto):
        for entry in tensor.external_data:
            if entry.key == "location":
                if entry.value not in names:
                    names[entry.value] = f"weights_{len(names)}"
                    with opened(source.parent, entry.value, str(source)) as stream:
                        _link_or_copy(stream, source.parent / entry.value, folder / names[entry.value])
                entry.value = names[entry.value]


def opened(folder: Path, location: str, owner: str) -> BinaryIO:
    """Open the file at `location` below `folder`. Raises ModelFileError. owner : the reader to name in the error."""
    try:
        return opened_below(folder, _parts(location, owner))
    except FileNotFoundError:
        why = f"which is missing; put it back into {folder}/"
    except SpecialFileError as error:
        why = (
            f"which {error.strerror}, or behind one; that is refused, as a model could so read any file: "
            "put the file itself there (cp -L)"
            if error.errno == errno.ELOOP
            else f"which {error.strerror} and no file"
        )
    except IsADirectoryError:
        why = "which is a folder and no file"
    except OSError as error:
        why = f"which cannot be read: {error.strerror}"
    raise ModelFileError(f"{owner} keeps its weights in {location}, {why}")


def copy(tensor: ir.ExternalTensor, to: BinaryIO) -> None:
    """Write the bytes of `tensor` from file to file. Pages of a memory map would count as memory in use."""
    with _at(tensor) as source:
        left = tensor.nbytes
        while left:
            block = source.read(min(left, 2**20))
            if not block:
                raise OSError(errno.EIO, "it became shorter while it was read", str(tensor.path))
            to.write(block)
            left -= len(block)


def in_memory(tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    """Copy `tensor` with its values in memory, without an open file."""
    with _at(tensor) as source:
        raw = source.read(tensor.nbytes)
    proto = onnx.TensorProto(name=tensor.name, data_type=tensor.dtype.value, dims=tensor.shape.numpy(), raw_data=raw)
    proto.doc_string = tensor.doc_string or ""
    return ir.TensorProtoTensor(proto)


class Companion(ir.ExternalTensor):
    """Weights in a file beside the model, checked and mapped into memory on first use.

    The class of onnx_ir opens any path, and refuses hard links.
    """

    __slots__ = ()

    @classmethod
    def of(cls, tensor: ir.ExternalTensor, folder: Path) -> Companion:
        """`tensor` of a model in `folder`."""
        return cls(
            tensor.location,
            tensor.offset,
            tensor.length,
            tensor.dtype,
            shape=ir.Shape(tensor.shape),
            name=tensor.name,
            doc_string=tensor.doc_string,
            metadata_props=dict(tensor.metadata_props),
            base_dir=folder,
        )

    def _load(self) -> None:
        kind = self.dtype.numpy()
        if self.size == 0 or self.dtype.bitwidth < 8:
            self._array = in_memory(self).numpy()
            return
        with _at(self) as stream:
            raw: NDArray[Any] = np.memmap(stream, np.uint8, "r", self.offset or 0, (self.nbytes,))
        self._array = np.asarray(raw).view(kind.newbyteorder("<")).reshape(self.shape.numpy())

    def tobytes(self) -> bytes:
        """Bytes of the tensor, read from the file."""
        with _at(self) as stream:
            return stream.read(self.nbytes)


def _at(tensor: ir.ExternalTensor) -> BinaryIO:
    """The open file of `tensor`, at the start of its values."""
    folder = Path(tensor.base_dir)
    place = Place(os.fspath(tensor.location), tensor.offset or 0, tensor.nbytes)
    stream = opened(folder, place.location, f"the model in {folder}")
    try:
        _refuse_short(place, os.fstat(stream.fileno()).st_size, folder, "the model")
        stream.seek(place.offset)
    except BaseException:
        stream.close()
        raise
    return stream


def _parts(location: str, owner: str) -> tuple[str, ...]:
    paths = (PurePosixPath(location), PureWindowsPath(location))  # files travel
    if any(path.anchor or ".." in path.parts for path in paths):
        inside = not any(path.anchor for path in paths) and ntpath.normpath(location).split("\\")[0] != ".."
        where = "by way of '..', which is not followed" if inside else "outside its own folder"
        raise ModelFileError(
            f"{owner} wants weights from {location}, {where}; that is refused, as a model could so read any file"
        )
    if not paths[0].parts or "\0" in location or "*" in location:  # the last is ONNX Runtime's mark for an address
        raise ModelFileError(f"{owner} is damaged: it wants weights from {location!r}, which names no file")
    return paths[0].parts


def _entries(tensor: onnx.TensorProto, owner: str) -> dict[str, str]:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if len(entries) < len(tensor.external_data):
        raise ModelFileError(f"{owner} is damaged: it says twice where its weights {tensor.name!r} are")
    return entries


def _place(tensor: onnx.TensorProto, owner: str) -> Place:
    """Location of the values of `tensor`. Raises ModelFileError if it is invalid, or too short for the tensor."""
    entries = _entries(tensor, owner)
    for key in ("offset", "length"):
        if key in entries and not _NUMBER.fullmatch(entries[key]):
            raise ModelFileError(
                f"{owner} is damaged: its weights {tensor.name!r} have the {key} {entries[key][:80]!r}, "
                "which is no number of bytes"
            )
    location, needed = entries.get("location", ""), _bytes(tensor, owner)
    length = int(entries.get("length", needed))
    if length < needed:
        raise ModelFileError(
            f"{owner} is damaged: its weights {tensor.name!r} take {needed} bytes, "
            f"and it asks for {length} bytes of {location}"
        )
    return Place(location, int(entries.get("offset", 0)), length)


def _bytes(tensor: onnx.TensorProto, owner: str) -> int:
    if any(size < 0 for size in tensor.dims):
        raise ModelFileError(
            f"{owner} is damaged: its weights {tensor.name!r} have the shape {list(tensor.dims)[:20]}"
        )
    try:
        kind = ir.DataType(tensor.data_type)
        return int(-(-math.prod(tensor.dims) * kind.bitwidth // 8))
    except (ValueError, TypeError):  # no such type, or strings, which have no fixed size
        raise ModelFileError(
            f"{owner} is damaged: its weights {tensor.name!r} of type {tensor.data_type} cannot be in another file"
        ) from None


def _refuse_short(place: Place, size: int, folder: Path, owner: str) -> None:
    if size < (needed := place.offset + place.length):
        held = folder / place.location
        raise ModelFileError(f"{held} is truncated: {owner} needs {needed} bytes of it, it has {size}")


def _link_or_copy(stream: BinaryIO, path: Path, to: Path) -> None:
    try:
        os.link(path, to, follow_symlinks=False)
        if os.path.samestat(to.lstat(), os.fstat(stream.fileno())):
            return
        to.unlink()
    except (OSError, NotImplementedError):  # no links here: a copy of what is open
        pass
    with to.open("xb") as copied:
        shutil.copyfileobj(stream, copied, 2**20)
