"""Text for a terminal: names from files in printable characters, and tables. Only tables import rich."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

Say = Callable[[str], None]
"""Takes a line on the progress of a task."""
WIDTH = 100
"""Default width of a table, in columns."""
LEAST = 8
"""Least width of a shortened name."""
LONGEST = 2000
"""Upper bound on the characters of a line. A longer one loses its middle."""


def on_one_line(text: str) -> str:
    r"""Escape the characters of `text` that are not printable, as in \x1b and \n, and shorten it to LONGEST.

    Controls, direction marks, surrogates and separators other than the space are not printable.
    """
    if len(text) > LONGEST:
        half = LONGEST // 2
        text = f"{text[:half]} ... {len(text) - 2 * half:,} characters ... {text[-half:]}"
    return text if text.isprintable() else "".join(map(_shown, text))


def on_lines(text: str) -> str:
    """Apply `on_one_line` to each line of a text."""
    return "\n".join(map(on_one_line, text.split("\n")))


def as_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    right: Collection[str] = (),
    width: int = WIDTH,
    last: Collection[str] = (),
) -> str:
    """Format a table with two spaces between columns, within `width` if possible.

    right : columns of numbers, aligned right and never shortened. The widest others are shortened, down to LEAST;
    those of `last` when no other can be.
    """
    from rich.cells import cell_len

    cells = [[on_one_line(str(cell)) for cell in row] for row in (columns, *rows)]
    numbers = [name in right for name in columns]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    shrinking = [i for i, number in enumerate(numbers) if not number and widths[i] > LEAST]
    while shrinking and sum(widths) + 2 * (len(widths) - 1) > width:
        first = [i for i in shrinking if columns[i] not in last]
        widest = max(first or shrinking, key=widths.__getitem__)
        widths[widest] -= 1
        shrinking = [i for i in shrinking if widths[i] > LEAST]
    return "\n".join("  ".join(map(_aligned, row, widths, numbers)).rstrip() for row in cells)


def shortened(text: str, width: int) -> str:
    """Shorten `text` to `width` terminal columns by leaving out its middle."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    end = width // 2
    return f"{set_cell_size(text, width - 1 - end)}…{set_cell_size(text[::-1], end)[::-1]}"


def shape(dims: Sequence[int | str | None] | None) -> str:
    """Shape as text: 2x64x56x56, with ? for a dynamic axis whose name is an expression."""
    if dims is None:
        return "?"
    return "x".join(
        str(d) if isinstance(d, int) or ((d or "").isidentifier() and len(d or "") < 40) else "?" for d in dims
    )


def counted(count: int, what: str) -> str:
    """Count with noun: `1 near miss`, `2 near misses`."""
    ending = "" if count == 1 else "es" if what.endswith("s") else "s"
    return f"{count} {what}{ending}"


def _aligned(cell: str, width: int, number: bool) -> str:
    from rich.cells import cell_len

    cell = shortened(cell, width)
    space = " " * (width - cell_len(cell))
    return space + cell if number else cell + space


def _shown(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
