"""The pictures that are kept are those that the command makes, and can be read on a light and on a dark page."""

import re
from xml.etree import ElementTree

import pytest

from benchmarks import picture
from benchmarks.picture import rooms, svg


def test_the_kept_pictures_are_what_the_command_makes() -> None:
    assert picture.others() == [], "python -m benchmarks.picture"


@pytest.mark.parametrize("name", picture.PICTURES)
def test_each_is_an_image_with_both_sets_of_colours(name: str) -> None:
    text = (picture.FOLDER / f"{name}.svg").read_text()
    root = ElementTree.fromstring(text)
    width, height = (float(root.attrib[side]) for side in ("width", "height"))
    assert "prefers-color-scheme: dark" in text
    used = {name for part in root.iter() for name in part.attrib.get("class", "").split()}
    assert {word.removeprefix("stroke-") for word in used} - {"none"} <= svg.LIGHT.keys()
    for part in root.iter("{http://www.w3.org/2000/svg}text"):
        place = {key: float(part.attrib[key]) for key in ("x", "y")}
        letters = len(part.text or "") * float(part.attrib["font-size"]) * 0.52
        start = place["x"] - letters * {"start": 0.0, "middle": 0.5, "end": 1.0}[part.attrib["text-anchor"]]
        assert 8 < start < start + letters < width - 8, part.text
        assert 8 < place["y"] < height - 8, part.text


@pytest.mark.parametrize("colors", [svg.LIGHT, svg.DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("on", "text"), [("card", "text"), ("card", "faint"), ("box", "text"), ("ours", "on")])
def test_texts_stand_out(colors: dict[str, str], on: str, text: str) -> None:
    """By the contrast that WCAG asks for."""
    low, high = sorted((_luminance(colors[on]), _luminance(colors[text])))
    assert (high + 0.05) / (low + 0.05) >= 4.5


def _luminance(color: str) -> float:
    parts = [int(part, 16) / 255 for part in re.findall("[0-9a-f]{2}", color)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_room_is_above_those_that_it_imports_from() -> None:
    of = rooms.imports()
    rank = rooms.ranks(of)
    assert of["cli"] > {"api"}
    assert not [(room, other) for room in of for other in of[room] if rank[other] >= rank[room]]
    assert rooms.arrows({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == [("a", "b"), ("b", "c")]
