"""SimAM as one node simam::SimAM whose body, in primitive operators, travels in the file as a model-local function.

A runtime that has a kernel of that name takes the node; every other one runs the body. The body casts x to float32
and back, so that it stays right in a file that somebody converts to half precision around it; on float32 the casts
are no-ops that runtimes drop. M - 1 comes from the shape of x at run time, as one body serves all blocks of a file.
"""

from __future__ import annotations

import onnx_ir as ir

from simam_deploy.blocks import Block
from simam_deploy.forms.primitive import body, runtime_n
from simam_deploy.forms.writer import Writer
from simam_deploy.formula import DEFAULT_LAMBDA, OP_DOMAIN, OP_NAME
from simam_deploy.operators import HALF

NAME = "function"
MIN_OPSET = 17
FLOAT = ir.DataType.FLOAT


def reasons_against(block: Block) -> list[str]:
    """A float64 block has no body: it would be computed in float32."""
    fits = block.dtype in (FLOAT, *HALF)
    return [] if fits else [f"x is {block.dtype.name}, the op takes FLOAT, FLOAT16 and BFLOAT16"]


def nodes(block: Block, opset: int) -> list[ir.Node]:
    """One node."""
    del opset
    attributes = [ir.AttrFloat32("e_lambda", block.e_lambda)]
    node = ir.Node(OP_DOMAIN, OP_NAME, [block.x], attributes, name=block.node)
    return [node]


def functions(opset: int) -> list[ir.Function]:
    """The body: simam::SimAM(x; e_lambda) for x : (N, C, H, W) of any float type."""
    x = ir.Value(name="x")
    write = Writer("", opset)
    wide = write.op("Cast", x, name="float", to=FLOAT)
    n = runtime_n(write, x, FLOAT)
    from_attribute = ir.RefAttr("value_float", "e_lambda", ir.AttributeType.FLOAT)
    e_lambda = write.op("Constant", name="e_lambda", value_float=from_attribute)
    y = write.op("CastLike", body(write, wide, n, e_lambda, FLOAT), x, name="y_like_x")
    graph = ir.Graph([x], [y], nodes=write.nodes, opset_imports={"": opset}, name=OP_NAME)
    return [ir.Function(OP_DOMAIN, OP_NAME, graph=graph, attributes=[ir.AttrFloat32("e_lambda", DEFAULT_LAMBDA)])]
