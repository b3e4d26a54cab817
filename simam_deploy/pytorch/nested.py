"""Nested values: their leaves by name, and the same structure with other leaves."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

PLAIN = (type(None), bool, int, float, complex, str, bytes)
"""Types of values beside tensors. They are constants in an export."""


def named(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested tuples, lists, dicts and dataclasses, with their names.

    A single leaf is `output`; items of a tuple or list are `output_0`, `output_1`; items of a dict, named tuple or
    dataclass have their keys; deeper levels are joined with `_`. `name` precedes all, if given.
    """
    items = _items(value)
    if items is None:
        yield name or "output", value
        return
    for key, item in items:
        before = name or ("output" if isinstance(key, int) and not isinstance(value, Mapping) else "")
        yield from named(item, f"{before}_{key}" if before else str(key))


def keyed(value: Any) -> bool:
    """Whether the names of all leaves consist of keys alone, chosen by the author of the model."""
    items = _items(value)
    sequence = isinstance(value, list | tuple) and not hasattr(value, "_fields")
    return items is not None and not sequence and all(_items(item) is None or keyed(item) for _, item in items)


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """`value` with `change(leaf)` for each leaf, in the order of `named`; `value` itself if no leaf changes."""
    items = _items(value)
    if items is None:
        return change(value)
    new = [mapped(item, change) for _, item in items]
    if all(one is other for one, (_, other) in zip(new, items, strict=True)):
        return value
    keys = [key for key, _ in items]
    if isinstance(value, list | tuple):
        return value._make(new) if hasattr(value, "_make") else type(value)(new)
    made = copy.copy(value)
    if isinstance(value, Mapping):
        made.update(zip(keys, new, strict=True))
    else:
        for key, item in zip(keys, new, strict=True):
            object.__setattr__(made, key, item)
    return made


def unique(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """The names as unique identifiers: `_` for other characters, a number for duplicates."""
    known, result = set(taken), []
    for given in names:
        plain = "".join(c if c.isalnum() or c == "_" else "_" for c in given)
        name, count = plain, 1
        while name in known:
            name, count = f"{plain}_{count}", count + 1
        known.add(name)
        result.append(name)
    return result


def _items(value: Any) -> list[tuple[Any, Any]] | None:
    """Keys and values one level down; None for a leaf."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, list | tuple):
        return list(zip(getattr(value, "_fields", range(len(value))), value, strict=True))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return None
