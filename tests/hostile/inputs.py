"""Inputs made to do harm, by name: what writes them, and words of the answer."""

import io
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from numpy.lib import format as npy
from PIL import Image

INPUTS: dict[str, tuple[Callable[[Path], object], str]] = {}
"""Name -> what writes to the path, and words of the answer. Pictures have a folder each."""


def _header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    made = io.BytesIO()
    npy.write_array_header_1_0(made, {"shape": shape, "fortran_order": False, "descr": descr})
    return made.getvalue()


def _archive(path: Path, content: bytes, entry: str = "x.npy", method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(entry, content)


def _npz(name: str, words: str, content: Callable[[], bytes], **more: object) -> None:
    INPUTS[f"{name}.npz"] = (lambda path: _archive(path, content(), **more), words)  # type: ignore[arg-type]


_npz("claims_terabytes", "claims 4,398,046,511,104 bytes", lambda: _header((2**40,)) + bytes(60))
_npz("claims_beyond_64_bits", "claims .* bytes, .*, and holds 60", lambda: _header((2**62, 2**62)) + bytes(60))
_npz("claims_more", "claims 244 bytes, .* and holds 240", lambda: _header((61,)) + bytes(240))
_npz("claims_less", "claims 236 bytes, .* and holds 240", lambda: _header((59,)) + bytes(240))
_npz("negative_twice", "claims", lambda: _header((-6, -10)) + bytes(240))
_npz("a_long_item", "claims|not a valid dtype", lambda: _header((1,), "<U1000000000") + bytes(240))
_npz("objects", "Object arrays cannot be loaded", lambda: _header((1,), "|O") + b"cos\nsystem\n(S'true'\ntR.")
_npz("another_version", "of version", lambda: b"\x93NUMPY\x09\x00" + bytes(240))
_npz("no_header", "magic string", lambda: b"")
_npz(
    "a_bomb",
    "claim to hold 419,430,528; save it with numpy.savez",
    lambda: _header((100 * 2**20,)) + bytes(400 * 2**20),
)
_npz("name_with_controls", "claims 244", lambda: _header((61,)) + bytes(240), entry="a\x1b[31m\u202eb.npy")


def _long_header() -> bytes:
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1, " * 20_000 + ")}\n"
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text.encode()


_npz("a_long_header", "Header info length|max_header_size", _long_header)


def _many_bombs(path: Path) -> None:
    """As many entries as there is room for, each the same bytes: their sizes add up."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(40):
            archive.writestr("x.npy", _header((2**20,)) + bytes(4 * 2**20))


def _lies_about_its_size(path: Path) -> None:
    """The directory says 60 million bytes of what is 60."""
    _archive(path, _header((15_000_000,)) + bytes(60), method=zipfile.ZIP_STORED)
    old, new = (struct.pack("<I", len(_header((15_000_000,))) + size) for size in (60, 60_000_000))
    path.write_bytes(path.read_bytes().replace(old, new))


def _with_password(path: Path) -> None:
    _archive(path, _header((60,)) + bytes(240), method=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)


INPUTS["many_bombs.npz"] = (_many_bombs, "claim to hold")
INPUTS["lies_about_its_size.npz"] = (_lies_about_its_size, "cannot read .* as an .npz")
INPUTS["with_password.npz"] = (_with_password, "encrypted, password required")
INPUTS["a_fifo.npz"] = (os.mkfifo, "is a device or a pipe")
INPUTS["a_device.npz"] = (lambda path: path.symlink_to("/dev/zero"), "is a device or a pipe")
INPUTS["nowhere.npz"] = (lambda path: path.symlink_to("nothing"), "there is no file")


# pictures


def _picture(name: str, words: str, write: Callable[[Path], object], suffix: str = "png") -> None:
    def into_a_folder(path: Path) -> None:
        path.mkdir()
        write(path / f"a.{suffix}")

    INPUTS[name] = (into_a_folder, words)


def _png(width: int, height: int) -> bytes:
    """A head that says how large it is, and no more than a row."""
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    idat = b"IDAT" + zlib.compress(bytes(10))
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (ihdr, idat, b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(owned) print\n%%EOF\n"
_picture("eps", "cannot read the picture .*a.png", lambda path: path.write_bytes(EPS))
for _kind in ("GIF", "TIFF", "PPM", "ICO", "TGA", "PCX", "JPEG2000"):
    _picture(
        f"a_{_kind}_named_jpg",
        "cannot read the picture .*a.jpg",
        lambda path, kind=_kind: Image.new("RGB", (8, 8)).save(path, kind),  # type: ignore[misc]
        "jpg",
    )
_picture("many_pixels", "60000 x 60000 pixels; up to|exceeds limit", lambda p: p.write_bytes(_png(60000, 60000)))
_picture("some_pixels", "has 8193 x 8192 pixels; up to", lambda p: p.write_bytes(_png(8193, 8192)))
_picture("pixels_that_are_not_there", "cannot read the picture", lambda p: p.write_bytes(_png(4000, 4000)))
_picture("a_fifo", "is a device or a pipe", os.mkfifo)
_picture("a_device", "is a device or a pipe", lambda path: path.symlink_to("/dev/zero"))
_picture("a_picture_that_is_a_folder", "is a folder", lambda path: path.mkdir())
_picture("nothing", "cannot read the picture", lambda path: path.write_bytes(b""))
