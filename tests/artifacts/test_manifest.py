"""The manifest is JSON for every reader, and says what went in."""

import hashlib
import json
import os
import re
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


@pytest.mark.parametrize(
    ("old", "new"),
    [('"function"', '"primitive"'), ('"form":', '"more": 1, "form":'), ("null", "NaN"), ("[1, 2]", "[1.0, 2]")],
)
def test_an_edited_manifest_is_named(old: str, new: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"a model")
    manifest.write({"form": "function", "e_lambda": float("nan"), "shape": (1, 2), "x": "\udc80λ"}, path)
    assert manifest.disagreements(path) == []
    beside = tmp_path / "m.onnx.json"
    held = json.loads(beside.read_text())
    text = json.dumps(dict(reversed(held.items())))  # the same content
    beside.write_text(text)
    assert manifest.disagreements(path) == []
    assert text.count(old) == 1
    beside.write_text(text.replace(old, new))
    assert manifest.disagreements(path) == ["m.onnx.json was edited after it was written"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "there is no file .*m.onnx.json"),
        (b'{"simam_deploy": "manifest"', "is not JSON, or is damaged"),
        (b"\xff\xfe\x00", "is not JSON, or is damaged"),
        (b'{"simam_deploy": "manifest", "a": 1' + b"0" * 5000 + b"}", "is not JSON, or is damaged"),
        (b'{"simam_deploy": "manifest", "a": ' + b"[" * 900 + b"]" * 900 + b"}", "is not JSON, or is damaged"),
        (b'{"simam_deploy": "manifest", "a": {"b": 1, "b": 1}}', "is not JSON, or is damaged"),
        (b"[" * 100_000, "is not JSON, or is damaged"),
        (b"[1]", "is no manifest of simam-deploy"),
        (b'{"simam_deploy": "manifest"}' + b" " * manifest.LARGEST, "is larger than 16 MiB"),
    ],
    ids=["none", "cut", "no text", "a huge number", "deep", "twice", "deeper", "foreign", "large"],
)
def test_why_there_is_no_manifest(text: bytes | None, why: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "m.onnx.json").write_bytes(text)
    held, said = manifest.read_or_why(tmp_path / "m.onnx")
    assert held is None
    assert re.search(why, said)


@pytest.mark.parametrize(
    "text", ["{", "[" * 10_000, "[1]", '{"x": "1x3"}', '{"x": [1, -1]}', '{"x": [1, true]}', "3"]
)
def test_an_example_that_is_none(text: str) -> None:
    assert manifest.example({manifest.EXAMPLE: text}) == {}


def test_the_example_of_an_export() -> None:
    assert manifest.example({manifest.EXAMPLE: '{"x": [1, 3], "y": []}'}) == {"x": (1, 3), "y": ()}
    assert manifest.example({}) == {}
