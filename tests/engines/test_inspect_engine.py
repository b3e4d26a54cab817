"""An engine beside its manifest: every damage, swap and lie is named, and nothing else is."""

import json
import os
import random
import re
from pathlib import Path

import pytest
from helpers.made_engine import engine, said, tell, told

from simam_deploy.artifacts import manifest
from simam_deploy.engines.inspection import MOST_ROWS, inspect, is_engine
from simam_deploy.errors import ModelFileError

FLIPS = 1000


def rehash(path: Path) -> None:
    """Hide a damage: put the hash of the present bytes into the manifest."""
    tell(path, {**told(path), "files": [manifest.file_source(path)]}, hashed=True)


def test_a_whole_engine(whole: Path) -> None:
    found = inspect(whole)
    assert found.disagreements == ()
    assert found.verdict == "passed: header, length, SHA-256 and manifest agree; the engine was not run"
    size = whole.stat().st_size
    assert found.summary == f"{whole}: TensorRT-RTX 1.7.1.116, for sm86, sm89, {size:,} bytes"
    rows = dict(found.table[1])
    assert rows["source file"] == "model.onnx"
    assert rows["engine bytes"] == str(size)
    assert rows["targets"] == "sm86, sm89"
    assert json.loads(json.dumps(found.as_dict()))["manifest"] == told(whole)


def test_the_manifest_is_shown(tmp_path: Path) -> None:
    path = engine(tmp_path / "model.engine")
    record = told(path)
    record["blocks"] = [{"node": "/a/Mul", "shape": [1, 8, "h", "w"], "e_lambda": 1e-4}, {"node": "/b/Mul"}]
    record["layers"] = [{"name": str(i)} for i in range(MOST_ROWS)]
    tell(path, record, hashed=True)
    found = inspect(path)
    rows = dict(found.table[1])
    assert rows["precision"] == "int8+fp16"
    assert rows["profiles x max"] == "8x3x64x64"
    assert rows["blocks 1"] == 'node /a/Mul, shape [1, 8, "h", "w"], e_lambda 0.0001'
    assert rows["..."] == "--json prints all"
    assert len(rows) == MOST_ROWS + 1
    assert found.log == ["WARNING: something about a cast"]


# ---- bytes


def test_every_byte_of_the_header(whole: Path) -> None:
    data = whole.read_bytes()
    for at in range(64):
        for bit in range(8):
            whole.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
            words = said(whole)
            assert "its bytes are others than those that were built (SHA-256)" in words
            assert at > 3 or "does not begin as an engine" in words or "says that TensorRT built it" in words
            assert not 16 <= at < 24 or "the header says" in words


def test_every_byte_of_the_header_with_its_hash_in_the_manifest(tmp_path: Path) -> None:
    """All but the bytes of the weights, which nothing else tells."""
    path = engine(tmp_path / "model.engine")
    data = path.read_bytes()
    for at in range(56):
        for bit in range(8):
            path.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
            rehash(path)
            words = said(path)
            assert "SHA-256" not in words
            assert not 24 <= at < 28 or "the version that built it" in words
            assert not 32 <= at < 40 or "an engine needs a GPU of its header" in words or "GPU kind" in words


def test_every_byte_of_the_header_without_a_manifest(tmp_path: Path) -> None:
    """Nothing passes; and the header alone tells all but version, known GPU kinds and weights."""
    path = engine(tmp_path / "model.engine")
    path.with_name("model.engine.json").unlink()
    assert said(path).startswith("nothing says what it was built from: there is no file")
    data = path.read_bytes()
    for at in range(4, 64):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x80]) + data[at + 1 :])
        assert len(inspect(path).disagreements) == (1 if at in {*range(24, 28), *range(56, 64)} else 2)
    path.write_bytes(b"Vtrt" + data[4:])
    with pytest.raises(ModelFileError, match="is no engine: it begins neither with vtrt"):
        inspect(path)


def test_flips_and_cuts_elsewhere(whole: Path) -> None:
    rng, data = random.Random(7), whole.read_bytes()
    for _ in range(FLIPS):
        at = rng.randrange(64, len(data))
        if rng.random() < 0.5:
            whole.write_bytes(data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) + data[at + 1 :])
            assert "its bytes are others" in said(whole)
        else:
            end = at + rng.randrange(1, 5000) if rng.random() < 0.5 else len(data)
            whole.write_bytes(data[:at] + data[end:])
            assert re.search(r"the header says [\d,]+ bytes, and the file has [\d,]+: it was cut", said(whole))
            rehash(whole)
            assert "the manifest says" in said(whole)
            whole.write_bytes(data)
            rehash(whole)
    assert inspect(whole).disagreements == ()


