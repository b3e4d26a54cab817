"""The command of `make peers`: every case of every peer, with a line for each when it is done.

    python -m benchmarks.peers [PEER ...] [--only TEXT] [--write]
    python -m benchmarks.peers [PEER ...] --table

A run is kept in results/PEER.jsonl. `--only` runs the cases that have TEXT in their names: all take an hour on two
cores. `--write` puts a table into the peer's page, of the newest row of each case; `--table` does that alone. Exit
status: 0, or 1 when a case failed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.page import put
from benchmarks.peers import PEERS, Figures
from benchmarks.record import RESULTS, Growing


def main(arguments: Sequence[str] | None = None) -> int:
    """See above."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("peers", nargs="*", choices=[[], *PEERS], metavar="PEER")
    parser.add_argument("--only", default="", metavar="TEXT", help="what is in a case's name")
    parser.add_argument("--write", action="store_true", help="run, and put the table into the peer's page")
    parser.add_argument("--table", action="store_true", help="put it there without a run")
    asked = parser.parse_args(arguments)
    failed = 0
    for name in asked.peers or PEERS:
        peer = import_module(f"benchmarks.peers.{name}")
        if not asked.table:
            failed += _run(name, peer, asked.only)
        if asked.table or asked.write:
            put(peer.DOCS, "\n".join(peer.table(newest(name, peer))))
    return 1 if failed else 0


def newest(name: str, peer: Any) -> dict[str, Any]:
    """The newest run, with the newest row of each case. Runs with other versions of anything do not count."""
    runs: list[dict[str, Any]] = [json.loads(line) for line in (RESULTS / f"{name}.jsonl").read_text().splitlines()]
    last = runs[-1]
    same = [run for run in runs if all(run[key] == last[key] for key in ("machine", "versions"))]
    rows = {row["case"]: row for run in same for row in run["rows"]}
    return last | {"rows": [rows[case] for parts in peer.cases() if (case := " · ".join(parts)) in rows]}


def _run(name: str, peer: Any, only: str) -> int:
    """How many cases failed."""
    chosen = {case: make for parts, make in peer.cases().items() if only in (case := " · ".join(parts))}
    kept = Growing(RESULTS / f"{name}.jsonl")
    warnings.simplefilter("ignore")  # of exporters, between the lines
    failed = 0
    for at, (case, make) in enumerate(chosen.items(), 1):
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="peers-") as folder:
            try:
                figures: Figures = make(Path(folder))
            except Exception as error:  # whatever comes from a peer is a result
                figures = {"failure": " ".join(f"{type(error).__name__}: {error}".split())}
                failed += 1
        kept.add({"case": case, **figures})
        said = figures.get("failure") or ", ".join(f"{key} {_short(value)}" for key, value in figures.items())
        print(f"{at:3}/{len(chosen)} {time.monotonic() - start:6.1f} s  {case}: {said}", flush=True)
    print(f"{name}: {len(chosen) - failed} of {len(chosen)} cases passed", flush=True)
    return failed


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
