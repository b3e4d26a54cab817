"""Files that look like engines of TensorRT-RTX, with manifests as `build` writes them. No builder is needed."""

import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np

from simam_deploy.artifacts import manifest
from simam_deploy.engines.inspection import inspect

VERSION = (1, 7, 1, 116)


def header(size: int, mask: int = 0b1100, version: tuple[int, ...] = VERSION, mark: bytes = b"vtrt") -> bytes:
    """mask : of GPU kinds; sm86 and sm89."""
    return struct.pack("<4sIQQ4s4sQ16xQ", mark, 0, 2, size, bytes(version), mark, mask, 8)


def engine(path: Path, size: int = 2000, seed: int = 0, **changes: Any) -> Path:
    """Write an engine and its manifest. changes : of `header`."""
    body = np.random.default_rng(seed).bytes(size - 64)
    path.write_bytes(header(size, **changes) + body)
    record = {
        "source": {"file": "model.onnx", "sha256": "0" * 64},
        "engine": {"file": path.name, "bytes": size, "layers": 27},
        "flavor": "tensorrt_rtx",
        "precision": "int8+fp16",
        "targets": ["sm86", "sm89"],
        "profiles": {"x": {"min": [1, 3, 16, 16], "opt": [1, 3, 32, 32], "max": [8, 3, 64, 64]}},
        "strongly_typed": True,
        "log": ["WARNING: something about a cast"],
        "versions": {"simam_deploy": "0.1.0", "tensorrt_rtx": "1.7.1.116", "onnx": "1.23.2"},
    }
    manifest.write(record, path)
    return path


def told(path: Path) -> dict[str, Any]:
    """The manifest of an engine."""
    record: dict[str, Any] = json.loads(path.with_name(f"{path.name}.json").read_text())
    return record


def tell(path: Path, record: dict[str, Any], *, hashed: bool = False) -> None:
    """Write a manifest as it is. hashed : with the hash of its content, as one would who hides an edit."""
    if hashed:
        record = {**record, manifest.CONTENT: manifest.content_sha256(record)}
    path.with_name(f"{path.name}.json").write_text(json.dumps(record))


def said(path: Path) -> str:
    """All disagreements of an engine; none is an error."""
    found = inspect(path)
    assert found.disagreements
    assert found.verdict.startswith("FAILED")
    assert all(re.search("again", line) for line in found.disagreements), "each has a remedy"
    return "\n".join(found.disagreements)
