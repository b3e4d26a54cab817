"""Blocks that sum in float16, and those that do not."""

import onnx
import onnx_ir as ir
import pytest
from helpers.half_nets import naive

from simam_deploy.match.find import find
from simam_deploy.match.half_sums import half_note, sums_in_float16
from simam_deploy.rewrite.fuse import fuse


def found(model: onnx.ModelProto | ir.Model) -> list[bool]:
    model = ir.from_proto(model) if isinstance(model, onnx.ModelProto) else model
    return [sums_in_float16(block) for block in find(model).blocks]


@pytest.mark.parametrize(("dtype", "sums"), [("float16", True), ("float32", False), ("bfloat16", False)])
def test_types(dtype: str, sums: bool) -> None:
    assert found(naive(16, dtype)) == [sums]


@pytest.mark.parametrize("form", ["function", "primitive", "custom_op"])
def test_fuse_mends_it(form: str) -> None:
    assert found(fuse(ir.from_proto(naive(16)), form).model) == [False]


def test_the_note_is_of_one_line_with_the_command() -> None:
    model = ir.from_proto(naive(16))
    said = half_note(find(model).blocks, "net.onnx")
    assert said.startswith("1 block: SimAM is computed in float16, which overflows")
    assert "simam-deploy fuse net.onnx -o OUT.onnx" in said
    assert half_note(find(fuse(model).model).blocks, "net.onnx") == ""


def test_the_island_is_what_counts() -> None:
    """The same nodes without the cast of the data."""
    model = fuse(ir.from_proto(naive(16)), "primitive").model
    (block,) = find(model).blocks
    casts = [node for node in block.inside if node.op_type == "Cast" and node.inputs[0] is block.x]
    assert casts
    for node in casts:
        node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT16)
    assert sums_in_float16(block)
