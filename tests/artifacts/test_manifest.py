"""The manifest is JSON for every reader, and says what went in."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from simam_deploy import __version__
from simam_deploy.artifacts import manifest


def test_infinities_become_null_and_names_keep_their_letters(tmp_path: Path) -> None:
    parity = [{"output": "größe λ", "snr_db": float("inf"), "share": float("nan"), "passed": True}]
    made = manifest.about("function", [{"node": "a", "shape": (1, "n"), "e_lambda": 0.1}])
    record = manifest.record(made, {"file": "a"}, ["onnx", "no-such-package"])
    (tmp_path / "m.onnx").write_bytes(b"a model")
    manifest.write({**record, "parity": parity}, tmp_path / "m.onnx")

    def no_constant(name: str) -> None:
        pytest.fail(f"{name} is not JSON")

    read = json.loads((tmp_path / "m.onnx.json").read_text(encoding="utf-8"), parse_constant=no_constant)
    assert read["parity"] == [{"output": "größe λ", "snr_db": None, "share": None, "passed": True}]
    assert read["blocks"] == [{"node": "a", "shape": [1, "n"], "e_lambda": 0.1}]
    assert (read["version"], read["form"]) == (__version__, "function")
    assert read["files"] == [{"file": "m.onnx", "sha256": hashlib.sha256(b"a model").hexdigest()}]
    assert set(read["versions"]) == {"python", "onnx"}


def test_the_source_is_known_by_its_hash(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000  # more than is read at once
    (tmp_path / "a.onnx").write_bytes(content)
    assert manifest.file_source(tmp_path / "a.onnx") == {
        "file": "a.onnx",
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def test_what_a_terminal_may_act_on_is_escaped(tmp_path: Path) -> None:
    """C1 controls, and what turns a line round, stand for themselves in JSON unless they are escaped."""
    name = "a\x1b[31m\x9b31m\u202e\u2066\x7f\n\u2028\U000e0041λ\udc80"
    (tmp_path / "m.onnx").write_bytes(b"a model")
    manifest.write({"blocks": [{"node": name}]}, tmp_path / "m.onnx")
    text = (tmp_path / "m.onnx.json").read_text(encoding="utf-8")
    assert text.replace("\n", "").isprintable()
    assert "λ" in text
    assert json.loads(text)["blocks"] == [{"node": name}]
    assert manifest.as_json(name, ascii_only=True).isascii()


HASH = "0123456789abcdef"


def written(folder: Path) -> Path:
    """A model with weights beside it, and the manifest of both."""
    path = folder / "m.onnx"
    path.write_bytes(b"a model")
    (folder / f"m.onnx.{HASH}.data").write_bytes(b"weights")
    (folder / f"n.onnx.{HASH}.data").write_bytes(b"of another model")
    manifest.write({}, path)
    return path


def test_files_that_are_others_than_the_manifest_says(tmp_path: Path) -> None:
    path = written(tmp_path)
    data = tmp_path / f"m.onnx.{HASH}.data"
    assert manifest.disagreements(path) == []
    data.write_bytes(b"Weights")
    assert manifest.disagreements(path) == [f"m.onnx.json is of another {data.name}"]
    data.unlink()
    path.write_bytes(b"a Model")
    one, two = manifest.disagreements(path)
    assert one == "m.onnx.json is of another m.onnx"
    assert two == f"m.onnx.json names {data.name}, which cannot be read: No such file or directory"
    (tmp_path / "m.onnx.json").unlink()
    assert manifest.disagreements(path) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes and links as POSIX has them")
@pytest.mark.parametrize(
    "name", ["../secret", "/dev/zero", "secret", f"../m.onnx.{HASH}.data", 7, None, "link", "fifo"]
)
def test_a_manifest_names_files_of_ours_alone(name: object, tmp_path: Path) -> None:
    path = written(tmp_path)
    special = f"m.onnx.{HASH[::-1]}.data"
    if name == "link":
        (tmp_path / special).symlink_to("/etc/hostname")
    elif name == "fifo":
        os.mkfifo(tmp_path / special)
    held = json.loads((tmp_path / "m.onnx.json").read_text())
    held["files"][1]["file"] = special if name in ("link", "fifo") else name
    (tmp_path / "m.onnx.json").write_text(json.dumps(held))
    (said,) = manifest.disagreements(path)
    assert "no file of ours" in said or "cannot be read: is a" in said


def test_weights_of_an_earlier_file_are_named(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert manifest.stale(path) == []
    (tmp_path / "m.onnx.fedcba9876543210.data").write_bytes(b"old weights")
    (said,) = manifest.stale(path)
    assert said.startswith("m.onnx.fedcba9876543210.data holds the weights of an earlier m.onnx; delete it")


def test_a_manifest_of_many_files_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these lines would be a file to read through."""
    path = written(tmp_path)
    held = json.loads((tmp_path / "m.onnx.json").read_text())
    held["files"] += held["files"][1:] * 1000
    (tmp_path / "m.onnx.json").write_text(json.dumps(held))
    read: list[object] = []
    monkeypatch.setattr(manifest, "sha256", read.append)
    found = manifest.disagreements(path)
    assert len(read) <= 2
    assert found == ["m.onnx.json names 1002 files; ours name the model and at most one with its weights"]
