"""Sizes as people write them: every spelling, names with separators in them, texts with two readings."""

import numpy as np
import pytest

from simam_deploy.engines.shape_ranges import Given, ShapeRange, parse_shapes, shape_range
from simam_deploy.errors import InputError

TWO = {"x": ShapeRange((1, 3), (2, 3), (4, 3)), "y": ShapeRange((1, 4), (2, 4), (4, 4))}


def one(*parts: tuple[int, ...]) -> dict[str, ShapeRange]:
    return {"x": ShapeRange(*parts)}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("x:1x3x8x8", one((1, 3, 8, 8), (1, 3, 8, 8), (1, 3, 8, 8))),
        ("x:1x3x8x8..2x3x9x9..4x3x10x10", one((1, 3, 8, 8), (2, 3, 9, 9), (4, 3, 10, 10))),
        ("x:1x3..4x3", one((1, 3), (4, 3), (4, 3))),
        ("x:1x3,2x3,4x3", one((1, 3), (2, 3), (4, 3))),
        ("x:7", one((7,), (7,), (7,))),
        ("'x':1..2", one((1,), (2,), (2,))),
        ("x:1x3..2x3..4x3,y:1x4..2x4..4x4", TWO),
        ("x:1x3,2x3,4x3,y:1x4,2x4,4x4", TWO),
        ("x:1x3,y:1x4/x:2x3,y:2x4/x:4x3,y:4x4", TWO),
        ("y:1x4,x:1x3/x:2x3,y:2x4/'x':4x3,'y':4x4", TWO),
        ("x:1x3,y:1x4/x:4x3,y:4x4", {name: ShapeRange(r.min, r.max, r.max) for name, r in TWO.items()}),
        ("x:1x3,y:1x4", {name: ShapeRange(r.min, r.min, r.min) for name, r in TWO.items()}),
    ],
)
def test_spellings(text: str, wanted: dict[str, ShapeRange]) -> None:
    assert parse_shapes([text], ["x", "y"]) == wanted


def test_a_text_for_each_input() -> None:
    assert parse_shapes(["x:1x3..2x3..4x3", "y:1x4,2x4,4x4"], ["x", "y"]) == TWO


@pytest.mark.parametrize(
    "name",
    [
        "in:0",
        "a,b",
        "images.1",
        "a..b",
        "m/x:0",
        "while:1/x",
        "x:1x3,x",
        "1x3",
        "1",
        "x ",
        " ",
        "'x'",
        "λ",
        ":",
        ",",
        "/",
    ],
)
@pytest.mark.parametrize("range_", ["2x3", "2x3..4x3", "2x3..3x3..4x3", "2x3,3x3,4x3"])
def test_names_with_separators_in_them(name: str, range_: str) -> None:
    read = parse_shapes([f"{name}:{range_}"], [name])
    assert parse_shapes([f"x:{range_}"], ["x"]) == {"x": read[name]}
    assert parse_shapes([f"other:5,{name}:{range_}"], [name, "other"]).keys() == {"other", name}
    assert parse_shapes([f"{name}:{range_},'other':5"], [name, "other"]).keys() == {"other", name}
    grouped = parse_shapes([f"{name}:2x3/{name}:4x3"], [name])
    assert grouped == {name: ShapeRange((2, 3), (4, 3), (4, 3))}


def test_the_names_decide() -> None:
    assert parse_shapes(["in:7,y:1x4"], ["in:7,y"]).keys() == {"in:7,y"}
    assert parse_shapes(["in:7,y:1x4"], ["in", "y"]).keys() == {"in", "y"}
    assert parse_shapes(["a:1/a:2"], ["a:1/a"]) == {"a:1/a": ShapeRange((2,), (2,), (2,))}
    assert parse_shapes(["a:1/a:2"], ["a"]) == {"a": ShapeRange((1,), (2,), (2,))}


