"""Frameworks that report to their makers, and the variables that keep them from it."""

from __future__ import annotations

import os

SILENT = {"onnxruntime": "ORT_DISABLE_TELEMETRY"}
"""Framework -> the variable that, set to 1 before its import, keeps it from reporting to its maker."""


def silence() -> None:
    """Set the variables of SILENT that the user has not set. Done before a framework is imported, by anyone."""
    for variable in SILENT.values():
        os.environ.setdefault(variable, "1")
