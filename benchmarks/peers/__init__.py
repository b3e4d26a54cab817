"""Runs of other packages with SimAM in their models: `make peers`. A peer is one file here:

    DOCS             the page that has its table
    cases()          name, in parts -> a function of an empty folder that returns figures, and raises what fails
    table(run)       the lines of Markdown that a run in results/ makes

`python -m benchmarks.peers` runs them, in the environment that requirements.txt describes.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Ultralytics reads these when it is imported: nothing is fetched, installed or reported.
os.environ |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}
os.environ.setdefault("YOLO_CONFIG_DIR", str(Path(__file__).parents[2] / "build/peers"))

PEERS = ("yolo", "edge")
Figures = dict[str, Any]
Cases = dict[tuple[str, ...], Callable[[Path], Figures]]
