"""Files that are refused before the builder starts."""

from __future__ import annotations

import math
from pathlib import Path

import onnx

from simam_deploy.errors import BuildError, InputError, ModelFileError
from simam_deploy.formula import OP_DOMAIN
from simam_deploy.graph import onnx_file
from simam_deploy.graph.shapes import Shapes
from simam_deploy.graph.traverse import nodes
from simam_deploy.text import on_one_line

MOST_NODES = 5_000
"""Upper bound on nodes after inlining. The builder takes a millisecond and 200 KB for each, and more for some."""
A_CALL = 3
"""Cost of a function call for the builder, in nodes."""
MANY_INPUTS = 16
"""Number of inputs of one node, such as Sum or Concat, above which the builder makes a layer for each."""
MOST_FOLDED = 2**24
"""Upper bound on numbers computed from constants and sizes alone, in addition to the number of weights. The builder
folds them into the engine."""
LAMBDA = "e_lambda"
_KNOWN_DOMAINS = ("", "ai.onnx", "trt")


def refuse_much(model: onnx.ModelProto, path: Path) -> None:
    """Refuse more than MOST_NODES nodes and MOST_FOLDED folded numbers. Raises InputError."""
    count = onnx_file.count_nodes(model, path, A_CALL)
    count += sum(len(node.input) for node in nodes(model) if len(node.input) > MANY_INPUTS)
    if count > MOST_NODES:
        raise InputError(
            f"no engine is built of {path}: it has {count:,} nodes with all functions in place (calls of functions "
            f"count as {A_CALL} more, nodes of many inputs as so many), and the builder takes time and memory for "
            f"each; up to {MOST_NODES:,} are built without --no-limits"
        )
    with onnx_file.blaming(path):
        (sizes, *_) = Shapes(onnx_file.load(path)).trials
    fixed = {tensor.name for tensor in model.graph.initializer}
    weights = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    made = 0
    for node in model.graph.node:
        if node.op_type in ("Constant", "Shape", "Size") or fixed.issuperset(filter(None, node.input)):
            fixed.update(node.output)
            made += sum(math.prod(sizes.get(name, ())) for name in node.output if node.op_type != "Constant")
    if made > MOST_FOLDED + weights:
        raise InputError(
            f"no engine is built of {path}: it makes {made:,} numbers of constants alone, which the engine would "
            f"hold; up to {MOST_FOLDED:,} besides its weights are built without --no-limits"
        )


def refuse_unknown_nodes(model: onnx.ModelProto, path: Path, title: str, *, plugin: bool) -> None:
    """Refuse operators of other domains without a function: the parser would read foo::Relu as Relu.

    title : of the builder.  plugin : whether our plugin library takes our nodes.  Raises BuildError.
    """
    defined = {(function.domain, function.name) for function in model.functions}
    for node in nodes(model):
        if node.domain not in _KNOWN_DOMAINS and (node.domain, node.op_type) not in defined:
            op = on_one_line(f"{node.domain}::{node.op_type}")
            what = f"{path}: node {node.name or node.output[0]!r} is {op}"
            if node.domain == OP_DOMAIN and plugin:
                continue
            if node.domain == OP_DOMAIN:
                raise BuildError(
                    f"{what}, and no fallback definition is in the file (form custom_op), so only our plugin has it; "
                    "name the library with --plugin, or put the definition in: "
                    f"simam-deploy fuse {path} -o OUT.onnx --form function"
                )
            raise BuildError(
                f"{what}, and no function for it is in the file; {title} goes by the name alone, so it would "
                f"not know {op} or take it for ONNX's own; export the model without {op}"
            )


def refuse_odd_lambdas(model: onnx.ModelProto, path: Path) -> None:
    """Refuse nodes of ours whose λ is given twice, or is no float: a parser takes the first, and a tensor too.

    Raises ModelFileError.
    """
    for node in nodes(model):
        given = [held for held in node.attribute if held.name == LAMBDA and node.domain == OP_DOMAIN]
        if len(given) > 1 or (given and given[0].type != onnx.AttributeProto.FLOAT):
            why = f"{LAMBDA} is given {len(given)} times" if len(given) > 1 else f"{LAMBDA} is not one float"
            name = on_one_line(node.name or ", ".join(node.output))
            raise ModelFileError(
                f"{path}: node {name!r} is damaged: {why}; write the model's own λ, once, as a float"
            )


def refuse_other_names(*files: Path | None) -> None:
    """Raise InputError for the name of a file that is not UTF-8: the builder takes no other."""
    for file in files:
        try:
            str(file).encode()
        except UnicodeEncodeError:
            raise InputError(
                f"the name of {str(file)!r} is not UTF-8, and a builder takes no other; rename it"
            ) from None
