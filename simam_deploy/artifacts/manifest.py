"""Manifest `<file>.json` of each written file: content, origin, versions, figures.

The part that does not depend on time and origin (form, blocks, λ) is also in the file itself, as the ONNX metadata
property `simam_deploy`. The manifest holds the SHA-256 of the file and of its weight file, if any, and of its own
content.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from simam_deploy import __version__
from simam_deploy.artifacts.opening import opened, opened_below, sha256
from simam_deploy.errors import InputError

PROPERTY = "simam_deploy"
"""Property of the ONNX file, and first key of a manifest, which identifies it as ours."""
EXAMPLE = "simam_deploy.example"
"""Property of an exported ONNX file: the shapes of the example, by input. Later commands keep it."""
SUFFIX = ".json"
LARGEST = 16 * 2**20
"""Upper bound on the bytes read of a manifest. As objects in memory these are many times as much."""
_DATA = re.compile(r"[^/\\]+\.[0-9a-f]{16}\.data", re.DOTALL)
SPECIALISED = "specialised"
CONTENT = "content_sha256"
"""Key of the hash of a manifest's own content."""
_OLD_MODEL = {"version", "form", "blocks", "source", "versions", "parity"}
_OLD_BLOCK = {"node", "shape", "dtype", "e_lambda"}
_OLD_ENGINE = {"source", "engine", "targets", "profiles", "strongly_typed", "versions"}
"""Keys of old manifests, without PROPERTY."""
Record = dict[str, Any]


def about(form: str, blocks: Sequence[Mapping[str, Any]]) -> Record:
    """The part stored in the file. blocks : node, op, shape, dtype, e_lambda of each."""
    return {"version": __version__, "form": form, "blocks": [dict(block) for block in blocks]}


def specialisation(machine: str, block: int, onnxruntime: str) -> Record:
    """Addition to `about` in a file specialised for one kind of processor; see ort_cpu/specialise.py."""
    return {SPECIALISED: {"machine": machine, "block": block, "onnxruntime": onnxruntime}}


def specialised(properties: Mapping[str, str]) -> Record | None:
    """The record of `specialisation` in the metadata properties of a file; None if it is portable."""
    try:
        held = json.loads(properties.get(PROPERTY, "{}"))
    except (ValueError, RecursionError):
        return None
    mark = held.get(SPECIALISED) if isinstance(held, dict) else None
    return mark if isinstance(mark, dict) else None


