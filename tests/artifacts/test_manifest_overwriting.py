"""JSON files beside the outputs: manifests that this package wrote are replaced, files of others never."""

import json
from pathlib import Path
from typing import Any

import pytest

from simam_deploy.artifacts import manifest
from simam_deploy.artifacts.atomic import staging
from simam_deploy.errors import OutputError

VERSIONS = {"python": "3.11.2", "onnx": "1.20.0"}
BLOCK = {"node": "/attention/Mul", "shape": [1, 8, "h", "w"], "dtype": "FLOAT", "e_lambda": 1e-4}
MODEL: dict[str, Any] = {
    "version": "0.1.0",
    "form": "function",
    "blocks": [BLOCK],
    "source": {"file": "model.onnx", "sha256": "0" * 64},
    "versions": VERSIONS,
    "parity": None,
}
ENGINE: dict[str, Any] = {
    "source": {"file": "model.onnx", "onnx_sha256": "0" * 64},
    "engine": {"file": "model.engine", "bytes": 10, "layers": 2},
    "targets": ["sm86"],
    "profiles": {},
    "strongly_typed": True,
    "versions": {"simam_deploy": "0.1.0", "tensorrt_rtx": "1.2", "onnx": "1.20.0", **VERSIONS},
}
OURS = {
    "with a mark": {"simam_deploy": "manifest", "files": []},
    "of a model": MODEL,
    "of an exported model": {**MODEL, "source": {"model": "a.py:build"}, "parity": [{"case": "plain"}]},
    "of operators with an epilogue": {**MODEL, "blocks": [{**BLOCK, "op": "SimAMAffine"}]},
    "of a specialised model": {**MODEL, "specialised": {"machine": "avx512", "block": 16, "onnxruntime": "1.32.0"}},
    "of an engine": ENGINE,
}
FOREIGN = {
    "versions and a source": {"versions": {"python": "3.11"}, "source": {"repository": "git"}},
    "of a package": {"name": "app", "version": "2", "versions": {"python": "3.11"}, "source": {"file": "a"}},
    "with a form": {"version": "1", "form": "pdf", "source": {}, "versions": {"python": "3"}},
    "all keys, and blocks of another kind": {**MODEL, "blocks": [{"type": "text"}]},
    "all keys, and blocks that are none": {**MODEL, "blocks": "none"},
    "all keys, and no versions": {**MODEL, "versions": "1"},
    "more keys": {**MODEL, "notes": "by hand"},
    "an engine of others": {**ENGINE, "versions": VERSIONS},
    "a mark of another kind": {"simam_deploy": {"form": "function"}},
    "a list": [MODEL],
}


@pytest.mark.parametrize("name", OURS)
def test_manifests_of_ours_are_replaced(name: str, tmp_path: Path) -> None:
    target = tmp_path / "m.onnx"
    beside = tmp_path / "m.onnx.json"
    beside.write_text(json.dumps(OURS[name]))
    assert manifest.read(target) == OURS[name]
    with staging(target) as path:
        path.write_bytes(b"new")
        manifest.write({"form": "primitive"}, path)
    assert json.loads(beside.read_text())["form"] == "primitive"


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_others_stay(name: str, tmp_path: Path) -> None:
    target = tmp_path / "m.onnx"
    beside = tmp_path / "m.onnx.json"
    beside.write_text(json.dumps(FOREIGN[name]))
    assert manifest.read(target) is None
    with pytest.raises(OutputError, match=r"m\.onnx\.json .*no manifest of ours; move it away"), staging(target):
        pytest.fail("the block ran")
    assert json.loads(beside.read_text()) == FOREIGN[name]
