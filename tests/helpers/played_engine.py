"""Engine files for a played TensorRT: a header, a line of JSON and an ONNX file. See played_trt.py."""

import json
from pathlib import Path
from typing import Any

from helpers.made_engine import header
from simam_deploy.artifacts import manifest
from simam_deploy.engines import header as headers
from simam_deploy.engines.api_table import FlavorName

MARKS: dict[FlavorName, bytes] = {"tensorrt": b"ftrt", "tensorrt_rtx": b"vtrt"}
Profile = dict[str, list[list[int]]]
SMALL: Profile = {"x": [[1, 3, 2, 2], [1, 3, 8, 8], [1, 3, 16, 16]]}
LARGE: Profile = {"x": [[1, 3, 2, 2], [4, 3, 16, 16], [8, 3, 32, 32]]}


def numbers(version: str) -> tuple[int, ...]:
    """Four of them, as in a header."""
    return (*map(int, version.split(".")[:4]), 0, 0)[:4]


def write_engine(
    path: Path,
    model: Path,
    flavor: FlavorName = "tensorrt",
    version: str = "10.3.0",
    profiles: list[Profile] | None = None,
    *,
    mask: int = 0b1100,
    later: tuple[str, ...] = (),
    **record: Any,
) -> Path:
    """An engine and its manifest. later : outputs whose sizes depend on the data.  record : more of the manifest."""
    about = json.dumps({"profiles": profiles or [{}], "later": later}).encode() + b"\n"
    body = about + model.read_bytes()
    size = headers.LENGTH + len(body)
    path.write_bytes(header(size, mask=mask, version=numbers(version), mark=MARKS[flavor]) + body)
    targets = [name for bit, name in enumerate(headers.TARGETS) if mask >> bit & 1] if flavor != "tensorrt" else []
    told = {
        "source": manifest.file_source(model),
        "engine": {"file": path.name, "bytes": size, "layers": 3},
        "flavor": flavor,
        "precision": "fp32",
        "targets": targets,
        "plugin": None,
        "blocks": [{"node": "block", "built": "fallback", "layers": 9, "types": ["FLOAT"]}],
        "versions": {"simam_deploy": "0.1.0", flavor: version},
    }
    manifest.write(told | record, path)
    return path
