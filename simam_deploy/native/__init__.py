"""The compiled op libraries: their location and properties.

Search order: the file named by the variable, the library in the installed package, the one that `make native` or
`make native-cuda` built in this checkout. The first found is used; if it is unusable, that is an error. Without one,
`why_not` explains how to get it.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from simam_deploy.errors import NativeError
from simam_deploy.formula import OP_VERSION

VARIABLE = "SIMAM_LIBRARY"
NAME = "libsimam_onnxruntime.so"
PACKAGE = Path(__file__).parents[1] / "lib"
CHECKOUT = Path(__file__).parents[2] / "build/native/release"
CHECKOUT_CUDA = CHECKOUT.with_name("cuda")  # of `make native-cuda`
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def processor_of(head: bytes) -> tuple[int, int] | None:
    """Class (2: 64 bits) and machine of an ELF file, by its first 20 bytes or more; None for another file."""
    return (head[4], *struct.unpack_from("<H", head, 18)) if len(head) >= 20 and head[:4] == b"\x7fELF" else None


@dataclass(frozen=True)
class Compiled:
    """A library built from plugins/.

    what     : its name in messages.
    variable : environment variable that may name the file.
    command  : builds it in a checkout.
    """

    name: str
    what: str
    variable: str
    command: str

    def find(self) -> Path | None:
        """Path of the library, or None. Raises NativeError if the variable names no file."""
        if named := os.environ.get(self.variable):
            if not Path(named).is_file():
                raise NativeError(f"{self.variable} is {named!r}, which is no file; unset it, or name a {self.name}")
            return Path(named).absolute()
        folders = (PACKAGE, CHECKOUT, CHECKOUT_CUDA)
        return next((folder / self.name for folder in folders if (folder / self.name).is_file()), None)

    def load(self, path: Path) -> ctypes.CDLL:
        """Load the library. Raises NativeError."""
        self.refuse_cut_off(path)
        try:
            return ctypes.CDLL(str(path))
        except OSError as error:  # of another processor, or it needs what is not here
            raise NativeError(f"{path} cannot be loaded: {error}; {self.mend(path)}") from error

    def why_not(self) -> str:
        """Reason why there is none, and how to get one, in one line."""
        built = f"build it with `{self.command}` in a checkout of simam-deploy"
        if self.name == NAME:  # what is missing for the others cmake does not write down
            notes = (folder / "missing.txt" for folder in (PACKAGE, CHECKOUT))
            why, _, how = next(
                (note.read_text().strip().partition("\n") for note in notes if note.exists()), ("", "", "")
            )
            built = f"it was not built: {why}; {how}" if why else built
        return f"no {self.what}: {built}; or name its file with {self.variable}"

    def mend(self, path: Path) -> str:
        """Remedy for an unusable library, depending on its location."""
        named = os.environ.get(self.variable)
        if named and Path(named).resolve() == path.resolve():
            return f"{self.variable} names it: unset that, or let it name another"
        how = "pip install ." if path.parent == PACKAGE else self.command
        return f"build it again: `{how}` in a checkout of simam-deploy"

    def refuse_cut_off(self, path: Path) -> None:
        """Raise NativeError unless the file is complete ELF for this processor: loading a truncated one kills.

        The linker writes the section table last; its offset and size are in the first 64 bytes. The interpreter tells
        the processor. For another one a loader has no words.
        """
        with path.open("rb") as file:
            head = file.read(64)
        if len(head) < 64 or processor_of(head) is None:
            raise NativeError(f"{path} is no library of Linux; {self.mend(path)}")
        (start,) = struct.unpack_from("<Q", head, 0x28)
        size, count = struct.unpack_from("<HH", head, 0x3A)
        if start + size * count > path.stat().st_size:
            raise NativeError(f"{path} is cut off; {self.mend(path)}")
        with Path(sys.executable).open("rb") as file:
            own = processor_of(file.read(20))
        if own is not None and own != processor_of(head):
            raise NativeError(f"{path} is for another processor than this; {self.mend(path)}")


LIBRARIES = {
    CPU: Compiled(NAME, "kernel library", VARIABLE, "make native"),
    CUDA: Compiled("libsimam_onnxruntime_cuda.so", "kernel library for CUDA", VARIABLE, "make native-cuda"),
}
"""Execution provider -> its library. The CUDA library also has the CPU operators."""


@dataclass(frozen=True)
class Library:
    """A loaded library and its properties.

    target    : instruction set of its CPU kernels here: avx512, avx2 or baseline.
    machine   : mark of files specialised here, such as `x86_64 avx512f`.
    providers : execution providers of ONNX Runtime with operators in it.
    """

    path: Path
    version: int
    target: str
    machine: str
    providers: tuple[str, ...]


def library(provider: str = CPU) -> Library | None:
    """The library with operators for an execution provider, or None. Raises NativeError if it cannot be used."""
    compiled = LIBRARIES[provider]
    path = compiled.find()
    found = None if path is None else _ask(compiled, path)
    return found if found and provider in found.providers else None


def why_not(provider: str = CPU) -> str:
    """Reason why an execution provider has no library, and how to get one, in one line."""
    compiled = LIBRARIES[provider]
    if named := os.environ.get(compiled.variable):
        return f"{compiled.variable} names {named}, which has no operators for {provider}; unset it, or name another"
    return compiled.why_not()


def _ask(compiled: Compiled, path: Path) -> Library:
    loaded = compiled.load(path)
    try:
        target, machine = loaded.simam_target, loaded.simam_machine
        version = int(loaded.simam_version())
        _ = loaded.RegisterCustomOps
        if version != OP_VERSION:
            raise NativeError(
                f"{path} was built for version {version} of the operators, this package has {OP_VERSION}; "
                f"{compiled.mend(path)}"
            )
        providers = loaded.simam_providers
    except AttributeError as error:
        raise NativeError(f"{path} is not the op library of simam-deploy: {error}; {compiled.mend(path)}") from error
    target.restype = machine.restype = providers.restype = ctypes.c_char_p
    return Library(path, version, target().decode(), machine().decode(), tuple(providers().decode().split(",")))
