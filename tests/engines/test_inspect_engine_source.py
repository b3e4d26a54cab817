"""An engine against the ONNX file that it was built from: the same file, and its types."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.made_engine import engine, tell, told
from helpers.small_onnx import save
from onnx import numpy_helper

from simam_deploy.artifacts import manifest
from simam_deploy.engines.builder import build_engine
from simam_deploy.engines.inspection import inspect
from simam_deploy.errors import ModelFileError

needs_builder = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
HALF = "g (float16[1,3,8,8] x) => (float16[1,3,8,8] y) { y = Sigmoid(x) }"


def built_from(source: Path, precision: str, types: object) -> Path:
    """A made engine whose manifest says so."""
    path = engine(source.with_name("model.engine"))
    record = told(path) | {"source": manifest.file_source(source), "precision": precision, "types": types}
    tell(path, record, hashed=True)
    return path


def test_the_file_it_was_built_from(static: Path) -> None:
    path = built_from(static, "fp32", {"ACTIVATION FLOAT": 3, "CAST FLOAT": 1, "SHAPE INT64": 2})
    found = inspect(path, against=static)
    assert found.disagreements == ()
    assert found.notes == ("types asked: fp32; results of the parsed layers: 4 FLOAT, 2 INT64",)
    assert found.verdict == "passed: header, length, SHA-256, manifest and model.onnx agree; the engine was not run"
    assert found.as_dict()["against"] == str(static)


@needs_builder
@pytest.mark.parametrize("text", [HALF, HALF.replace("float16", "bfloat16"), HALF.replace("float16", "float")])
def test_an_engine_that_was_built(text: str, tmp_path: Path) -> None:
    source = save(tmp_path, text)
    build_engine(source, tmp_path / "model.engine", targets=["sm86"])
    assert inspect(tmp_path / "model.engine", against=source).disagreements == ()


def test_another_file(static: Path, tmp_path: Path) -> None:
    path = built_from(static, "fp32", {})
    (tmp_path / "other").mkdir()
    assert inspect(path, against=save(tmp_path / "other", HALF.replace("float16", "float"))).disagreements == ()
    found = inspect(path, against=save(tmp_path / "other", HALF))
    assert found.disagreements == (
        "model.onnx is not the file that the engine was built from (SHA-256), which was called model.onnx; give that "
        "one, or build the engine again from model.onnx",
        "model.onnx is fp16, and the manifest says fp32; build the engine again",
    )
    assert found.verdict == "FAILED: 2 disagreements"


def test_types_that_were_asked_for_and_are_not_there(tmp_path: Path) -> None:
    source = save(tmp_path, HALF)
    path = built_from(source, "fp16", {"ACTIVATION FLOAT": 3})
    found = inspect(path, against=source)
    assert found.disagreements == ("model.onnx asks for fp16, and no layer has the type; build the engine again",)
    assert inspect(built_from(source, "fp16", {"CAST HALF": 1}), against=source).disagreements == ()
    assert inspect(built_from(source, "fp16", None), against=source).disagreements == ()


def test_weights_in_other_files_without_a_hash(tmp_path: Path) -> None:
    model = onnx.load(save(tmp_path, "g (float[1,8] x) => (float[1,8] y) { y = MatMul(x, w) }"))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((8, 8), np.float32), "w"))
    source = tmp_path / "model.onnx"
    onnx.save(model, source, save_as_external_data=True, location="model.weights", size_threshold=0)
    found = inspect(built_from(source, "fp32", {}), against=source)
    assert found.notes == ("the weights in model.weights were not compared: the manifest has no hash of them",)


@needs_builder
def test_weights_in_other_files_that_changed(tmp_path: Path) -> None:
    model = onnx.load(save(tmp_path, "g (float[1,8] x) => (float[1,8] y) { y = MatMul(x, w) }"))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((8, 8), np.float32), "w"))
    source, outside = tmp_path / "model.onnx", tmp_path / "model.weights"
    onnx.save(model, source, save_as_external_data=True, location=outside.name, size_threshold=0)
    build_engine(source, tmp_path / "model.engine", targets=["sm86"])
    found = inspect(tmp_path / "model.engine", against=source)
    assert found.disagreements == ()
    assert not [note for note in found.notes if "weights" in note]
    outside.write_bytes(outside.read_bytes()[:-1] + b"\0")
    (said,) = inspect(tmp_path / "model.engine", against=source).disagreements
    assert "the weights of model.onnx in other files are not those that the engine was built from" in said


@pytest.mark.parametrize("types", [[], "x", {"A HALF": "many", "B HALF": True, "": -1, "C HALF": 10**300}, 7])
def test_hostile_types(types: object, static: Path) -> None:
    found = inspect(built_from(static, "fp32", types), against=static)
    assert (found.disagreements, found.notes) == ((), ())


def test_no_source_and_no_manifest(static: Path) -> None:
    path = built_from(static, "fp32", {})
    record = told(path)
    for source in ({}, [], None, {"file": ["a"], "sha256": 7}):
        tell(path, record | {"source": source}, hashed=True)
        (said,) = inspect(path, against=static).disagreements
        assert said.startswith("model.onnx is not the file that the engine was built from")
    with pytest.raises(ModelFileError, match="there is no file"):
        inspect(path, against=static.with_name("none.onnx"))
    path.with_name("model.engine.json").unlink()
    (said,) = inspect(path, against=static).disagreements
    assert said.startswith("nothing says what it was built from")
