"""Models with SimAM attention in production: see README.md.

    from simam_deploy import SimAM, open_session
    from simam_deploy.pytorch.adopt import adopt            # torch model -> torch model with our SimAM
    from simam_deploy.to_onnx import export          # torch model -> ONNX file
    from simam_deploy.rewrite.fuse import fuse              # ONNX model -> ONNX model in another form
    from simam_deploy.compare.verify import verify          # the same inputs through several sessions
    from simam_deploy.compare.bench import bench            # their speed

Nothing heavy is imported before it is used: without torch, all but `SimAM` and `export` still work.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["SimAM", "__version__", "open_session", "simam_module"]

_HOME = {"SimAM": "pytorch.module", "simam_module": "pytorch.module", "open_session": "runtimes"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
