"""Whether a block sums in float16, which overflows on large maps without a word."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from simam_deploy.block import Block
from simam_deploy.match.op_sets import STATISTICS, cast_to
from simam_deploy.text import counted

MENDED = (
    "SimAM is computed in float16, which overflows in silence on large maps; simam-deploy fuse {file} -o OUT.onnx "
    "computes it in float32 inside, and convert writes such files from float32 ones"
)


def half_note(blocks: Iterable[Block], file: object) -> str:
    """MENDED with the number of blocks that sum in float16; "" if none does. file : the name for the command."""
    count = sum(map(sums_in_float16, blocks))
    return f"{counted(count, 'block')}: {MENDED.format(file=file)}" if count else ""


def sums_in_float16(block: Block) -> bool:
    """Whether a sum over the plane takes float16 in a block of primitive operators.

    False for blocks that cast to float32 first, and for our nodes, whose definition and kernel do so.
    """
    if block.dtype != ir.DataType.FLOAT16 or block.form != "primitive":
        return False
    narrow = {block.x}
    for node in block.inside:
        if narrow.isdisjoint(value for value in node.inputs if value is not None):
            continue
        if node.op_type in STATISTICS:
            return True
        if cast_to(node) not in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
            narrow.update(node.outputs)
    return False
