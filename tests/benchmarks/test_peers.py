"""The table of `make peers`: the newest row of each case, of runs with the versions of the newest run."""

import ast
import json
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.peers import __main__ as command
from benchmarks.peers import edge, yolo
from benchmarks.peers.__main__ import newest

PEER = SimpleNamespace(cases=lambda: {("a", "fixed"): None, ("a", "batch"): None, ("b", "fixed"): None})


def rows(monkeypatch: pytest.MonkeyPatch, folder: Path, *runs: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """Of runs with a version and the figure of each case."""
    monkeypatch.setattr(command, "RESULTS", folder)
    lines = [
        {"machine": "m", "versions": {"torch": version}, "rows": [{"case": c, "n": n} for c, n in figures.items()]}
        for version, figures in runs
    ]
    (folder / "peer.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {row["case"]: row["n"] for row in newest("peer", PEER)["rows"]}


def test_the_newest_row_of_each_case(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = {"a · fixed": 1, "a · batch": 1, "b · fixed": 1}
    assert rows(monkeypatch, tmp_path, ("2", first), ("2", {"a · batch": 2})) == first | {"a · batch": 2}


def test_what_is_no_case_any_more_and_other_versions_do_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = rows(monkeypatch, tmp_path, ("1", {"a · fixed": 1}), ("2", {"b · fixed": 2, "c · fixed": 2}))
    assert found == {"b · fixed": 2}


def test_a_cell_says_what_failed_and_what_was_not_run() -> None:
    case = "yolo11n · `export`, dynamo · fixed"
    good = {"blocks": 4, "before_ms": 2, "after_ms": 1, "kernel": "avx512"}
    run = {"machine": "m", "date": "d", "versions": dict.fromkeys(yolo._VERSIONS.values(), "1")}
    bad = {"case": case.replace("fixed", "batch"), "failure": "of some kind"}
    _, _, row, *_ = yolo.table(run | {"rows": [{"case": case, **good}, bad]})
    assert row.split(" | ")[-3:] == ["4, 2.0 → 1.0 ms", "fails", "not run |"]


def test_a_cell_of_the_edge_runtimes() -> None:
    name = next(iter(edge.WRONG))
    rows = [{"case": "digits · mnn", "worst": 0.25}, {"case": "digits · ncnn", "failure": "of some kind"}]
    run = {"machine": "m", "date": "d", "versions": dict.fromkeys(("MNN", "ncnn", "pnnx", "torch"), "1")}
    lines = edge.table(run | {"rows": [*rows, {"case": f"{name} · ncnn", "worst": 9.0}]})
    assert {"| digits | 0.25 | fails |", "| resnet18 | not run | not run |", f"| {name} |  | 9, wrong |"} <= {*lines}


@pytest.mark.parametrize("path", sorted(Path(command.__file__).parent.glob("*.py")), ids=lambda path: path.name)
def test_what_they_import_of_ours_is_there(path: Path) -> None:
    """Their own packages are in no test's environment, so this is asked of the text."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in ("simam_deploy", "export_models"):
            module = import_module(str(node.module))
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
