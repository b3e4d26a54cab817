"""What was made, from what, with which versions and numbers: `<file>.json` next to each file we write.

The part that does not depend on when and from where a file was made (form, blocks, λ) is also in the file itself, as
the ONNX metadata property `simam_deploy`, so that it travels along. The manifest holds the SHA-256 of the file, and
of the one with its weights where that is beside it.
"""

from __future__ import annotations

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
"""Of the ONNX file; and the first key of a manifest, by which it is known as one of ours."""
SUFFIX = ".json"
LARGEST = 64 * 2**20
"""Bytes of a manifest that are read."""
_DATA = re.compile(r"[^/\\]+\.[0-9a-f]{16}\.data", re.DOTALL)
SPECIALISED = "specialised"
_OLD_MODEL = {"version", "form", "blocks", "source", "versions", "parity"}
_OLD_BLOCK = {"node", "shape", "dtype", "e_lambda"}
_OLD_ENGINE = {"source", "engine", "targets", "profiles", "strongly_typed", "versions"}
"""The keys of manifests without a mark."""
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
    except (ValueError, RecursionError):
        return None
    mark = held.get(SPECIALISED) if isinstance(held, dict) else None
    return mark if isinstance(mark, dict) else None


def record(made: Record, source: Record, packages: Sequence[str]) -> Record:
    """The whole manifest: `about`, where it came from, the versions it was made with; parity is not measured yet."""
    from importlib import metadata  # takes longer than all else here together

    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {**made, "source": source, "versions": versions, "parity": None}


def write(manifest: Record, beside: Path) -> None:
    """Write `<beside>.json` for the file `beside` and its weights, which are there: a path inside `files.staging`."""
    held = [{"file": path.name, "sha256": _sha256(path)} for path in (beside, *_data_files(beside))]
    text = as_json({PROPERTY: "manifest", **manifest, "files": held}) + "\n"
    beside.with_name(beside.name + SUFFIX).write_text(text, encoding="utf-8")


def read(beside: Path) -> Record | None:
    """The manifest `<beside>.json`; None if there is none, or if that file is no manifest of ours."""
    try:
        with opened(beside.with_name(beside.name + SUFFIX)) as stream:
            held = json.loads(stream.read(LARGEST))
    except (InputError, ValueError, RecursionError):
        return None
    if not isinstance(held, dict):
        return None
    return held if held.get(PROPERTY) == "manifest" or _is_old(held) else None


def _is_old(held: Record) -> bool:
    """Whether a file has all that ours had before they had a mark, and nothing else."""
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
    """Why the manifest of `path` is not of this file, or of these weights; empty if it is, or if there is none.

    Reads the files that the manifest names, two at most.
    """
    home = path.resolve()  # where it was written: see files.staging
    held = (read(home) or {}).get("files")
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
    return found


def stale(path: Path) -> list[str]:
    """A line for each file of weights that an earlier `path` had and the present one has not."""
    home = path.resolve()
    held = (read(home) or {}).get("files", ())
    used = {entry.get("file") for entry in held if isinstance(entry, dict)}
    return [
        f"{data.name} holds the weights of an earlier {home.name}; delete it if no copy of that is in use"
        for data in _data_files(home)
        if data.name not in used
    ]


def data_file(path: Path, digest: str) -> Path:
    """The file for the weights of `path`, named after their SHA-256."""
    return path.with_name(f"{path.name}.{digest[:16]}.data")


def _data_files(path: Path) -> list[Path]:
    ours = [other for other in path.parent.iterdir() if _DATA.fullmatch(other.name)]
    return sorted(other for other in ours if other.name[: -len(".0123456789abcdef.data")] == path.name)


def as_json(value: Any, default: Callable[[Any], Any] | None = None, *, ascii_only: bool = False) -> str:
    """`value` as JSON for every reader and every terminal.

    Infinity and NaN are null. Letters are themselves, and what a terminal may act on is escaped.
    ascii_only : escape all that is not ASCII.
    """
    text = json.dumps(finite(value), indent=2, ensure_ascii=ascii_only, allow_nan=False, default=default)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def finite(value: Any) -> Any:
    """What JSON can hold of `value`: infinity and NaN become None."""
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
