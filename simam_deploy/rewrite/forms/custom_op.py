"""SimAM as one node simam::SimAM without a fallback definition, for hosts with a kernel that reject functions.

Older TensorRT, `trtexec --dynamicPlugins`, ONNX Runtime with the op library. No other host can run the file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import onnx_ir as ir

from simam_deploy.block import Block
from simam_deploy.rewrite.forms import function
from simam_deploy.rewrite.forms.function import EPILOGUE, reasons_against

__all__ = ["EPILOGUE", "NAME", "functions", "nodes", "reasons_against"]

NAME = "custom_op"


def nodes(block: Block, opset: int, types: Collection[ir.DataType] = ()) -> list[ir.Node]:
    """The node of form `function`. It accepts each type."""
    del types
    return function.nodes(block, opset)


def functions(opset: int, ops: Iterable[str], types: Collection[ir.DataType]) -> list[ir.Function]:
    """None, in contrast to form `function`."""
    del opset, ops, types
    return []
