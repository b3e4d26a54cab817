"""Nested values, flat and named, and made again."""

from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass, field
from typing import Any

import pytest

from simam_deploy.pytorch.nested import mapped, named, unique

Pair = namedtuple("Pair", ["one", "two"])


@dataclass
class Made:
    first: int
    rest: list[int] = field(default_factory=list)
    later: int = field(init=False, default=7)


@dataclass(frozen=True)
class Frozen:
    only: int


NESTED: list[tuple[Any, dict[str, int]]] = [
    (1, {"output": 1}),
    ((1, 2), {"output_0": 1, "output_1": 2}),
    ([1, [2, (3,)]], {"output_0": 1, "output_1_0": 2, "output_1_1_0": 3}),
    ({"a": 1, "b": [2]}, {"a": 1, "b_0": 2}),
    ({"a": {"b": 1}}, {"a_b": 1}),
    ({3: 1}, {"3": 1}),
    (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    (UserDict(a=1), {"a": 1}),
    (Pair(1, {"x": 2}), {"one": 1, "two_x": 2}),
    ((Pair(1, 2),), {"output_0_one": 1, "output_0_two": 2}),
    (Made(1, [2]), {"first": 1, "rest_0": 2, "later": 7}),
    (Frozen(1), {"only": 1}),
]


@pytest.mark.parametrize(("value", "leaves"), NESTED, ids=str)
def test_leaves_have_names(value: Any, leaves: dict[str, int]) -> None:
    assert list(named(value)) == list(leaves.items())


def test_a_name_stands_in_front() -> None:
    assert list(named([1, {"a": 2}], "xs")) == [("xs_0", 1), ("xs_1_a", 2)]
    assert list(named(1, "x")) == [("x", 1)]


@pytest.mark.parametrize(("value", "leaves"), NESTED, ids=str)
def test_the_same_structure_with_other_leaves(value: Any, leaves: dict[str, int]) -> None:
    before = list(named(value))
    made = mapped(value, lambda leaf: leaf + 10)
    assert type(made) is type(value)
    assert list(named(made)) == [(name, leaf + 10) for name, leaf in leaves.items()]
    assert list(named(value)) == before
    assert mapped(value, lambda leaf: leaf) is value


def test_names_are_made_unique_and_plain() -> None:
    assert unique(["a", "a", "b c", "b/c", "x"], ["x"]) == ["a", "a_1", "b_c", "b_c_1", "x_1"]
