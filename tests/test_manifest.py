"""The manifest is JSON for every reader, and says what went in."""

import hashlib
import json
from pathlib import Path

import pytest

from simam_deploy import __version__, manifest


def test_infinities_become_null_and_names_keep_their_letters(tmp_path: Path) -> None:
    parity = [{"output": "größe λ", "snr_db": float("inf"), "share": float("nan"), "passed": True}]
    made = manifest.about("function", [{"node": "a", "shape": (1, "n"), "e_lambda": 0.1}])
    record = manifest.record(made, {"file": "a"}, ["onnx", "no-such-package"])
    manifest.write({**record, "parity": parity}, tmp_path / "m.onnx")

    def no_constant(name: str) -> None:
        pytest.fail(f"{name} is not JSON")

    read = json.loads((tmp_path / "m.onnx.json").read_text(encoding="utf-8"), parse_constant=no_constant)
    assert read["parity"] == [{"output": "größe λ", "snr_db": None, "share": None, "passed": True}]
    assert read["blocks"] == [{"node": "a", "shape": [1, "n"], "e_lambda": 0.1}]
    assert (read["version"], read["form"]) == (__version__, "function")
    assert set(read["versions"]) == {"python", "onnx"}


def test_the_source_is_known_by_its_hash(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000  # more than is read at once
    (tmp_path / "a.onnx").write_bytes(content)
    assert manifest.file_source(tmp_path / "a.onnx") == {
        "file": "a.onnx",
        "sha256": hashlib.sha256(content).hexdigest(),
    }
