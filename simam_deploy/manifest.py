"""What was made, from what, with which versions and numbers: `<file>.json` next to each file we write.

The part that does not depend on when and from where a file was made (form, blocks, λ) is also in the file itself, as
the ONNX metadata property `simam_deploy`, so that it travels along.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from simam_deploy import __version__

PROPERTY = "simam_deploy"
SUFFIX = ".json"
SPECIALISED = "specialised"
Record = dict[str, Any]


def about(form: str, blocks: Sequence[Mapping[str, Any]]) -> Record:
    """The part that travels in the file. blocks : node, op, shape, dtype, e_lambda of each."""
    return {"version": __version__, "form": form, "blocks": [dict(block) for block in blocks]}


def specialisation(machine: str, block: int, onnxruntime: str) -> Record:
    """What `about` has besides in a file that was laid out for one kind of processor; see specialise.py."""
    return {SPECIALISED: {"machine": machine, "block": block, "onnxruntime": onnxruntime}}


def specialised(properties: Mapping[str, str]) -> Record | None:
    """That part, from a file's metadata properties; None if the file is portable."""
    try:
        held = json.loads(properties.get(PROPERTY, "{}"))
    except ValueError:
        return None
    mark = held.get(SPECIALISED) if isinstance(held, dict) else None
    return mark if isinstance(mark, dict) else None


def record(made: Record, source: Record, packages: Sequence[str]) -> Record:
    """The whole manifest: `about`, where it came from, the versions it was made with; parity is not measured yet."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {**made, "source": source, "versions": versions, "parity": None}


def write(manifest: Record, beside: Path) -> None:
    """Write `<beside>.json`; `beside` is a path inside `files.staging`."""
    text = json.dumps(finite(manifest), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    beside.with_name(beside.name + SUFFIX).write_text(text, encoding="utf-8")


def finite(value: Any) -> Any:
    """What JSON can hold of `value`: infinity and NaN become None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(held) for key, held in value.items()}
    return [finite(held) for held in value] if isinstance(value, list | tuple) else value


def file_source(path: Path) -> Record:
    """Name and SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return {"file": path.name, "sha256": digest.hexdigest()}
