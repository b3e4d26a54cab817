"""Files that the builder is given."""

from helpers.small_onnx import dynamic, static

__all__ = ["dynamic", "static"]
