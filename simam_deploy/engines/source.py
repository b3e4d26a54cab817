"""An engine's manifest against the ONNX file that it should be built from: same file, same types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path

from simam_deploy.artifacts import manifest
from simam_deploy.graph import onnx_file
from simam_deploy.graph.number_types import precision

_TYPES = {"fp16": "HALF", "bf16": "BF16", "int8": "INT8"}
"""TensorRT's name of each type in a precision."""


WEIGHTS = "weights"
"""Key of the weight files in the source of an engine, each with name and SHA-256."""


def source_of(source: Path, outside: Collection[Path]) -> manifest.Record:
    """Name and SHA-256 of an ONNX file, and of its weights in other files, if any."""
    weights = [manifest.file_source(path) for path in sorted(outside)]
    return manifest.file_source(source) | ({WEIGHTS: weights} if weights else {})


def states(files: Collection[Path]) -> list[tuple[int, int, int]]:
    """Of each file the numbers that change when it is written or replaced."""
    return [(held.st_ino, held.st_size, held.st_mtime_ns) for held in map(Path.stat, sorted(files))]


def compare_source(source: Path, record: manifest.Record) -> tuple[list[str], list[str]]:
    """Disagreements with the file `source`, each with its remedy, and notes. record : manifest of an engine.

    The layers' types are those that the parser gave them, from the manifest. A builder adds casts of its own.
    Raises ModelFileError if `source` cannot be read.
    """
    proto, graph = onnx_file.both(source)
    asked, told = precision(graph), record.get("precision")
    held = record.get("source")
    built_from = held if isinstance(held, dict) else {}
    found, notes = [], []
    if built_from.get("sha256") != manifest.file_source(source)["sha256"]:
        found.append(
            f"{source.name} is not the file that the engine was built from (SHA-256), which was called "
            f"{built_from.get('file')}; give that one, or build the engine again from {source.name}"
        )
    else:
        outside = onnx_file.weight_files(proto, source)
        hashes = built_from.get(WEIGHTS)
        if outside and hashes is None:
            names = ", ".join(sorted(path.name for path in outside))
            notes.append(f"the weights in {names} were not compared: the manifest has no hash of them")
        elif hashes != source_of(source, outside).get(WEIGHTS):
            found.append(
                f"the weights of {source.name} in other files are not those that the engine was built from; give "
                "those, or build the engine again"
            )
    if told != asked:
        found.append(f"{source.name} is {asked}, and the manifest says {told}; build the engine again")
    types = _by_type(record.get("types"))
    for missing in (name for name in asked.split("+") if types and name in _TYPES and _TYPES[name] not in types):
        found.append(f"{source.name} asks for {missing}, and no layer has the type; build the engine again")
    if types:
        counts = ", ".join(f"{count} {name}" for name, count in types.most_common())
        notes.append(f"types asked: {asked}; results of the parsed layers: {counts}")
    return found, notes


def _by_type(types: object) -> Counter[str]:
    """Number of layers of each type, from {"CONVOLUTION HALF": 4, ...}. Skips what is of another kind."""
    counts: Counter[str] = Counter()
    for key, count in types.items() if isinstance(types, dict) else ():
        if type(count) is int and 0 < count < 2**31:
            counts[key.rpartition(" ")[2]] += count
    return counts
