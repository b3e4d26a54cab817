"""Outline of a pickle, read without running it: its containers and the classes of its objects.

A pickle is a program for a stack machine that may call any function. Here a name stays a name, and a call is recorded
as an object of that name.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

TORCH_MAGIC = 0x1950A86A20F9469CFC6C
"""First pickle of an old torch.save file, before the zip format. The fourth is the saved object."""


MOST_OPERATIONS = 100_000
"""Upper bound on the operations read. A detector with its optimiser has fewer."""
LONGEST_KEY = 100
"""Upper bound on the length of a recorded key or name."""


@dataclass(eq=False)
class Thing:
    """A container or an object. name : of the class or function, "" for a plain container."""

    kind: str
    """dict, list, set, tuple, global or object."""
    name: str = ""
    items: list[Any] = field(default_factory=list)
    """The values. In a dict each follows its key; an object has its arguments, then its state."""

    def entries(self) -> Iterator[tuple[Any, Any]]:
        """Keys and values of a dict."""
        return zip(self.items[::2], self.items[1::2], strict=False)


@dataclass
class Outline:
    """Content of one pickle; its names in order; whether it was read to the end."""

    value: Any = None
    names: list[str] = field(default_factory=list)
    whole: bool = False


def outlines(data: bytes) -> list[Outline]:
    """Outlines of consecutive pickles; the last may be truncated. Raises nothing."""
    stream = io.BytesIO(data)
    found: list[Outline] = []
    left = MOST_OPERATIONS
    while left and stream.tell() < len(data):
        machine = _Machine()
        try:
            for operation, argument, _ in pickletools.genops(stream):
                if not left:
                    break
                left -= 1
                machine.do(operation, argument)
                machine.outline.whole = operation.name == "STOP"
        except (ValueError, UnicodeError, OverflowError, IndexError, KeyError, AttributeError):
            pass  # cut off, damaged, or no pickle
        found.append(machine.end())
        if not found[-1].whole:
            break
    return found


class _Machine:
    def __init__(self) -> None:
        self.outline = Outline()
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def end(self) -> Outline:
        """Close the open containers, for a truncated pickle."""
        while self._marks or len(self._stack) > 1:
            above = self._above() if self._marks else [self._stack.pop()]
            if self._stack and isinstance(self._stack[-1], Thing):
                self._stack[-1].items += above
            else:
                self._stack = [Thing("tuple", items=[*self._stack, *above])]
        self.outline.value = self._stack[0] if self._stack else None
        return self.outline

    def do(self, operation: pickletools.OpcodeInfo, argument: Any) -> None:
        name, stack = operation.name, self._stack
        if name == "MARK":
            self._marks.append(len(stack))
        elif name in _KINDS:
            self._contain(name)
        elif name in ("SETITEMS", "APPENDS", "ADDITEMS", "SETITEM", "APPEND", "BUILD"):
            self._add(name)
        elif name in ("GLOBAL", "INST", "STACK_GLOBAL"):
            self._name(name, argument)
        elif name in ("REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ"):
            count = 3 if name == "NEWOBJ_EX" else 2
            called, *given = self._above() if name == "OBJ" else self._top(count)
            stack.append(_called(called, given))
        elif name in ("BINPERSID", "PERSID"):
            held = stack.pop() if name == "BINPERSID" else None
            items = held.items if isinstance(held, Thing) else []
            stack.append(items[1] if items[:1] == ["module"] else Thing("object", "storage"))  # class or tensor
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if name == "MEMOIZE" else int(argument)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._memo[int(argument)])
        elif name == "POP_MARK" or (name == "POP" and self._marks[-1:] == [len(stack)]):
            self._above()
        elif name == "POP":
            stack.pop()
        elif len(operation.stack_after) == 1 and not operation.stack_before:
            stack.append(argument)

    def _contain(self, name: str) -> None:
        count = _COUNTS.get(name)
        self._stack.append(Thing(_KINDS[name], items=self._above() if count is None else self._top(count)))

    def _add(self, name: str) -> None:
        held = self._above() if name.endswith("S") else self._top(2 if name == "SETITEM" else 1)
        self._stack[-1].items += held

    def _name(self, operation: str, argument: Any) -> None:
        if operation == "STACK_GLOBAL":  # of two texts; str() of a thing would write out all that is in it
            name = ".".join(part[:LONGEST_KEY] if isinstance(part, str) else "?" for part in self._top(2))
        else:
            name = str(argument)[: 2 * LONGEST_KEY].replace(" ", ".")
        self.outline.names.append(name)
        self._stack.append(Thing("object", name, self._above()) if operation == "INST" else Thing("global", name))

    def _top(self, count: int) -> list[Any]:
        """Pop the last values."""
        if (start := len(self._stack) - count) < 0:
            raise IndexError
        held = self._stack[start:]
        del self._stack[start:]
        return held

    def _above(self) -> list[Any]:
        """Pop the last mark and the values above it."""
        mark = self._marks.pop()
        held = self._stack[mark:]
        del self._stack[mark:]
        return held


_KINDS = {"EMPTY_DICT": "dict", "DICT": "dict", "EMPTY_LIST": "list", "LIST": "list", "EMPTY_SET": "set"}
_KINDS |= {"FROZENSET": "set", **dict.fromkeys(("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"), "tuple")}
"""Upper bound on the recorded values."""
_COUNTS = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, **{name: 0 for name in _KINDS if name.startswith("EMPTY_")}}
"""Number of stack values of each operation; the others take those above the last mark."""


def _called(called: Any, given: list[Any]) -> Thing:
    name = called.name if isinstance(called, Thing) else ""
    if name in ("collections.OrderedDict", "collections.defaultdict", "builtins.dict", "__builtin__.dict"):
        return Thing("dict", name)
    if name.endswith("_reconstructor") and given and isinstance(given[0], Thing) and given[0].items:
        name = getattr(given[0].items[0], "name", name)  # copyreg: an object of protocol 0 or 1
    return Thing("object", name, given)


# What the things are ------------------------------------------------------------------------------------------------


def is_tensor(value: Any) -> bool:
    """Whether it is a tensor or a parameter of PyTorch."""
    return isinstance(value, Thing) and value.name.startswith(("torch._utils._rebuild_", "torch._tensor._rebuild_"))


def is_array(value: Any) -> bool:
    """Whether it is an array of NumPy."""
    made = (".multiarray._reconstruct", ".numeric._frombuffer")
    return isinstance(value, Thing) and value.name.startswith("numpy.") and value.name.endswith(made)


def is_module(value: Any) -> bool:
    """Whether it is an nn.Module: an object whose state has the dicts of one."""
    states = [item for item in value.items if isinstance(item, Thing)] if isinstance(value, Thing) else []
    keys = [key for state in states if value.kind == "object" and state.kind == "dict" for key, _ in state.entries()]
    return "_parameters" in keys or "_modules" in keys


def is_optimizer(value: Any) -> bool:
    """Whether it is the state_dict of an optimizer."""
    return is_dict(value) and {"state", "param_groups"} <= {key for key, _ in value.entries() if isinstance(key, str)}


def is_dict(value: Any) -> bool:
    """Whether it is a dict, or an object of a subclass."""
    return isinstance(value, Thing) and value.kind == "dict"


def has_names(value: Any, are: Callable[[Any], bool]) -> bool:
    """Whether it is a dict from strings to values, some of which satisfy `are`."""
    pairs = list(value.entries()) if is_dict(value) else []
    return all(isinstance(key, str) for key, _ in pairs) and any(are(held) for _, held in pairs)


def places(value: Any, depth: int = 3) -> Iterator[tuple[tuple[str | int, ...], Thing]]:
    """Yield each value reachable by plain keys, with these keys, nearest first."""
    level: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    seen: set[int] = set()  # a dict may hold itself
    for _ in range(depth):
        inside: list[tuple[tuple[str | int, ...], Any]] = []
        for keys, thing in level:
            if isinstance(thing, Thing) and id(thing) not in seen:
                seen.add(id(thing))
                yield keys, thing
                inside += [((*keys, key), held) for key, held in _inside(thing)]
        level = inside


def _inside(thing: Thing) -> Iterator[tuple[str | int, Any]]:
    if thing.kind in ("list", "tuple"):
        yield from enumerate(thing.items)
    elif thing.kind == "dict" and not is_optimizer(thing):
        for key, held in thing.entries():
            if isinstance(key, str) and key.isidentifier() and key.isascii() and len(key) < LONGEST_KEY:
                yield key, held
