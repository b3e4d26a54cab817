"""Environment variables that disable telemetry of frameworks."""

from __future__ import annotations

import os

SILENT = {"onnxruntime": "ORT_DISABLE_TELEMETRY"}
"""Framework -> variable that disables its telemetry if set to 1 before the import."""


def silence() -> None:
    """Set the variables of SILENT that the user has not set. Call it before the import of a framework."""
    for variable in SILENT.values():
        os.environ.setdefault(variable, "1")
