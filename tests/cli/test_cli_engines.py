"""inspect and verify of an engine on the command line: what it prints, and its exit status."""

import json
from pathlib import Path

import pytest
from helpers.command_line import Run
from helpers.made_engine import engine, tell, told

from simam_deploy.artifacts import manifest


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return engine(tmp_path / "net.engine")


def test_an_engine_as_its_manifest_says(net: Path, run: Run) -> None:
    status, out, err = run("inspect net.engine")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "net.engine: TensorRT-RTX 1.7.1.116, for sm86, sm89, 2,000 bytes"
    assert "profiles x min         1x3x16x16" in lines
    assert lines[-3:-1] == ["log of the builder:", "WARNING: something about a cast"]
    assert lines[-1] == "passed: header, length, SHA-256 and manifest agree; the engine was not run"
    status, out, err = run("inspect net.engine --json")
    assert (status, err) == (0, "")
    seen = json.loads(out)
    assert (seen["kind"], seen["bytes"], seen["manifest"]) == ("engine", 2000, told(net))
    assert seen["header"]["targets"] == ["sm86", "sm89"]
    assert seen["disagreements"] == []


def source_of(folder: Path) -> Path:
    """An engine whose manifest says that it was built from fixed.onnx."""
    path = engine(folder / "fixed.engine")
    record = told(path) | {"source": manifest.file_source(folder / "fixed.onnx"), "precision": "fp32"}
    tell(path, record, hashed=True)
    return path


def test_an_engine_against_its_source(folder: Path, run: Run) -> None:
    source_of(folder)
    status, out, err = run("inspect fixed.engine --against fixed.onnx")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1].startswith("passed: header, length, SHA-256, manifest and fixed.onnx agree")
    status, out, _ = run("inspect fixed.engine --against dynamic.onnx")
    assert status == 1
    assert "dynamic.onnx is not the file that the engine was built from (SHA-256)" in out
    status, out, err = run("inspect fixed.onnx --against fixed.onnx")
    assert (status, out) == (2, "")
    assert "fixed.onnx is no engine, and --against is for engines; compare models with verify" in err


@pytest.mark.parametrize("option", ["", " --json"])
def test_verify_never_passes_without_a_run(option: str, folder: Path, run: Run) -> None:
    path = source_of(folder)
    status, out, err = run(f"verify fixed.engine --against fixed.onnx{option}")
    assert status == 2
    assert "passed" not in out
    assert "fixed.engine and fixed.onnx agree as files, and their outputs were not compared: an engine runs on" in err
    assert "simam-deploy inspect fixed.engine --against fixed.onnx" in err
    path.write_bytes(path.read_bytes()[:-1])
    status, out, err = run(f"verify fixed.engine --against fixed.onnx{option}")
    assert (status, err) == (1, "")
    assert "it was cut" in out
    assert option or out.splitlines()[-1] == "FAILED: 3 disagreements"


@pytest.mark.parametrize(
    "line", ["fixed.engine", "fixed.onnx fixed.engine", "fixed.engine fixed.onnx --against a.py:b"]
)
def test_verify_takes_an_engine_alone(line: str, folder: Path, run: Run) -> None:
    source_of(folder)
    status, out, err = run(f"verify {line}")
    assert (status, out) == (2, "")
    assert "is an engine, and is compared alone with the ONNX file that it was built from: simam-deploy verify" in err


def test_a_cut_engine(net: Path, run: Run) -> None:
    net.write_bytes(net.read_bytes()[:1000])
    status, out, err = run("inspect net.engine")
    assert (status, err) == (1, "")
    assert "the header says 2,000 bytes, and the file has 1,000: it was cut; copy the engine again" in out
    assert out.splitlines()[-1] == "FAILED: 3 disagreements"
    status, out, _ = run("inspect net.engine --json")
    assert status == 1
    assert len(json.loads(out)["disagreements"]) == 3


def test_no_manifest(net: Path, run: Run) -> None:
    net.with_name("net.engine.json").unlink()
    status, out, err = run("inspect net.engine")
    assert (status, err) == (1, "")
    assert "nothing says what it was built from: there is no file" in out
    assert "manifest\n" not in out


def test_an_onnx_file_named_as_an_engine(folder: Path, run: Run) -> None:
    (folder / "fixed.onnx").rename(folder / "fixed.engine")
    status, out, err = run("inspect fixed.engine")
    assert (status, out) == (2, "")
    assert err.startswith("error: fixed.engine is no engine: it begins neither with vtrt")
    assert "it looks like an ONNX file; name it fixed.onnx" in err


def test_names_in_a_manifest_are_escaped(net: Path, run: Run) -> None:
    record = told(net)
    record |= {"precision": "\x1b[31m", "log": ["\x9b31m"], "engine": {"file": "\u202ea", "bytes": "\x1b[0m"}}
    record["targets"] = ["\x1b[1m"]
    tell(net, record, hashed=True)
    for line in ("inspect net.engine", "inspect net.engine --json"):
        status, out, err = run(line)
        assert (status, err) == (1, "")
        assert out.replace("\n", "").isprintable()


@pytest.mark.parametrize("depth", [200, 300, 400, 450, 480, 600, 990])
def test_a_manifest_nested_deeply_is_an_error_or_shown(depth: int, net: Path, run: Run) -> None:
    for left, right in ("[]", ('{"a":', "}")):
        text = '{"simam_deploy": "manifest", "engine": {}, "a": ' + left * depth + "1" + right * depth + "}"
        net.with_name("net.engine.json").write_text(text)
        for line in ("inspect net.engine", "inspect net.engine --json"):
            status, _, err = run(line)
            assert status == 1 or (status, err) == (2, "error: the input is nested too deeply\n")
