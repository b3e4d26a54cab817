"""TensorRT 10 for tests: the names and enum values of its bindings, laid over TensorRT-RTX, which parses and builds.

Becomes `tensorrt/__init__.py` of a version, next to its names.json. A name that the version lacks is an
AttributeError. A name that TensorRT-RTX lacks is a NotImplementedError. Objects and classes are those of TensorRT-RTX
itself, changed in place: a process that imports this has no other use for them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import tensorrt_rtx as _core

_recorded = json.loads((Path(__file__).parents[1] / "names.json").read_text())
__version__: str = _recorded["version"]
_BY_NUMBER = {"IBuilderConfig": ("get_tactic_sources", "set_tactic_sources"), "": ("flags",)}
"""Members that take or give bits, which differ between versions. The last are those of any class."""


def _lacking(name: str) -> NoReturn:
    raise NotImplementedError(
        f"{name} of TensorRT {__version__} has no counterpart in TensorRT-RTX {_core.__version__}"
    )


def _lacking_member(name: str) -> property:
    return property(lambda _: _lacking(name))


class _Absent:
    """Member of an enum that TensorRT-RTX lacks: a name and a value, which no method of TensorRT-RTX takes."""

    def __init__(self, name: str, value: int) -> None:
        self.name, self.value = name, value

    def __int__(self) -> int:
        return self.value

    def __repr__(self) -> str:
        return f"<{self.name}: {self.value}>"

    __index__ = __int__


def _hide(cls: Any, name: str) -> None:
    """Under another name: some members end the process when they are destroyed, "free(): invalid size"."""
    if name in vars(cls):
        setattr(cls, f"_hidden_{name}", vars(cls)[name])
        delattr(cls, name)


def _narrow_enum(enum: Any, recorded: dict[str, int]) -> None:
    entries = getattr(enum, "__entries")
    shared = {name: int(enum.__members__[name]) for name in recorded if name in entries}
    theirs = {number: recorded[name] for name, number in shared.items()}
    by_value = {recorded[name]: getattr(enum, name) for name in shared}
    for name in [name for name in entries if name not in recorded]:
        _hide(enum, name)
        del entries[name]
    to_int = enum.__int__  # of a member that the version lacks, in what a parser made: a number of its own
    for name in ("__int__", "__index__", "value"):
        _hide(enum, name)
    enum.__int__ = enum.__index__ = lambda self: theirs.get(to_int(self), -1 - to_int(self))
    enum.value = property(int)
    for name, value in recorded.items():
        if name not in shared:
            member = by_value.get(value) or _Absent(f"{enum.__name__}.{name}", value)
            setattr(enum, name, member)
            entries[name] = (member, None)


def _narrow_class(cls: Any, recorded: list[str]) -> None:
    for name in [name for name in vars(cls) if not name.startswith("_") and name not in recorded]:
        _hide(cls, name)
    for name in recorded:
        if name in _BY_NUMBER.get(cls.__name__, ()) + _BY_NUMBER[""]:
            _hide(cls, name)
        if not hasattr(cls, name):
            setattr(cls, name, _lacking_member(f"{cls.__name__}.{name}"))


def _create_network(self: Any, flags: int = 0) -> Any:
    """Builder.create_network, with the version's own bits."""
    known = _recorded["names"]["NetworkDefinitionCreationFlag"]
    if flags >> (1 + max(known.values())):
        raise ValueError(f"TensorRT {__version__} has no such flags of a network: {flags}; it has {known}")
    if not flags >> known["STRONGLY_TYPED"] & 1:
        raise NotImplementedError(f"the network is weakly typed (flags={flags}), and TensorRT-RTX has none; {known}")
    return _create_strongly_typed(self, 0)


_create_strongly_typed = _core.Builder.create_network
_core.Builder.create_network = _create_network
for _name, _members in _recorded["names"].items():
    _own = getattr(_core, _name, None)
    if _own is None:
        continue
    if isinstance(_members, dict):
        _narrow_enum(_own, _members)
    elif isinstance(_members, list):
        _narrow_class(_own, _members)
    globals()[_name] = _own


def __getattr__(name: str) -> NoReturn:
    if name in _recorded["names"]:
        _lacking(name)
    raise AttributeError(f"TensorRT {__version__} has no {name}")
