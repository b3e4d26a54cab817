"""Texts that came from a file, for a terminal: what is no printable character is shown as it is written in Python."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

Say = Callable[[str], None]
"""Takes a line on the progress of a task."""
WIDTH = 100
"""Columns that a table fits into, unless the terminal says another width."""
LEAST = 8
"""Columns of the shortest name that is left of a longer one."""
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


def as_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], right: Collection[str] = (), width: int = WIDTH
) -> str:
    """Columns side by side, two spaces apart, in printable characters, within `width` where that can be done.

    right : the columns of numbers, which stay whole. The widest of the others are shortened, down to LEAST.
    """
    from rich.cells import cell_len

    cells = [[on_one_line(str(cell)) for cell in row] for row in (columns, *rows)]
    numbers = [name in right for name in columns]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    shrinking = [i for i, number in enumerate(numbers) if not number and widths[i] > LEAST]
    while shrinking and sum(widths) + 2 * (len(widths) - 1) > width:
        widest = max(shrinking, key=widths.__getitem__)
        widths[widest] -= 1
        shrinking = [i for i in shrinking if widths[i] > LEAST]
    return "\n".join("  ".join(map(_aligned, row, widths, numbers)).rstrip() for row in cells)


def shortened(text: str, width: int) -> str:
    """`text` in `width` columns of a terminal: of a longer one the middle is left out, as its end tells it apart."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    end = width // 2
    return f"{set_cell_size(text, width - 1 - end)}…{set_cell_size(text[::-1], end)[::-1]}"


def shape(dims: Sequence[int | str | None] | None) -> str:
    """As in 2x64x56x56; an axis is ? where it is dynamic and its name is an expression."""
    if dims is None:
        return "?"
    return "x".join(
        str(d) if isinstance(d, int) or ((d or "").isidentifier() and len(d or "") < 40) else "?" for d in dims
    )


def counted(count: int, what: str) -> str:
    """As in `1 near miss`, `2 near misses`."""
    ending = "" if count == 1 else "es" if what.endswith("s") else "s"
    return f"{count} {what}{ending}"


def _aligned(cell: str, width: int, number: bool) -> str:
    from rich.cells import cell_len

    cell = shortened(cell, width)
    space = " " * (width - cell_len(cell))
    return space + cell if number else cell + space


def _shown(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
