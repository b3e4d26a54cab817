"""The table of converters: the better of two files, and whether it is a conversion at all."""

from typing import Any

import pytest

from benchmarks import half


def row(db: float | None, layers: str = "4 of 4") -> dict[str, Any]:
    return {"SNR dB": db, "in 16 bits": None if db is None else layers}


@pytest.mark.parametrize(
    ("rows", "cell"),
    [
        ([row(58.712), row(None)], "58.71"),
        ([row(51.2), row(52.3)], "52.30"),
        ([row(half.LOST), row(None)], "NaN"),
        ([row(None), row(None)], "not valid"),
        ([row(half.LOST), row(67.66, "1 of 4")], "67.66 (1 of 4 layers)"),
    ],
)
def test_a_cell(rows: list[dict[str, Any]], cell: str) -> None:
    assert half._best(rows) == cell


def test_each_column_takes_its_files() -> None:
    files = [key for keys in half.COLUMNS.values() for key in keys]
    rows = [
        row(float(at)) | {"pixels": "0 to 255", "converter": label, "file": form}
        for at, (label, form) in enumerate(files)
    ]
    best = [f"{max(files.index(key) for key in keys):.2f}" for keys in half.COLUMNS.values()]
    assert half._cells(rows) == {"0 to 255": best}
