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
PACKAGES = ("torch", "onnxruntime", "openvino", "onnx", "numpy")


def keep(name: str, rows: Sequence[Mapping[str, Any]], **conditions: Any) -> None:
    """Append a run to results/<name>.jsonl. conditions : threads, shapes, what else the figures depend on."""
    run = {
        "date": date.today().isoformat(),
        "commit": _commit(),
        "machine": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {package: metadata.version(package) for package in PACKAGES},
        **conditions,
        "rows": [{name: _short(value) for name, value in row.items()} for row in rows],
    }
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name}.jsonl").open("a") as stream:
        stream.write(json.dumps(run, ensure_ascii=False) + "\n")


def _short(value: Any) -> Any:
    """Four digits are more than a timing has."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _commit() -> str:
    """The commit, with + behind it where files differ from it."""
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=False, cwd=RESULTS.parent
    )
    return answer.stdout.strip() or "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    features = "AVX-512" if any(" avx512f" in line for line in lines) else "AVX2"
    return f"{names[0] if names else platform.machine()} ({features})"
