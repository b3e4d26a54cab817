"""The compiled op libraries: where they are, and what they say of themselves.

A library is looked for in this order: the file that its variable names, the one that `pip install` built into the
package, the one that `make native` or `make native-cuda` built in this checkout. The first that is there is the one:
if it cannot be used, that is an error. Where there is none, `why_not` says how to get one.
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
PACKAGE = Path(__file__).parents[1] / "lib"
CHECKOUT = Path(__file__).parents[2] / "build/native/release"
CHECKOUT_CUDA = CHECKOUT.with_name("cuda")  # of `make native-cuda`
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@dataclass(frozen=True)
class Compiled:
    """A library that is built from plugins/.

    what     : it is called in messages.
    variable : of the environment; it may name the file.
    command  : builds it in a checkout.
    """

    name: str
    what: str
    variable: str
    command: str

    def find(self) -> Path | None:
        """The file, or None. Raises NativeError if the variable names no file."""
        if named := os.environ.get(self.variable):
            if not Path(named).is_file():
                raise NativeError(f"{self.variable} is {named!r}, which is no file; unset it, or name a {self.name}")
            return Path(named).absolute()
        folders = (PACKAGE, CHECKOUT, CHECKOUT_CUDA)
        return next((folder / self.name for folder in folders if (folder / self.name).is_file()), None)

    def load(self, path: Path) -> ctypes.CDLL:
        """Raises NativeError if it cannot be."""
        self._refuse_cut_off(path)
        try:
            return ctypes.CDLL(str(path))
        except OSError as error:  # of another processor, or it needs what is not here
            raise NativeError(f"{path} cannot be loaded: {error}; {self.mend(path)}") from error

    def why_not(self) -> str:
        """Why there is none, and how to get one: one line."""
        built = f"build it with `{self.command}` in a checkout of simam-deploy"
        if self.name == NAME:  # what is missing for the others cmake does not write down
            notes = (folder / "missing.txt" for folder in (PACKAGE, CHECKOUT))
            why, _, how = next(
                (note.read_text().strip().partition("\n") for note in notes if note.exists()), ("", "", "")
            )
            built = f"it was not built: {why}; {how}" if why else built
        return f"no {self.what}: {built}; or name its file with {self.variable}"

    def mend(self, path: Path) -> str:
        """What to do about a library that cannot be used: that depends on where it was found."""
        if os.environ.get(self.variable):
            return f"{self.variable} names it: unset that, or let it name another"
        how = self.command if path.parent in (CHECKOUT, CHECKOUT_CUDA) else "pip install ."
        return f"build it again: `{how}` in a checkout of simam-deploy"

    def _refuse_cut_off(self, path: Path) -> None:
        """Raise NativeError unless the file is ELF and whole: loading one that was cut off kills the process.

        What the linker writes last is the table of sections: where it is and how long stands in the first 64 bytes.
        """
        with path.open("rb") as file:
            head = file.read(64)
        if len(head) < 64 or head[:4] != b"\x7fELF":
            raise NativeError(f"{path} is no library of Linux; {self.mend(path)}")
        (start,) = struct.unpack_from("<Q", head, 0x28)
        size, count = struct.unpack_from("<HH", head, 0x3A)
        if start + size * count > path.stat().st_size:
            raise NativeError(f"{path} is cut off; {self.mend(path)}")


LIBRARIES = {
    CPU: Compiled(NAME, "kernel library", VARIABLE, "make native"),
    CUDA: Compiled("libsimam_onnxruntime_cuda.so", "kernel library for CUDA", VARIABLE, "make native-cuda"),
}
"""Execution provider -> the library that is built for it. That for CUDA has the operators for the CPU too."""


@dataclass(frozen=True)
class Library:
    """A library that was loaded and asked.

    target    : the instructions its kernels for the CPU use here: avx512, avx2 or baseline.
    machine   : what a file specialised here is marked with, as in `x86_64 avx512f`.
    providers : of ONNX Runtime, that it has operators for.
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
    """Why there is no library for an execution provider, and how to get one: one line."""
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
