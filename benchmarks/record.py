"""Keeps what a benchmark printed: a line of JSON per run, with the machine, the versions and the commit."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
PACKAGES = (
    *("torch", "triton", "onnxruntime", "onnxruntime-gpu", "openvino", "onnx", "numpy"),
    *("torchvision", "ultralytics", "onnxslim", "onnxconverter-common", "nvidia-modelopt", "tensorrt-rtx-cu13"),
    *("MNN", "ncnn", "pnnx"),
)


def keep(name: str, rows: Sequence[Mapping[str, Any]], **conditions: Any) -> None:
    """Append a run to results/<name>.jsonl. conditions : threads, shapes, what else the figures depend on."""
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name}.jsonl").open("a") as stream:
        stream.write(_line(rows, _here() | conditions))


class Growing:
    """A run whose rows are kept as they come: what is measured stays, whatever happens afterwards."""

    def __init__(self, path: Path, **conditions: Any) -> None:
        self.rows: list[Mapping[str, Any]] = []
        self._path = path
        self._earlier = earlier(path)
        self._conditions = _here() | conditions

    def add(self, row: Mapping[str, Any]) -> None:
        """Write the file with this row in it beside, and rename it."""
        self.rows.append(row)
        beside = _beside(self._path)
        try:
            beside.write_text(self._earlier + _line(self.rows, self._conditions))
            beside.replace(self._path)
        except OSError:  # a full disk
            beside.unlink(missing_ok=True)
            raise


def earlier(path: Path) -> str:
    """Rows of a file to extend. Raises OSError or ValueError if it cannot be read, or its folder not written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _beside(path).touch()
    _beside(path).unlink()
    return path.read_text() if path.exists() else ""


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}")


def _here() -> dict[str, Any]:
    return {
        "date": date.today().isoformat(),
        "commit": _commit(),
        "machine": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {package: version for package in PACKAGES if (version := _version(package))},
    }


def _line(rows: Sequence[Mapping[str, Any]], conditions: Mapping[str, Any]) -> str:
    short = [{name: _short(value) for name, value in row.items()} for row in rows]
    return json.dumps({**conditions, "rows": short}, ensure_ascii=False) + "\n"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _short(value: Any) -> Any:
    """Four digits are more than a timing has."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _commit() -> str:
    """The commit, with + for uncommitted changes. COMMIT names it in a copy of a checkout."""
    command = ["git", "describe", "--always", "--dirty=+"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=RESULTS.parent
        ).stdout.strip()
    except OSError:  # no git
        answer = ""
    return answer or os.environ.get("COMMIT", "unknown")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    features = "AVX-512" if any(" avx512f" in line for line in lines) else "AVX2"
    return f"{names[0] if names else platform.machine()} ({features})"
