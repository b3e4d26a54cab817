"""Exports on the command line: file, manifest, and what is said of the modules in the model."""

import json
import re
from pathlib import Path

import pytest
from helpers.command_line import EXPORT, TINY, Run, contents

from simam_deploy.compare import truth


def test_an_export_by_dynamo_writes_file_and_manifest(folder: Path, run: Run) -> None:
    status, out, err = run(f"{EXPORT}build -o new.onnx --json")
    assert status == 0, err
    printed, manifest = json.loads(out), json.loads((folder / "new.onnx.json").read_text())
    assert [row["form"] for row in printed["blocks"]] == ["function"]
    assert manifest["form"] == "function"
    assert manifest["source"] == {"model": f"{TINY}:build", "exporter": "dynamo", "dynamic": [], "adopted": []}
    assert manifest["parity"] == printed["parity"]["rows"]
    assert printed["parity"]["passed"] is True
    assert run("inspect new.onnx")[0] == 0


def test_an_export_says_what_it_adopted_and_what_not(folder: Path, run: Run) -> None:
    status, out, err = run(f"{EXPORT}foreign -o new.onnx --exporter torchscript")
    assert status == 0, err
    assert re.search(r"adopted modules\s+module +class +λ *\n0 +Gate +0.1 *\n", out)
    assert re.search(
        r"modules left as they are:\n1 \(PopulationVariance\):\n  divides the sum of squares by M = 35", out
    )
    assert json.loads((folder / "new.onnx.json").read_text())["source"]["adopted"] == ["0"]
    status, out, _ = run(f"{EXPORT}foreign -o new.onnx --exporter torchscript --json")
    adopted = json.loads(out)["adopted"]
    assert adopted["rows"] == [{"names": ["0"], "class_name": "Gate", "e_lambda": 0.1}]
    assert adopted["left_alone"][0]["class_name"] == "PopulationVariance"


def test_an_export_without_adopting(folder: Path, run: Run) -> None:
    status, out, err = run(f"{EXPORT}foreign -o new.onnx --exporter torchscript --no-adopt")
    assert status == 0, err
    assert "adopted" not in out
    assert "left as they are" not in out
    assert json.loads((folder / "new.onnx.json").read_text())["source"]["adopted"] is None
    _, out, _ = run(f"{EXPORT}foreign -o new.onnx --exporter torchscript --no-adopt --json --no-check")
    assert json.loads(out)["adopted"] is None


def test_epilogue(folder: Path, run: Run) -> None:
    """SimAM(...) * 1.001 is one operator; it is listed by its name, its gate is judged, and it comes apart again."""
    status, out, err = run(f"{EXPORT}other -o new.onnx --epilogue --json")
    assert status == 0, err
    assert [row["op"] for row in json.loads(out)["blocks"]] == ["SimAMAffine"]
    assert [block["op"] for block in json.loads((folder / "new.onnx.json").read_text())["blocks"]] == ["SimAMAffine"]
    assert [block["op"] for block in json.loads(run("inspect new.onnx --json")[1])["blocks"]] == ["SimAMAffine"]
    assert re.search(r"operator *\n.* function +SimAMAffine *\n", run("inspect new.onnx")[1])
    status, out, err = run("verify new.onnx --gates --forms all --json")
    assert status == 0, err
    assert {gate["passed"] for gate in json.loads(out)["gates"]} == {True}
    assert run("fuse new.onnx -o apart.onnx --no-epilogue")[0] == 0
    assert [block["op"] for block in json.loads(run("inspect apart.onnx --json")[1])["blocks"]] == ["SimAM"]
    assert run("fuse apart.onnx -o again.onnx --epilogue")[0] == 0
    assert (folder / "again.onnx").read_bytes() == (folder / "new.onnx").read_bytes()
    assert run("fuse apart.onnx -o by_the_old_name.onnx --neighbours")[0] == 0
    assert (folder / "by_the_old_name.onnx").read_bytes() == (folder / "new.onnx").read_bytes()
    status, _, err = run("fuse apart.onnx -o out.onnx --epilogue --form primitive")
    assert status == 2
    assert "no node that an epilogue folds into" in err
    assert (folder / "out.onnx").read_bytes() == b"from before"


def test_an_export_that_fails_its_check_writes_nothing(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(folder)
    monkeypatch.setattr(truth, "tolerance_factor", lambda _: 1e-9)
    for as_json in ("", " --json"):
        status, out, err = run(f"{EXPORT}build -o out.onnx --exporter torchscript{as_json}")
        assert status == 1
        assert err.startswith("error: out.onnx is not equal to the model, so it was not written; see the table")
        assert json.loads(out)["passed"] is False if as_json else "FAIL" in out
        assert contents(folder) == before
