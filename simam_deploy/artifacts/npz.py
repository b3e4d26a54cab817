"""Read files of numpy.savez without trust in their headers.

NumPy allocates the size in the header of an array before it reads data, and a few kilobytes of deflated zeros expand
to gigabytes. Here an array has at most the size of its archive entry, and an archive expands at most MOST_RATIO
times.
"""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

MOST_RATIO = 100
"""Upper bound on the expansion of a file. Deflate reaches 1000, on zeros."""
FREE = 2**26
"""Bytes that any file may expand to."""
BROKEN = (
    OSError,
    ValueError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Exceptions for a file of another kind; RuntimeError for one with a password."""
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def arrays(stream: BinaryIO) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield name and array. Raises the exceptions in BROKEN."""
    size = os.fstat(stream.fileno()).st_size
    with zipfile.ZipFile(stream) as archive:
        entries = archive.infolist()
        whole = sum(entry.file_size for entry in entries)
        if whole > max(FREE, MOST_RATIO * size):
            raise ValueError(f"its {size:,} bytes claim to hold {whole:,}; save it with numpy.savez, not compressed")
        for entry in entries:
            with archive.open(entry) as held:
                yield entry.filename.removesuffix(".npy"), _array(held, entry.filename, entry.file_size)


def _array(stream: Any, name: str, size: int) -> NDArray[Any]:
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"{name!r} is an array of version {version}; 1.0 and 2.0 are read")
    shape, fortran, dtype = _HEADERS[version](stream)
    if dtype.hasobject:
        raise ValueError(f"{name!r} is of Python objects. Object arrays cannot be loaded: that runs code")
    claimed, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if claimed != held or any(type(length) is not int or length < 0 for length in shape):
        raise ValueError(f"{name!r} claims {claimed:,} bytes, as {dtype}{list(shape)}, and holds {held:,}")
    values, at = np.empty(held, np.uint8), 0
    while block := stream.read(2**20):
        values[at : at + len(block)] = np.frombuffer(block, np.uint8)
        at += len(block)
    if at < held:
        raise ValueError(f"{name!r} claims {held:,} bytes, and holds {at:,}")
    array: NDArray[Any] = np.ndarray(shape, dtype, buffer=values, order="F" if fortran else "C")
    return array
