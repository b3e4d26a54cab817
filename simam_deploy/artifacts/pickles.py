"""The outline of a pickle, read without running anything: which containers, and objects of which classes, hold which.

A pickle is a program for a stack machine that may call whatever it names. Here a name stays a name, and a call is
noted as an object of that name.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

TORCH_MAGIC = 0x1950A86A20F9469CFC6C
"""The first of the pickles in a row that torch.save wrote before it wrote zips; the fourth is what was saved."""


MOST_OPERATIONS = 100_000
"""That are read. The pickle of a detector with its optimiser has fewer."""
LONGEST_KEY = 100
"""Letters of a key, or of a name, that is written down."""


@dataclass(eq=False)
class Thing:
    """A container or an object. name : of the class or function, "" for a plain container."""

    kind: str
    """dict, list, set, tuple, global or object."""
    name: str = ""
    items: list[Any] = field(default_factory=list)
    """The values; in a dict they follow their keys. Of an object, the arguments and then its state."""

    def entries(self) -> Iterator[tuple[Any, Any]]:
        """Keys and values of a dict."""
        return zip(self.items[::2], self.items[1::2], strict=False)


@dataclass
class Outline:
    """What one pickle holds; all names in it, in their order; whether it was read to its end."""

    value: Any = None
    names: list[str] = field(default_factory=list)
    whole: bool = False


def outlines(data: bytes) -> list[Outline]:
    """Of the pickles in a row, as far as they can be read: the last may be cut off. Raises nothing."""
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
        """With what is still open put where it would have gone."""
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
        """The last values, taken off."""
        if (start := len(self._stack) - count) < 0:
            raise IndexError
        held = self._stack[start:]
        del self._stack[start:]
        return held

    def _above(self) -> list[Any]:
        """What is above the last mark, taken off with it."""
        mark = self._marks.pop()
        held = self._stack[mark:]
        del self._stack[mark:]
        return held


_KINDS = {"EMPTY_DICT": "dict", "DICT": "dict", "EMPTY_LIST": "list", "LIST": "list", "EMPTY_SET": "set"}
_KINDS |= {"FROZENSET": "set", **dict.fromkeys(("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"), "tuple")}
"""Of what the operations make."""
_COUNTS = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, **{name: 0 for name in _KINDS if name.startswith("EMPTY_")}}
"""How many values each takes; the others take those above the last mark."""


def _called(called: Any, given: list[Any]) -> Thing:
    name = called.name if isinstance(called, Thing) else ""
    if name in ("collections.OrderedDict", "collections.defaultdict", "builtins.dict", "__builtin__.dict"):
        return Thing("dict", name)
    if name.endswith("_reconstructor") and given and isinstance(given[0], Thing) and given[0].items:
        name = getattr(given[0].items[0], "name", name)  # copyreg: an object of protocol 0 or 1
    return Thing("object", name, given)


# What the things are ------------------------------------------------------------------------------------------------


def is_tensor(value: Any) -> bool:
    """A tensor or a parameter of PyTorch."""
    return isinstance(value, Thing) and value.name.startswith(("torch._utils._rebuild_", "torch._tensor._rebuild_"))


def is_array(value: Any) -> bool:
    """An array of NumPy."""
    made = (".multiarray._reconstruct", ".numeric._frombuffer")
    return isinstance(value, Thing) and value.name.startswith("numpy.") and value.name.endswith(made)


def is_module(value: Any) -> bool:
    """An nn.Module: an object whose state has its dicts."""
    states = [item for item in value.items if isinstance(item, Thing)] if isinstance(value, Thing) else []
    keys = [key for state in states if value.kind == "object" and state.kind == "dict" for key, _ in state.entries()]
    return "_parameters" in keys or "_modules" in keys


def is_optimizer(value: Any) -> bool:
    """The state_dict of an optimizer."""
    return is_dict(value) and {"state", "param_groups"} <= {key for key, _ in value.entries() if isinstance(key, str)}


def is_dict(value: Any) -> bool:
    """A dict, or an object that is one as well."""
    return isinstance(value, Thing) and value.kind == "dict"


def has_names(value: Any, are: Callable[[Any], bool]) -> bool:
    """A dict from texts to values some of which `are`, a function of one, such."""
    pairs = list(value.entries()) if is_dict(value) else []
    return all(isinstance(key, str) for key, _ in pairs) and any(are(held) for _, held in pairs)


def places(value: Any, depth: int = 3) -> Iterator[tuple[tuple[str | int, ...], Thing]]:
    """Each thing that is reached through keys that can be written down, with these keys; what is near comes first."""
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
