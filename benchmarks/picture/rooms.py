"""The rooms of the package, each above those that it imports from; arrows that follow from others are left out."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from itertools import combinations, permutations
from pathlib import Path

from benchmarks.picture.svg import Card

PACKAGE = Path(__file__).parents[2] / "simam_deploy"
STEP, TOP, BOX = 66, 44, (112, 28)
COLUMNS = (80, 160, 240, 320, 400, 480, 560, 640, 720)


def imports() -> dict[str, set[str]]:
    """Of each room, the rooms that its files import from."""
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room != "__init__":
            named = {name for node in ast.walk(ast.parse(path.read_text())) for name in _named(node)}
            found.setdefault(room, set()).update(named - {room})
    return {room: {name for name in names if name in found} for room, names in found.items()}


def _named(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        return []
    return [name.split(".")[1] for name in names if name.startswith(f"{PACKAGE.name}.")]


def ranks(of: dict[str, set[str]]) -> dict[str, int]:
    """Each room as high as those allow that import from it, so that arrows are short.

    Raises RecursionError where rooms import each other in a circle.
    """
    users = {room: [other for other in of if room in of[other]] for room in of}
    least = {room: _height(room, of) for room in of}

    def rank(room: str) -> int:
        return min((rank(user) for user in users[room]), default=least[room] + 1) - 1

    return {room: rank(room) for room in of}


def _height(room: str, of: dict[str, set[str]]) -> int:
    return max((1 + _height(other, of) for other in of[room]), default=0)


def _reach(room: str, of: dict[str, set[str]]) -> set[str]:
    return of[room].union(*(_reach(other, of) for other in of[room]))


def arrows(of: dict[str, set[str]]) -> list[tuple[str, str]]:
    """From room to room, without those that follow from others."""
    every = [(room, other) for room in sorted(of) for other in sorted(of[room])]
    return [(room, other) for room, other in every if not any(other in _reach(via, of) for via in of[room])]


def placed(rank: dict[str, int], drawn: list[tuple[str, str]]) -> dict[str, tuple[float, float]]:
    """The middle of each box. In each row those columns that make arrows short, and let none run behind a box."""
    top = max(rank.values())
    rows = [sorted(room for room in rank if rank[room] == at) for at in range(top + 1)]
    places: dict[str, tuple[float, float]] = {}
    for height, row in enumerate(rows):
        middle = (len(COLUMNS) - len(row)) // 2
        places.update(_in_row(row, COLUMNS[middle:], top - height))
    for height in [*range(top + 1), *reversed(range(top + 1))] * 3:
        ways = permutations(COLUMNS, len(rows[height]))
        tried = ({**places, **_in_row(rows[height], columns, top - height)} for columns in ways)
        places = min(tried, key=lambda places: _badness(places, drawn))
    return places


def _in_row(row: Sequence[str], columns: Sequence[int], depth: int) -> dict[str, tuple[float, float]]:
    return {room: (x, TOP + STEP * depth) for room, x in zip(row, columns, strict=False)}


def _badness(places: dict[str, tuple[float, float]], drawn: list[tuple[str, str]]) -> float:
    total = 0.0
    for room, other in drawn:
        (x0, y0), (x1, y1) = places[room], places[other]
        total += abs(x1 - x0) + 0.1 * abs(x0 - 400)
        for x, y in places.values():
            if y0 < y < y1 and abs(x0 + (x1 - x0) * (y - y0) / (y1 - y0) - x) < BOX[0] / 2 + 8:
                total += 1000
    for (x0, y0), (x1, y1) in combinations(places.values(), 2):
        total += 10_000 * (y0 == y1 and abs(x0 - x1) < BOX[0] + 20)
    return total


def picture() -> str:
    """The SVG."""
    of = imports()
    drawn = arrows(of)
    places = placed(ranks(of), drawn)
    card = Card(800, int(max(y for _, y in places.values())) + 40, "The rooms of the package by rank")
    for room, other in drawn:
        (x0, y0), (x1, y1) = places[room], places[other]
        card.line(f"M{x0:.0f},{y0 + BOX[1] / 2:.0f} L{x1:.0f},{y1 - BOX[1] / 2:.0f}", arrow=True)
    for room, (x, y) in places.items():
        card.box(x - BOX[0] / 2, y - BOX[1] / 2, *BOX, "box", line="line")
        card.text(x, y + 4, room, anchor="middle")
    return card.svg()