def example(properties: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """The shapes in EXAMPLE, by input; those alone that are whole numbers above 0."""
    try:
        held = json.loads(properties.get(EXAMPLE, "{}"))
    except (ValueError, RecursionError):
        return {}
    shapes = held.items() if isinstance(held, dict) else ()
    return {
        name: tuple(shape)
        for name, shape in shapes
        if isinstance(shape, list) and all(type(size) is int and size > 0 for size in shape)
    }


def record(made: Record, source: Record, packages: Sequence[str]) -> Record:
    """The whole manifest: `about`, origin, versions. Parity is None until measured."""
    from importlib import metadata  # takes longer than all else here together

    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {**made, "source": source, "versions": versions, "parity": None}


def write(manifest: Record, beside: Path) -> None:
    """Write `<beside>.json` for the existing file `beside` and its weights, inside `atomic.staging`."""
    held = [{"file": path.name, "sha256": _sha256(path)} for path in (beside, *_data_files(beside))]
    record = finite({PROPERTY: "manifest", **manifest, "files": held})
    text = as_json({**record, CONTENT: content_sha256(record)}) + "\n"
    beside.with_name(beside.name + SUFFIX).write_text(text, encoding="utf-8")


def content_sha256(manifest: Record) -> str:
    """SHA-256 of all keys but CONTENT, as JSON with sorted keys. It shows edits, and is no signature."""
    rest = {key: value for key, value in manifest.items() if key != CONTENT}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read(beside: Path) -> Record | None:
    """Read the manifest `<beside>.json`; None without a manifest of ours."""
    return read_or_why(beside)[0]


def read_or_why(beside: Path) -> tuple[Record | None, str]:
    """The manifest `<beside>.json` and "", or None and the reason why there is none."""
    place = beside.with_name(beside.name + SUFFIX)
    try:
        with opened(place) as stream:
            text = stream.read(LARGEST + 1)
        if len(text) > LARGEST:
            return None, f"{place} is larger than {LARGEST >> 20} MiB"
        held = json.loads(text, object_pairs_hook=_unique)
        if not isinstance(held, dict) or not (held.get(PROPERTY) == "manifest" or _is_old(held)):
            return None, f"{place} is no manifest of simam-deploy"
        finite(held)  # one that is nested too deeply to be printed again is damaged, too
    except InputError as error:
        return None, str(error)
    except (ValueError, RecursionError):
        return None, f"{place} is not JSON, or is damaged"
    return held, ""


def _unique(pairs: list[tuple[str, Any]]) -> Record:
    """An object of JSON. Raises ValueError for a key that is there twice, of which readers take either."""
    if len(held := dict(pairs)) < len(pairs):
        raise ValueError("a key is there twice")
    return held


def _is_old(held: Record) -> bool:
    """Whether the keys are exactly those of our old manifests, without PROPERTY."""
    parts = (held.get("source"), held.get("versions"))
    if not all(isinstance(part, dict) for part in parts) or not {"python", "onnx"} <= held["versions"].keys():
        return False
    if held.keys() == _OLD_ENGINE:
        return {"simam_deploy", "tensorrt_rtx"} <= set(held["versions"])
    blocks = held.get("blocks")
    if held.keys() - {SPECIALISED} != _OLD_MODEL or not isinstance(blocks, list):
        return False
    return all(isinstance(block, dict) and block.keys() - {"op"} == _OLD_BLOCK for block in blocks)


def disagreements(path: Path) -> list[str]:
    """Differences between the manifest of `path` and its files; none without a manifest.

    Reads the files that the manifest names, at most two.
    """
    home = path.resolve()  # where it was written: see files.staging
    record = read(home) or {}
    held = record.get("files")
    entries = held if isinstance(held, list) else []
    if len(entries) > 2:  # each is a file to read through
        return [
            f"{home.name}{SUFFIX} names {len(entries)} files; ours name the model and at most one with its weights"
        ]
    found = []
    for at, entry in enumerate(entries):
        name, digest = (entry.get("file"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
        if at and not (isinstance(name, str) and _DATA.fullmatch(name)):
            found.append(f"{home.name}{SUFFIX} names weights in {name!r}, which is no file of ours")
            continue
        try:
            with opened_below(home.parent, [home.name if at == 0 else str(name)]) as stream:
                if sha256(stream) != digest:
                    found.append(f"{home.name}{SUFFIX} is of another {home.name if at == 0 else name}")
        except OSError as error:
            found.append(f"{home.name}{SUFFIX} names {name}, which cannot be read: {error.strerror}")
    if not found and CONTENT in record and record[CONTENT] != content_sha256(record):
        found.append(f"{home.name}{SUFFIX} was edited after it was written")
    return found


def stale(path: Path) -> list[str]:
    """A line for each weight file of an earlier `path` that the present one does not use."""
    home = path.resolve()
    held = (read(home) or {}).get("files", ())
    used = {entry.get("file") for entry in held if isinstance(entry, dict)}
    return [
        f"{data.name} holds the weights of an earlier {home.name}; delete it if no copy of that is in use"
        for data in _data_files(home)
        if data.name not in used
    ]


def data_file(path: Path, digest: str) -> Path:
    """Path of the weight file of `path`, named after its SHA-256."""
    return path.with_name(f"{path.name}.{digest[:16]}.data")


def _data_files(path: Path) -> list[Path]:
    ours = [other for other in path.parent.iterdir() if _DATA.fullmatch(other.name)]
    return sorted(other for other in ours if other.name[: -len(".0123456789abcdef.data")] == path.name)


def as_json(value: Any, default: Callable[[Any], Any] | None = None, *, ascii_only: bool = False) -> str:
    """`value` as JSON, safe for terminals.

    Infinity and NaN become null. Escapes control characters; ascii_only : escapes all non-ASCII characters.
    """
    text = json.dumps(finite(value), indent=2, ensure_ascii=ascii_only, allow_nan=False, default=default)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def finite(value: Any) -> Any:
    """`value` with None for infinity and NaN, which JSON does not support."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(held) for key, held in value.items()}
    return [finite(held) for held in value] if isinstance(value, list | tuple) else value


def file_source(path: Path) -> Record:
    """Name and SHA-256 of a file."""
    return {"file": path.name, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with opened(path) as stream:
        return sha256(stream)
