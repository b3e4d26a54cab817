"""SimAM as one node simam::SimAM without a body, for hosts that bring the kernel and dislike functions.

Older TensorRT, `trtexec --dynamicPlugins`, ONNX Runtime with the op library. Nothing else can run the file.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from simam_deploy.forms.function import NEIGHBOURS, nodes, reasons_against
from simam_deploy.formula import OP_NAME

__all__ = ["MIN_OPSET", "NAME", "NEIGHBOURS", "functions", "nodes", "reasons_against"]

NAME = "custom_op"
MIN_OPSET = 11


def functions(opset: int, ops: Iterable[str] = (OP_NAME,)) -> list[ir.Function]:
    """None: that is what sets it apart."""
    del opset, ops
    return []
