"""The true Python API of TensorRT 10.0 to 11.4 on a CPU, for tests. `make trt-api` installs it below build/trt-api.

    PYTHONPATH=build/trt-api/11.4.0.106 .venv/bin/python -m simam_deploy.engines.worker < job.json

One folder on PYTHONPATH makes `import tensorrt` that version, in the worker too, which inherits PYTHONPATH.
The fixture `trt_version` of tests/engines sets it, for each version in turn. `path_for(version)` is its value.

| in the folder | |
|---|---|
| `tensorrt_bindings` | NVIDIA's, from PyPI: every class, method and enum value |
| `tensorrt_libs` | core.c in the place of libnvinfer: TensorRT-RTX's core in 11.x, no core in 10.x |
| `tensorrt` of 11.x | the bindings; they parse and build an engine of TensorRT-RTX |
| `tensorrt` of 10.x | overlay.py: the names of the bindings over TensorRT-RTX's classes; the ABI is another |
| `names.json` | all names of the bindings, for the overlay and for table.py |

This tests our calls, not NVIDIA's builder. The overlay checks names and values of enums, not the types of arguments.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2] / "build" / "trt-api"
VERSIONS = ("10.0.1", "10.3.0", "10.9.0.34", "10.13.0.35", "11.0.0.114", "11.1.0.106", "11.4.0.106")
"""Those that tests run under: the ends of each major version, those of JetPack 6 and 7, and steps between."""


def folder(version: str) -> Path:
    """Where `version` is installed."""
    return ROOT / version


def missing(version: str) -> str:
    """Reason why `version` cannot be used here; empty if it can."""
    if (folder(version) / "made_of").is_file():
        return ""
    return f"no bindings of TensorRT {version} below {ROOT}: make trt-api"


def path_for(version: str) -> str:
    """The PYTHONPATH of a child process whose `tensorrt` is to be `version`."""
    return os.pathsep.join(filter(None, (str(folder(version)), os.environ.get("PYTHONPATH"))))
