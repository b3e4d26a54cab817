"""Tables inside a page of Markdown, between two marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def put(page: Path, table: str) -> None:
    """Write `table` in the place of the one in `page`."""
    before, rest = page.read_text().split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}")


def grid(head: Sequence[str], rows: Sequence[Sequence[str]], align: str = "--:") -> list[str]:
    """The lines of a table. align : of all columns but the first."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return [lines[0], "|---|" + f"{align}|" * (len(head) - 1), *lines[1:]]
