"""Contents of an engine file and of its manifest, and where the two disagree. Needs neither TensorRT nor a GPU.

The engine is not run, and its layers cannot be read. The SHA-256 in the manifest vouches for the bytes. Header,
length and the hash of its own content vouch for the manifest. There is no signature: an edit with all hashes computed
again shows only where it contradicts the header.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from simam_deploy.artifacts import manifest
from simam_deploy.artifacts.file_kinds import looks_like_onnx, what_is
from simam_deploy.artifacts.opening import opened, sha256
from simam_deploy.engines import header as headers
from simam_deploy.engines.flavors import FLAVORS
from simam_deploy.engines.header import Header
from simam_deploy.errors import ModelFileError
from simam_deploy.text import counted

SUFFIXES = (".engine", ".plan", ".trt")
"""Of files that should be engines, whatever they begin with."""
MOST_ROWS = 60
"""Upper bound on the rows shown of a manifest."""
AGAIN = "copy the engine and its manifest again, or build it again"
_NOT_SHOWN = (manifest.PROPERTY, manifest.CONTENT, "files", "log")


@dataclass(frozen=True)
class EngineInspection:
    """An engine file beside its manifest.

    header : None where the file does not begin with a whole one.  disagreements : each with its remedy.
    against : the ONNX file that the manifest was compared with.
    """

    file: Path
    size_bytes: int
    sha256: str
    header: Header | None
    manifest: manifest.Record | None
    disagreements: tuple[str, ...]
    notes: tuple[str, ...] = ()
    against: Path | None = None

    @property
    def table(self) -> tuple[tuple[str, str], list[tuple[str, str]]]:
        """Columns and rows of the manifest."""
        held = {key: value for key, value in (self.manifest or {}).items() if key not in _NOT_SHOWN}
        rows = list(islice(_rows("", held), MOST_ROWS + 1))
        if len(rows) > MOST_ROWS:
            rows[-1] = ("...", "--json prints all")
        return ("manifest", ""), rows

    @property
    def log(self) -> list[str]:
        """Warnings and errors of the builder, from the manifest."""
        lines = (self.manifest or {}).get("log")
        return [str(line) for line in lines] if isinstance(lines, list) else []

    @property
    def summary(self) -> str:
        """Header and size, in one line."""
        if self.header is None:
            return f"{self.file}: {self.size_bytes:,} bytes without the header of an engine"
        built_by = f"{FLAVORS[self.header.flavor].title} {self.header.version}"
        targets = self.header.targets
        gpus = "GPU not in the header" if targets is None else f"for {', '.join(targets) or 'no GPU'}"
        return f"{self.file}: {built_by}, {gpus}, {self.size_bytes:,} bytes"

    @property
    def verdict(self) -> str:
        """The result in one line."""
        if self.disagreements:
            return f"FAILED: {counted(len(self.disagreements), 'disagreement')}"
        agree = "SHA-256 and manifest" if self.against is None else f"SHA-256, manifest and {self.against.name}"
        return f"passed: header, length, {agree} agree; the engine was not run"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "file": str(self.file),
            "kind": "engine",
            "bytes": self.size_bytes,
            "sha256": self.sha256,
            "header": self.header and asdict(self.header),
            "manifest": self.manifest,
            "against": self.against and str(self.against),
            "disagreements": list(self.disagreements),
            "notes": list(self.notes),
        }


def is_engine(file: str | os.PathLike[str]) -> bool:
    """Whether a file is an engine, or should be one by its name or by its manifest."""
    path = Path(file)
    if path.suffix.lower() in SUFFIXES:
        return True
    with opened(path, ModelFileError) as stream:
        return headers.begins_engine(stream.read(4)) or _of_engine(manifest.read(path.resolve()))


def inspect(
    file: str | os.PathLike[str],
    *,
    against: str | os.PathLike[str] | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> EngineInspection:
    """Read an engine file and its manifest, and compare them.

    against : the ONNX file that it should be built from, to compare hash and types with those in the manifest.
    Raises ModelFileError for a file that cannot be read, and for one that is no engine and never was one.
    """
    path = Path(file)
    with opened(path, ModelFileError, "engine") as stream:
        head = stream.read(headers.LENGTH)
        stream.seek(0)
        (on_progress or (lambda _: None))("compute the SHA-256")
        digest, size = sha256(stream), stream.tell()
    home = path.resolve()  # where it was written: see artifacts/atomic.py
    record, why = manifest.read_or_why(home)
    header: Header | None = None
    found: list[str] = []
    if headers.begins_engine(head) and size >= headers.LENGTH:
        header = headers.read(head, size)
        found += header.faults
    elif headers.begins_engine(head):
        found.append(
            f"it was cut: {size} bytes are here, and the header alone has {headers.LENGTH}; copy the engine again"
        )
    elif _of_engine(record):
        found.append(f"it does not begin as an engine does, with vtrt or ftrt: damaged, or another file; {AGAIN}")
    else:
        raise ModelFileError(_foreign(path))
    if record is None:
        found.append(f"nothing says what it was built from: {why}; copy the manifest beside it, or build it again")
    else:
        found += _against(record, home.name, size, digest, header)
    source = None if against is None else Path(against)
    notes: list[str] = []
    if source is not None and record is not None and _of_engine(record):
        from simam_deploy.engines.source import compare_source  # with onnx

        others, notes = compare_source(source, record)
        found += others
    return EngineInspection(path, size, digest, header, record, tuple(found), tuple(notes), source)


def _of_engine(record: manifest.Record | None) -> bool:
    return record is not None and isinstance(record.get("engine"), dict)


def _foreign(path: Path) -> str:
    onnx = ""
    with suppress(OSError):
        onnx = "it looks like an ONNX file" if looks_like_onnx(path) else ""
    kind = what_is(path) or onnx or "it is of no kind that is known here"
    remedy = f"; name it {path.stem}.onnx, or build an engine from it: simam-deploy build" if kind == onnx else ""
    return f"{path} is no engine: it begins neither with vtrt (TensorRT-RTX) nor with ftrt (TensorRT)\n{kind}{remedy}"


def _against(record: manifest.Record, name: str, size: int, digest: str, header: Header | None) -> Iterator[str]:
    """Where a manifest disagrees with the file `name` and its header."""
    beside = name + manifest.SUFFIX
    if not _of_engine(record):
        yield f"{beside} is the manifest of a model, not of an engine; {AGAIN}"
        return
    if manifest.CONTENT not in record:
        yield f"{beside} has no hash of its own content: written by an older simam-deploy, or edited; build again"
    elif record[manifest.CONTENT] != manifest.content_sha256(record):
        yield f"{beside} was edited after it was written, so no line in it can be trusted; {AGAIN}"
    engine, files = record["engine"], record.get("files")
    match files:
        case [{"sha256": str(built)}] if built == digest:
            pass
        case [{"sha256": str()}] if engine.get("file") != name:
            yield f"{beside} was written for {_shown(engine.get('file'))}, whose bytes are others (SHA-256); {AGAIN}"
        case [{"sha256": str()}]:
            yield f"its bytes are others than those that were built (SHA-256); {AGAIN}"
        case _:
            yield f"{beside} does not hold the one SHA-256 of the engine; {AGAIN}"
    if engine.get("bytes") != size:
        yield f"the manifest says {_shown(engine.get('bytes'))} bytes, and the file has {size}; {AGAIN}"
    if header is not None:
        yield from _against_header(record, header)


def _against_header(record: manifest.Record, header: Header) -> Iterator[str]:
    versions, flavor = record.get("versions"), FLAVORS[header.flavor].title
    built_by = versions.get(header.flavor) if isinstance(versions, dict) else None
    if built_by is None or record.get("flavor", header.flavor) != header.flavor:
        yield f"the header says that {flavor} built it, and the manifest does not; {AGAIN}"
    elif not _same_version(built_by, header.version):
        yield (
            f"the header is of {flavor} {header.version}, the manifest of {_shown(built_by)}; an engine needs the "
            f"version that built it: {AGAIN} with the version that will run it"
        )
    if header.targets is not None and record.get("targets") != list(header.targets):
        yield (
            f"the header is for {', '.join(header.targets) or 'no GPU'}, the manifest for "
            f"{_shown(record.get('targets'))}; an engine needs a GPU of its header: build it again, with "
            "--targets for the GPU that will run it"
        )


def _same_version(told: object, version: str) -> bool:
    """Whether two versions have the same numbers, three at least, as far as both have them."""
    numbers = told.split(".") if isinstance(told, str) else []
    return len(numbers) >= 3 and all(a == b for a, b in zip(numbers, version.split("."), strict=False))


def _rows(name: str, value: object, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Names and texts of a JSON value, one row for each inner value."""
    if isinstance(value, dict) and value and depth < 3:
        for key, held in value.items():
            yield from _rows(f"{name} {key}".strip(), held, depth + 1)
    elif isinstance(value, list) and any(isinstance(held, dict | list) for held in value):
        for number, held in enumerate(value, 1):
            yield f"{name} {number}", _shown(held)
    else:
        yield name, _shown(value)


def _shown(value: object) -> str:
    """A JSON value as text: sizes as 1x3x8x8, texts with commas."""
    if value in (None, [], {}):
        return "none"
    if isinstance(value, list) and all(type(size) is int for size in value):
        return "x".join(map(str, value))
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return ", ".join(value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(held)}" for key, held in value.items())
    return value if isinstance(value, str) else json.dumps(value)
