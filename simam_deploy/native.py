"""The compiled op library: where it is, and what it says of itself.

It is looked for in this order: the file that SIMAM_LIBRARY names, the one that `pip install` built into the package,
the one that `make native` built in this checkout. The first that is there is the one: if it cannot be used, that is
an error. Where there is none, `why_not` says how to get one.
"""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from simam_deploy.errors import NativeError
from simam_deploy.formula import OP_VERSION

VARIABLE = "SIMAM_LIBRARY"
NAME = "libsimam_onnxruntime.so"
PACKAGE = Path(__file__).parent / "lib"
CHECKOUT = Path(__file__).parents[1] / "build/native/release"


@dataclass(frozen=True)
class Library:
    """A library that was loaded and asked.

    target  : the instructions its kernels use here: avx512, avx2 or baseline.
    machine : what a file specialised here is marked with, as in `x86_64 avx512f`.
    """

    path: Path
    version: int
    target: str
    machine: str


def library() -> Library | None:
    """The library, or None if there is none. Raises NativeError if there is one that cannot be used."""
    path = _find()
    return None if path is None else _ask(path)


def why_not() -> str:
    """Why there is no library, and how to get one: one line."""
    notes = (folder / "missing.txt" for folder in (PACKAGE, CHECKOUT))
    why, _, how = next((note.read_text().strip().partition("\n") for note in notes if note.exists()), ("", "", ""))
    built = f"it was not built: {why}; {how}" if why else "build it with `make native` in a checkout of simam-deploy"
    return f"no kernel library: {built}; or name its file with {VARIABLE}"


def _find() -> Path | None:
    if named := os.environ.get(VARIABLE):
        if not Path(named).is_file():
            raise NativeError(f"{VARIABLE} is {named!r}, which is no file; unset it, or name a {NAME}")
        return Path(named).absolute()
    return next((folder / NAME for folder in (PACKAGE, CHECKOUT) if (folder / NAME).is_file()), None)


def _mend(path: Path) -> str:
    """What to do about a library that cannot be used: that depends on where it was found."""
    if os.environ.get(VARIABLE):
        return f"{VARIABLE} names it: unset that, or let it name another"
    how = "make native" if path.parent == CHECKOUT else "pip install ."
    return f"build it again: `{how}` in a checkout of simam-deploy"


def _ask(path: Path) -> Library:
    _refuse_cut_off(path)
    try:
        loaded = ctypes.CDLL(str(path))
        target, machine = loaded.simam_target, loaded.simam_machine
        version = int(loaded.simam_version())
        _ = loaded.RegisterCustomOps
    except OSError as error:  # of another processor, or it needs what is not here
        raise NativeError(f"{path} cannot be loaded: {error}; {_mend(path)}") from error
    except AttributeError as error:
        raise NativeError(f"{path} is not the op library of simam-deploy: {error}; {_mend(path)}") from error
    if version != OP_VERSION:
        raise NativeError(
            f"{path} was built for version {version} of the operators, this package has {OP_VERSION}; {_mend(path)}"
        )
    target.restype = machine.restype = ctypes.c_char_p
    return Library(path, version, target().decode(), machine().decode())


def _refuse_cut_off(path: Path) -> None:
    """Raise NativeError unless the file is ELF and whole: loading one that was cut off kills the process.

    What the linker writes last is the table of sections: where it is and how long stands in the first 64 bytes.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if len(head) < 64 or head[:4] != b"\x7fELF":
        raise NativeError(f"{path} is no library of Linux; {_mend(path)}")
    (start,) = struct.unpack_from("<Q", head, 0x28)
    size, count = struct.unpack_from("<HH", head, 0x3A)
    if start + size * count > path.stat().st_size:
        raise NativeError(f"{path} is cut off; {_mend(path)}")