def test_two_readings() -> None:
    names = ["in", "y", "in:7,y"]
    words = r"(?s)'in:7,y:1x4' have two readings:.*\n  'in' is 7, 'y' is 1x4\nput the names in single quotes"
    with pytest.raises(InputError, match=words):
        parse_shapes(["in:7,y:1x4"], names)
    with pytest.raises(InputError, match=r"\n  'in:7,y' is 1x4\n"):
        parse_shapes(["in:7,y:1x4"], names)
    assert parse_shapes(["'in':7,'y':1x4"], names).keys() == {"in", "y"}
    assert parse_shapes(["'in:7,y':1x4"], names).keys() == {"in:7,y"}


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["1x3x8x8"], r"cannot read '1x3x8x8'; write NAME:1x3x224x224"),
        (["x:1x3xHxW"], r"cannot read 'x:1x3xHxW'; write"),
        (["x:1x3,2x3"], r"cannot read '2x3' in the shapes 'x:1x3,2x3'; write"),
        (["x:1x3,y:2x-3"], r"cannot read 'y:2x-3' in the shapes"),
        (["x:"], r"cannot read 'x:'"),
        (["x:1x3,"], r"cannot read '' in the shapes 'x:1x3,'"),
        (["x:1..2..3..4"], r"cannot read"),
        (["x:1...2"], r"cannot read"),
        (["x:" + "9" * 5000], r"cannot read"),
        (["x:１x３"], r"cannot read"),
        ([""], r"cannot read ''"),
        (["x:1x3", "x:1x4"], r"'x' has more than one shape; write one x:MIN\.\.OPT\.\.MAX"),
        (["x:1x3,x:1x4"], r"input 'x' has more than one shape; write"),
        (["x:1/y:1"], r"the groups between slashes name different inputs"),
        (["x:1/x:2/x:3/x:4"], r"between slashes are the smallest, the best and the largest"),
        (["x:1..2/x:3"], r"between slashes are the smallest, the best and the largest"),
        (["image:1x3"], r"no input is called 'image'; the inputs are x, y"),
        (["x:1x3,image:1x3..2x3"], r"no input is called 'image'"),
        (["'image':1x3"], r"no input is called 'image'"),
        (["x:0x3"], r"0x3 is not 1 <= MIN"),
        (["x:2147483648"], r"2147483648 is not .* <= 2,147,483,647"),
        (["x:2x3..1x3..4x3"], r"2x3\.\.1x3\.\.4x3 is not 1 <= MIN <= OPT <= MAX"),
        (["x:2x3..4x3x3"], r"is not 1 <= MIN .*\nits parts have unlike numbers of sizes"),
        (["x:8x3..2x3"], r"is not 1 <= MIN .*\nthe largest stands first: swap them"),
    ],
)
def test_shapes_that_cannot_be(texts: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_shapes(texts, ["x", "y"])


def test_a_long_text_is_read_in_time() -> None:
    names = [f"x{i}" for i in range(500)]
    assert len(parse_shapes([",".join(f"{name}:1x3..2x3" for name in names)], names)) == 500


def test_a_range_as_it_is_written() -> None:
    for text in ("1x3", "1x3..2x3..4x3", "1x3..4x3..4x3"):
        assert str(parse_shapes([f"x:{text}"], ["x"])["x"]) == text


# ---- in Python


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ((1, 3, 8, 8), ShapeRange(*[(1, 3, 8, 8)] * 3)),
        (np.array([1, 3]), ShapeRange(*[(1, 3)] * 3)),
        ([(1, 3), (4, 3)], ShapeRange((1, 3), (4, 3), (4, 3))),
        ([(1, 3), [2, 3], (4, 3)], ShapeRange((1, 3), (2, 3), (4, 3))),
        (ShapeRange((2,), (3,), (4,)), ShapeRange((2,), (3,), (4,))),
    ],
)
def test_shapes_in_python(given: Given, wanted: ShapeRange) -> None:
    assert shape_range("x", given) == wanted


@pytest.mark.parametrize("given", ["1x3", [(1, 3), 4, 5], [[1, 2], ["a", 2], [3, 3]], [(1.5, 3)], [(1,)] * 4])
def test_shapes_that_are_none(given: Given) -> None:
    with pytest.raises(InputError, match=r"cannot read the shape .* of input .x.; give \(1, 3, 224, 224\), or two"):
        shape_range("x", given)


def test_shapes_out_of_order() -> None:
    with pytest.raises(InputError, match=r"1x3\.\.1x2\.\.1x4 is not 1 <= MIN <= OPT <= MAX"):
        shape_range("x", [(1, 3), (1, 2), (1, 4)])
