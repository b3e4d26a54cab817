"""compute-sanitizer in `make gpu`, played by a script of the shell: what it finds is its exit status."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from helpers.gpu_machine import sanitizer_script  # noqa: E402

from benchmarks.gpu import report, sanitize  # noqa: E402
from benchmarks.gpu.clock import Clock  # noqa: E402


def sanitizer(folder: Path, finds: str, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    fake = sanitizer_script(folder, finds)
    monkeypatch.setenv("SANITIZER", str(fake))
    return list(sanitize.run_all(Path("program"), Clock(60)))


ALL_PLANTED = '"memcheck memcheck"|"racecheck racecheck"|"initcheck initcheck"|"synccheck synccheck"'


def test_clean_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = sanitizer(tmp_path, ALL_PLANTED, monkeypatch)
    assert [row["tool"] for row in done] == [*sanitize.TOOLS, "racecheck of clusters"]
    assert [row["planted"] for row in done] == ["caught"] * 4 + ["not caught"]
    assert done[-1]["kernels"] == "not covered"
    assert not report.failed(done)


def test_a_race_in_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = sanitizer(tmp_path, f'{ALL_PLANTED}|"racecheck kernels"', monkeypatch)
    assert [row["tool"] for row in done if not row["ok"]] == ["racecheck"]
    assert report.failed(done)


def test_what_a_tool_finds_in_the_kernels_counts_whatever_it_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = sanitizer(tmp_path, '"racecheck kernels"', monkeypatch)
    assert [(row["tool"], row["kernels"]) for row in done if not row["ok"]] == [("racecheck", "found")]
    assert "racecheck on the kernels:\n========= COMPUTE-SANITIZER\nfound" in capsys.readouterr().err


def test_a_tool_without_time_ends_with_the_program_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "compute-sanitizer"
    begin = f'case "$8" in kernels) sleep 300 & echo $! >>{tmp_path}/started; wait;; esac'
    fake.write_text(f"#!/bin/sh\n{begin}\nexit 9\n")
    fake.chmod(0o755)
    monkeypatch.setenv("SANITIZER", str(fake))

    def still_there() -> list[bool]:
        there = [Path("/proc", pid, "cmdline") for pid in (tmp_path / "started").read_text().split()]
        for _ in range(100):  # what was killed may take a moment; a zombie's file is empty
            left = [path.exists() and bool(path.read_text()) for path in there]
            if not any(left):
                break
            time.sleep(0.1)
        return left

    done = list(sanitize.run_all(Path("program"), Clock(2)))
    assert [row["kernels"][:11] for row in done[:4]] == ["did not end"] * 4
    assert still_there() == [False] * 4

    (tmp_path / "started").unlink()
    begun = sanitize.run_all(Path("program"), Clock(2))
    next(begun)
    begun.close()  # as where the command is stopped
    assert still_there() == [False] * 4


def test_a_tool_that_misses_the_defect_covers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = sanitizer(tmp_path, '"racecheck cluster"', monkeypatch)
    assert {row["planted"] for row in done[:-1]} == {"not caught"}
    assert all("not covered" in row["kernels"] for row in done[:-1])
    assert done[-1]["planted"] == "caught"


def test_no_compute_sanitizer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sanitize, "find", lambda: None)
    (row,) = sanitize.run_all(Path("program"), Clock(60))
    assert "not on the PATH" in row["kernels"]
