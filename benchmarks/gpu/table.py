"""The tables in docs/howto/gpu.md, from the newest run of results/gpu.jsonl that has them; not from one of `--only`.

python -m benchmarks.gpu table            prints them
python -m benchmarks.gpu table --write    puts them into docs/howto/gpu.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu import report
from benchmarks.page import put
from benchmarks.record import RESULTS

DOCS = Path(__file__).parents[2] / "docs/howto/gpu.md"
KEPT = RESULTS / "gpu.jsonl"
TITLES = {"check": "Right", "sanitizer": "compute-sanitizer", "speed": "Fast"}
NOT_YET = "Not yet measured: no run on a GPU has been kept. `make gpu` on a machine with one makes these tables."


def tables(kept: Path = KEPT) -> str:
    """Each table from the newest run that has rows of it."""
    if not kept.exists():
        return NOT_YET
    runs = [run for line in kept.read_text().splitlines() if not (run := json.loads(line)).get("only")]
    parts = []
    for name, title in TITLES.items():
        found = [run for run in runs if any(row["table"] == name for row in run["rows"])]
        if found:
            parts.append(_part(title, found[-1], [row for row in found[-1]["rows"] if row["table"] == name]))
    return "\n\n".join(parts) or NOT_YET


def _part(title: str, run: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    head = [name for name, _ in report.COLUMNS[rows[0]["table"]]]
    lines = [head, ["---"] * len(head), *(report.cells(row) for row in rows)]
    torch = run["versions"].get("torch", "unknown")
    made = (
        f"{run['device']}, driver {run['driver']}, CUDA {run['cuda']}, torch {torch}, {run['commit']}, {run['date']}."
    )
    grid = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"### {title}\n\n{grid}\n\n{report.summary(rows)}\n\n{made}".replace("\n\n\n\n", "\n\n")


def main(write: bool) -> None:
    """Print them, or write them into docs/howto/gpu.md."""
    if not write:
        print(tables())
        return
    put(DOCS, tables())
