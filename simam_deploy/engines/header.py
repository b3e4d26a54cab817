"""Header of an engine file: who built it, for which GPUs, and how long it is. Read without TensorRT.

    bytes   of an engine of TensorRT-RTX; integers are little-endian
    0-3     "vtrt"; in an engine of TensorRT "ftrt"
    4-7     0
    8-15    2
    16-23   length of the file
    24-27   version, one byte for each number
    28-31   "vtrt"
    32-39   GPU kinds, one bit for each of TARGETS
    40-55   0
    56-63   bytes of weights at the end of the file; 0 with weight streaming

NVIDIA documents none of it but the length, 64 bytes. It was found in engines of TensorRT-RTX 1.7.1 for many targets,
networks and flags; see tests/engines/test_header.py. No engine of TensorRT was at hand. Of these, the mark and the
first three numbers of the version are read, as other programs do, and nothing else.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from simam_deploy.engines.flavors import RTX, TENSORRT

LENGTH = 64
"""Length of a header in bytes."""
TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
"""GPU kind of each bit, the lowest first."""
_FLAVORS = {b"vtrt": RTX, b"ftrt": TENSORRT}
_CONSTANT = {(4, 8): bytes(4), (8, 16): (2).to_bytes(8, "little"), (28, 32): b"vtrt", (40, 56): bytes(16)}
"""Bytes that are the same in every engine of TensorRT-RTX 1.7.1, by begin and end."""


@dataclass(frozen=True)
class Header:
    """Content of a header.

    flavor : a name in flavors.FLAVORS.  targets, length : None for an engine of TensorRT, whose header is not known
    in whole.  faults : what no undamaged header has, with the remedy.
    """

    flavor: str
    version: str
    targets: tuple[str, ...] | None
    length: int | None
    faults: tuple[str, ...]


def begins_engine(head: bytes) -> bool:
    """Whether a file with these first bytes is an engine, or was one."""
    return head[:4] in _FLAVORS


def read(head: bytes, size: int) -> Header:
    """Read a header. head : the first LENGTH bytes of a file of `size` bytes, for which `begins_engine` holds."""
    flavor = _FLAVORS[head[:4]]
    if flavor is TENSORRT:
        return Header(flavor.name, ".".join(map(str, head[24:27])), None, None, ())
    (length,) = struct.unpack_from("<Q", head, 16)
    (mask,) = struct.unpack_from("<Q", head, 32)
    faults = [
        f"bytes {begin} to {end - 1} are {head[begin:end].hex()}, and {known.hex()} in engines of TensorRT-RTX 1.7: "
        "the header is damaged, or of a version that is unknown here; copy the engine again, or build it again"
        for (begin, end), known in _CONSTANT.items()
        if head[begin:end] != known
    ]
    if not mask or mask >> len(TARGETS):
        faults.append(
            f"bytes 32 to 39 name {'a GPU kind that is unknown here' if mask else 'no GPU kind'} ({mask:#x}): the "
            "header is damaged, or of a version that is unknown here; copy the engine again, or build it again"
        )
    if length != size:
        what = "it was cut" if size < length else "something was added, or the header is damaged"
        faults.append(f"the header says {length:,} bytes, and the file has {size:,}: {what}; copy the engine again")
    targets = tuple(target for bit, target in enumerate(TARGETS) if mask >> bit & 1)
    return Header(flavor.name, ".".join(map(str, head[24:28])), targets, length, tuple(faults))
