"""Texts that came from a file, for a terminal: what is no printable character is shown as it is written in Python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

LONGEST = 2000
"""Characters of one line; of a longer one the middle is left out."""


def on_one_line(text: str) -> str:
    r"""`text` in printable characters: \x1b stands for an ESC, \n for an end of a line, \u202e turns no line round.

    Controls, marks of direction, surrogates and separators other than the space are no printable characters.
    """
    if len(text) > LONGEST:
        half = LONGEST // 2
        text = f"{text[:half]} ... {len(text) - 2 * half:,} characters ... {text[-half:]}"
    return text if text.isprintable() else "".join(map(_shown, text))


def on_lines(text: str) -> str:
    """The same of each line of a text of ours with names in it."""
    return "\n".join(map(on_one_line, text.split("\n")))


def as_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns side by side, texts to the left and all else in their width; in printable characters."""
    cells = [[on_one_line(str(cell)) for cell in row] for row in (columns, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in cells)


def _shown(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
