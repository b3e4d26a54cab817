"""The machine that a library is compiled for, by the header of its file."""

from __future__ import annotations

from pathlib import Path

from simam_deploy.artifacts.file_kinds import is_file
from simam_deploy.artifacts.opening import opened
from simam_deploy.errors import InputError
from simam_deploy.native import processor_of

MACHINES = {62: "x86-64", 183: "aarch64"}
"""Numbers of ELF."""


def refuse_other_machine(library: Path, machine: str, remedy: str) -> None:
    """Raise InputError for a library that is here and is compiled for another machine, or is none."""
    if not is_file(library):
        return
    with opened(library) as stream:
        processor = processor_of(stream.read(20))
    if processor is None:
        raise InputError(f"{library} is no library of Linux: it does not begin with ELF\n{remedy}")
    found = MACHINES.get(processor[1], f"machine {processor[1]} of ELF")
    if found != machine:
        raise InputError(f"{library} is compiled for {found}, and the host is {machine}\n{remedy}")