@pytest.mark.parametrize("size", [0, 1, 3, 4, 32, 63])
def test_a_cut_inside_the_header(size: int, tmp_path: Path) -> None:
    path = engine(tmp_path / "model.engine")
    path.write_bytes(path.read_bytes()[:size])
    words = said(path)
    assert ("it was cut" if size >= 4 else "it does not begin as an engine does") in words
    assert "its bytes are others" in words
    path.with_name("model.engine.json").unlink()
    if size < 4:
        with pytest.raises(ModelFileError, match="is no engine"):
            inspect(path)
    else:
        assert "it was cut" in said(path)


def test_bytes_added_at_the_end(whole: Path) -> None:
    whole.write_bytes(whole.read_bytes() + b"\n")
    assert "something was added" in said(whole)


# ---- engines and manifests of others


def test_engines_swapped(tmp_path: Path) -> None:
    """The files, or their manifests: the same, with the name of the other in the words."""
    a, b = engine(tmp_path / "a.engine", seed=1), engine(tmp_path / "b.engine", seed=2)
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    assert "its bytes are others" in said(a)
    assert "its bytes are others" in said(b)
    a.write_bytes(first)
    tell(a, told(b))
    assert "a.engine.json was written for b.engine, whose bytes are others" in said(a)


def test_an_engine_renamed_with_its_manifest_is_the_same(tmp_path: Path) -> None:
    path = engine(tmp_path / "a.engine")
    record = told(path)
    moved = path.rename(tmp_path / "b.engine")
    tell(moved, record)
    assert inspect(moved).disagreements == ()


def test_a_link_to_an_engine(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    path = engine(tmp_path / "v" / "1.engine")
    link = tmp_path / "model.engine"
    link.symlink_to(path)
    assert inspect(link).disagreements == ()


def test_another_gpu_and_another_tensorrt(tmp_path: Path) -> None:
    path = engine(tmp_path / "model.engine", mask=0b10_0000, version=(1, 8, 0, 3))
    words = said(path)
    assert "the header is for sm121, the manifest for sm86, sm89; an engine needs a GPU of its header" in words
    assert "the header is of TensorRT-RTX 1.8.0.3, the manifest of 1.7.1.116" in words
    assert "with --targets for the GPU that will run it" in words


def test_another_flavor(tmp_path: Path) -> None:
    path = engine(tmp_path / "model.engine", mark=b"ftrt", version=(10, 3, 0, 26))
    assert said(path).startswith("the header says that TensorRT built it, and the manifest does not; copy the engine")
    record = told(path)
    record["versions"]["tensorrt"] = "10.3.0.26"
    tell(path, record, hashed=True)
    assert "the manifest does not" in said(path)
    record["flavor"] = "tensorrt"
    tell(path, record, hashed=True)
    assert inspect(path).disagreements == ()
    assert "TensorRT 10.3.0, GPU not in the header" in inspect(path).summary
    record["versions"]["tensorrt"] = "10.13.0.35"
    tell(path, record, hashed=True)
    assert "the header is of TensorRT 10.3.0, the manifest of 10.13.0.35" in said(path)


def test_foreign_files(tmp_path: Path, dynamic: Path) -> None:
    other = tmp_path / "other.engine"
    other.write_bytes(dynamic.read_bytes())
    assert is_engine(other)
    with pytest.raises(
        ModelFileError, match=r"no engine: .*\nit looks like an ONNX file; name it other.onnx, or build"
    ):
        inspect(other)
    other.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ModelFileError, match=r"no engine: .*\n.*is a Keras model"):
        inspect(other)
    other.write_bytes(bytes(100))
    with pytest.raises(ModelFileError, match="it is of no kind that is known here"):
        inspect(other)
    with pytest.raises(ModelFileError, match="is a folder; give the engine in it"):
        inspect(tmp_path)
    with pytest.raises(ModelFileError, match="there is no file"):
        inspect(tmp_path / "none.engine")
    os.mkfifo(tmp_path / "pipe.engine")
    with pytest.raises(ModelFileError, match="is a device or a pipe"):
        inspect(tmp_path / "pipe.engine")


def test_which_files_are_engines(tmp_path: Path, dynamic: Path) -> None:
    assert not is_engine(dynamic)
    assert is_engine(engine(tmp_path / "named.onnx"))
    (tmp_path / "named.onnx").write_bytes(b"cut")
    assert is_engine(tmp_path / "named.onnx"), "its manifest says so"
    assert is_engine(tmp_path / "a.PLAN")
