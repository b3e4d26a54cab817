"""Versions: TensorRT with the flags that its trtexec knows, and JetPack with its parts.

trtexec_flags.json is made from trtexec's source by `python -m benchmarks.trtexec_flags`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from simam_deploy.errors import InputError

TABLE = Path(__file__).with_name("trtexec_flags.json")


@dataclass(frozen=True)
class TensorRT:
    """number : as 10.3.  flags : of its trtexec."""

    number: str
    flags: frozenset[str]

    @property
    def release(self) -> tuple[int, ...]:
        """The number, for comparisons."""
        return _ordered(self.number)

    def refuse_unknown(self, options: Iterable[str]) -> None:
        """Raise InputError for an option that this trtexec lacks."""
        for option in options:
            flag = option.partition("=")[0]
            if flag not in self.flags:
                raise InputError(f"trtexec of TensorRT {self.number} has no {flag}")


def tensorrt(asked: str) -> TensorRT:
    """That version, as 10.3 or 10.3.0. Raises InputError with the known ones."""
    table = _table()
    found = re.fullmatch(r"v?(\d+\.\d+)(?:\.\d+)*", asked.strip())
    number = found[1] if found else ""
    if number not in table:
        raise InputError(
            f"the table of trtexec's flags has no TensorRT {asked!r}; it has {', '.join(table)}\n"
            "name the nearest one before yours, and compare with `trtexec --help`"
        )
    return TensorRT(number, table[number])


def refuse_numbers(**asked: object) -> None:
    """Raise InputError for a version that is not a text. asked : by the name of the option; None is none."""
    for name, version in asked.items():
        if version is not None and not isinstance(version, str):
            raise InputError(
                f'{name} takes a text, as "{version}"; got {version!r}, and as a number 10.10 would be 10.1'
            )


def newest() -> str:
    """The newest version in the table."""
    return list(_table())[-1]


@cache
def _table() -> dict[str, frozenset[str]]:
    """Version -> its flags, oldest first."""
    flags: dict[str, list[str]] = json.loads(TABLE.read_text())["flags"]
    numbers = sorted({number for known in flags.values() for number in known}, key=_ordered)
    return {number: frozenset(flag for flag, known in flags.items() if number in known) for number in numbers}


def _ordered(number: str) -> tuple[int, ...]:
    return tuple(map(int, number.split(".")))


@dataclass(frozen=True)
class JetPack:
    """tensorrt : "" where it is not known.  architectures : of its GPUs, for the plugin."""

    number: str
    cuda: str
    tensorrt: str
    python: str
    architectures: str


JETPACKS = {
    each.number: each
    for each in (
        JetPack("6.1", "12.6", "10.3", "3.10", "87"),
        JetPack("6.2", "12.6", "10.3", "3.10", "87"),
        JetPack("7.2", "13.2", "", "", "87;110"),
    )
}
USUAL_JETPACK = "6.2"


def jetpack(asked: str) -> JetPack:
    """That version, as 6.2 or 6.2.1. Raises InputError with the known ones."""
    number = ".".join(asked.strip().split(".")[:2])
    if number not in JETPACKS:
        raise InputError(f"no recipe for JetPack {asked!r}; there are recipes for {', '.join(JETPACKS)}")
    return JETPACKS[number]
