"""The machine that a library is compiled for, by the header of its file."""

from __future__ import annotations

import struct
from pathlib import Path

from simam_deploy.artifacts.file_kinds import is_file
from simam_deploy.artifacts.opening import opened
from simam_deploy.errors import InputError

MACHINES = {62: "x86-64", 183: "aarch64"}
"""Numbers of ELF."""
MARK = b"\x7fELF"


def refuse_other_machine(library: Path, machine: str, remedy: str) -> None:
    """Raise InputError for a library that is here and is compiled for another machine, or is none."""
    if not is_file(library):
        return
    with opened(library) as stream:
        head = stream.read(20)
    if not head.startswith(MARK) or len(head) < 20:
        raise InputError(f"{library} is no library of Linux: it does not begin with ELF\n{remedy}")
    (number,) = struct.unpack_from("<H", head, 18)
    found = MACHINES.get(number, f"machine {number} of ELF")
    if found != machine:
        raise InputError(f"{library} is compiled for {found}, and the host is {machine}\n{remedy}")
