"""The built plugin library for TensorRT, for tests that load it into TensorRT-RTX."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from simam_deploy.engines.plugin_host import PLUGIN


def built_plugin() -> Path:
    """Its path. Skips the test if it is not built, or TensorRT-RTX is not installed."""
    if find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt_rtx is not installed")
    path = PLUGIN.find()
    if path is None:
        pytest.skip(PLUGIN.why_not())
    return path
