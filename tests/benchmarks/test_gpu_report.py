"""`make gpu`: what is printed and kept."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from helpers.gpu_machine import speed_row  # noqa: E402

from benchmarks import record  # noqa: E402
from benchmarks.gpu import report, table  # noqa: E402
from benchmarks.page import BEGIN, END  # noqa: E402


def test_a_missed_target_is_said_and_is_no_failure() -> None:
    slow = speed_row(figure=0.8, ok=False, over_compile=0.9, row="medium f16 NCHW 28x28")
    text = report.text([speed_row(), slow])
    assert re.search(r"28x28 .* 0\.800 +>= 0\.92 +missed", text)
    assert "1 of 2 rows meet their target" in text
    assert "1.5 times as fast or more in 1 of 2 rows, slower in medium f16 NCHW 28x28" in text
    assert not report.failed([slow])
    wrong = speed_row(worst=math.nan)
    assert report.failed([wrong])
    assert re.search(r"0\.950 +>= 0\.92 +WRONG", report.text([wrong]))
    assert "0 of 1 rows meet their target" in report.text([wrong])
    assert report.failed([])


def test_a_check_that_did_not_run_is_not_called_right() -> None:
    row = {"table": "check", "check": "eight streams", "cases": 0, "worst": 0.0, "ok": True, "note": "needs a GPU"}
    assert re.search(r"eight streams +0 +0 +- +needs a GPU", report.text([row]))
    assert "0 of 0 checks are right" in report.text([row])


def test_what_was_measured_is_kept_row_by_row(tmp_path: Path) -> None:
    kept = tmp_path / "results/gpu.jsonl"
    record.Growing(kept, device="A").add({"table": "speed", "us": 1.23456789})
    growing = record.Growing(kept, device="B")
    assert len(kept.read_text().splitlines()) == 1
    growing.add({"n": 1})
    growing.add({"n": 2})
    first, second = map(json.loads, kept.read_text().splitlines())
    assert first["rows"] == [{"table": "speed", "us": 1.235}]
    assert (second["device"], second["rows"]) == ("B", [{"n": 1}, {"n": 2}])
    assert second["commit"]
    assert second["versions"]["torch"] == torch.__version__.partition("+")[0] or second["versions"]["torch"]
    assert [path.name for path in kept.parent.iterdir()] == ["gpu.jsonl"]


def test_a_table_is_made_of_the_newest_run(tmp_path: Path) -> None:
    kept = tmp_path / "gpu.jsonl"
    assert table.tables(kept) == table.NOT_YET
    where = {"driver": "580", "cuda": "13.0"}
    check = {"table": "check", "check": "f16 NCHW", "cases": 9, "worst": 0.5, "ok": True, "note": ""}
    old = record.Growing(kept, device="old", **where)
    old.add(check)
    old.add(speed_row(us=99.0))
    record.Growing(kept, device="new", **where).add(speed_row(us=11.0))
    record.Growing(kept, device="newest", only="7x7", **where).add(speed_row(us=7.0))
    text = table.tables(kept)
    assert "| f16 NCHW | 9 | 0.5 | ok |" in text
    assert "| medium f16 NCHW 56x56 |  | 11 |" in text
    assert "| 99 |" not in text
    assert "old, driver 580" in text
    assert "new, driver 580" in text
    assert "newest" not in text


def test_the_page_is_what_was_kept() -> None:
    assert f"{BEGIN}\n{table.tables()}\n{END}" in table.DOCS.read_text()
