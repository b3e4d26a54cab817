"""The pictures of the README and the docs, made from a file, from what was measured, and from the code.

python -m benchmarks.picture            writes them into docs/pictures
python -m benchmarks.picture --check    says which of those that are there are others

svg      shapes and texts on a card that is readable on a light and on a dark page
graph    the nodes of one SimAM block, before and after `fuse`
cost     the cost of SimAM on a CPU, from results/cpu.jsonl
rooms    the rooms of the package and who imports whom
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.picture import cost, graph, rooms

FOLDER = Path(__file__).parents[2] / "docs/pictures"
PICTURES: dict[str, Callable[[], str]] = {"graph": graph.picture, "cost": cost.picture, "rooms": rooms.picture}


def others() -> list[Path]:
    """The files that are not what the command makes."""
    made = {FOLDER / f"{name}.svg": make() for name, make in PICTURES.items()}
    return [path for path, text in made.items() if not path.is_file() or path.read_text() != text]


def write() -> None:
    """Write all of them."""
    FOLDER.mkdir(exist_ok=True)
    for name, make in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(make())
