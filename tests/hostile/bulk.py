"""Much of one thing: nodes in a chain, uses of one value, blocks, near misses."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from helpers.onnx_models import CHAIN
from helpers.onnx_models import model as simam
from onnx import helper, numpy_helper

from hostile.parts import F, Files, block, function, network

FILES = Files()
MANY = 10**4


# chains


def chain(op: str, more: Sequence[str] = (), shape: str = "2, 3, 5, 7", **attributes: Any) -> onnx.ModelProto:
    """image -> op -> op -> ... -> SimAM."""
    model = ir.to_proto(simam(shape=shape, before="x = Identity (image)"))
    names = ["image", *(f"k{i}" for i in range(1, MANY)), "x"]
    nodes = [helper.make_node(op, [a, *more], [b], **attributes) for a, b in itertools.pairwise(names)]
    rest = list(model.graph.node)[1:]
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 0, 0, 0], np.int64), "sizes"))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "zero"))
    return model


CHAINS: dict[str, Callable[..., onnx.ModelProto]] = {
    "identity": partial(chain, "Identity"),
    "cast": partial(chain, "Cast", to=1),
    "reshape": partial(chain, "Reshape", ["sizes"]),
    "transpose": partial(chain, "Transpose", perm=[0, 1, 3, 2]),
    "add": partial(chain, "Add", ["zero"]),
    "dropout": partial(chain, "Dropout"),
    "relu": partial(chain, "Relu"),
    "sigmoid": partial(chain, "Sigmoid"),
    "mean": partial(chain, "ReduceMean", keepdims=1),
    "unknown": partial(chain, "Unknown", domain="f"),
}
for _name, _build in CHAINS.items():
    FILES.add(_build, f"chain_of_{_name}")


FILES.add(partial(chain, "Identity", shape="n, 3, h, w"), "dynamic_chain_of_identity")


def inner_chain(op: str, count: int, **attributes: Any) -> onnx.ModelProto:
    """Between e and z, inside the block."""
    model = block()
    z = next(node for node in model.graph.node if node.output[0] == "z")
    names = ["e", *(f"t{i}" for i in range(1, count + 1))]
    nodes = [helper.make_node(op, [a], [b], **attributes) for a, b in itertools.pairwise(names)]
    z.input[0] = names[-1]
    at = list(model.graph.node).index(z)
    rest = [*model.graph.node[:at], *nodes, *model.graph.node[at:]]
    del model.graph.node[:]
    model.graph.node.extend(rest)
    return model


for _name in ("Identity", "Dropout", "Neg"):
    FILES.add(partial(inner_chain, _name, MANY), f"inner_chain_of_{_name.lower()}")
FILES.add(partial(inner_chain, "Cast", MANY, to=1), "inner_chain_of_cast")


@FILES.add
def chain_of_sizes() -> onnx.ModelProto:
    """Shape -> Identity -> ... -> the size that a Reshape takes."""
    nodes = [helper.make_node("Shape", ["x"], ["t0"])]
    nodes += [helper.make_node("Identity", [f"t{i}"], [f"t{i + 1}"]) for i in range(MANY)]
    return network([*nodes, helper.make_node("Reshape", ["x", f"t{MANY}"], ["y"])])


@FILES.add
def chain_of_sizes_around_a_block() -> onnx.ModelProto:
    """M - 1 = 34 comes from the shape of x through many nodes."""
    text = CHAIN.replace("(s, n)", "(s, n2)").replace(
        "   mean =",
        "   size = Shape (x)\n   at = Gather (size, hw)\n   m = ReduceProd <keepdims: int = 0> (at)\n"
        "   mf = Cast <to: int = 1> (m)\n"
        + "".join(f"   mf{i + 1} = Identity ({'mf' if i == 0 else f'mf{i}'})\n" for i in range(3000))
        + "   one = Constant <value_float = 1.0> ()\n   n2 = Sub (mf3000, one)\n   mean =",
    )
    return ir.to_proto(simam(text, shape="n, 3, h, w"))


# many of one kind


def copies(count: int, text: str = CHAIN, *, alike: bool = False) -> onnx.ModelProto:
    """Blocks one beside the other, each of its own λ unless they are alike."""
    model = ir.to_proto(simam(text))
    inner = [node for node in model.graph.node if node.op_type != "Relu"]
    made = {output for node in inner for output in node.output}
    lam = next(t for t in model.graph.initializer if t.name == "lam")
    for copy in range(count):
        for node in inner:
            more = model.graph.node.add()
            more.CopyFrom(node)
            more.input[:] = [f"{i}_{copy}" if i in made or (i == "lam" and not alike) else i for i in node.input]
            more.output[:] = [f"{o}_{copy}" for o in node.output]
            more.name = f"{node.name}_{copy}" if node.name else ""
        if not alike:
            tensor = model.graph.initializer.add()
            value = numpy_helper.to_array(lam) * np.float32(1 + copy / count)
            tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), f"lam_{copy}"))
        model.graph.output.add().CopyFrom(model.graph.output[0])
        model.graph.output[-1].name = f"y_{copy}"
    return model


FILES.add(partial(copies, 1000, alike=True), "blocks_1000")
FILES.add(partial(copies, 1000), "blocks_of_other_lambdas")
FILES.add(partial(copies, 1000, CHAIN.replace("Add (e, half)", "Add (e, four)")), "near_misses_of_other_lambdas")


@FILES.add
def blocks_in_a_row() -> onnx.ModelProto:
    """Each takes what the last one made."""
    model = copies(500, alike=True)
    for node in model.graph.node:
        copy = int(node.output[0].rpartition("_")[2]) if "_" in node.output[0] else 0
        if copy:
            node.input[:] = [f"y_{copy - 1}" if i == "x" else i for i in node.input]
    return model


@FILES.add
def many_uses() -> onnx.ModelProto:
    """Of x, of an inner value, of y."""
    model = block()
    for value in ("x", "e", "y"):
        for i in range(MANY):
            model.graph.node.append(helper.make_node("Relu", [value], [f"{value}_used{i}"]))
    return model


@FILES.add
def many_outputs() -> onnx.ModelProto:
    model = block()
    for i in range(MANY):
        model.graph.node.append(helper.make_node("Relu", ["e"], [f"o{i}"]))
        model.graph.output.append(helper.make_tensor_value_info(f"o{i}", F, None))
    return model


@FILES.add
def many_inputs_of_one_node() -> onnx.ModelProto:
    return network([helper.make_node("Sum", ["x"] * (10 * MANY), ["y"])])


@FILES.add
def a_wide_concat_in_a_gate() -> onnx.ModelProto:
    nodes = [helper.make_node("Sigmoid", ["x"], [f"s{i}"]) for i in range(MANY)]
    nodes += [helper.make_node("ReduceMean", ["x"], [f"m{i}"], keepdims=1) for i in range(MANY)]
    nodes += [helper.make_node("Sum", [f"{k}{i}" for k in "sm" for i in range(MANY)], ["all"])]
    nodes += [helper.make_node("Mul", ["x", "all"], ["a"]), helper.make_node("Mul", ["a", "a"], ["b"])]
    return network([*nodes, helper.make_node("Sigmoid", ["b"], ["g"]), helper.make_node("Mul", ["x", "g"], ["y"])])


@FILES.add
def a_function_called_10000_times() -> onnx.ModelProto:
    names = ["x", *(f"t{i}" for i in range(1, MANY)), "y"]
    calls = [helper.make_node("a", [a], [b], domain="f") for a, b in itertools.pairwise(names)]
    return network(calls, [function("a", ["Relu"])])


@FILES.add
def a_function_called_at_many_sizes() -> onnx.ModelProto:
    """Around a block: each call has another shape, so each is judged."""
    inner = [node for node in block().graph.node if node.op_type != "Relu"]
    held = [helper.make_node("Constant", [], [t.name], value=t) for t in block().graph.initializer]
    body = helper.make_function("f", "a", ["x"], ["y"], [*held, *inner], [helper.make_opsetid("", 18)])
    model = network([helper.make_node("Relu", ["x"], ["y"])], [body])
    for i in range(1000):
        model.graph.input.append(helper.make_tensor_value_info(f"x{i}", F, [1, 3, 4, 4 + i]))
        model.graph.node.append(helper.make_node("a", [f"x{i}"], [f"y{i}"], domain="f"))
        model.graph.output.append(helper.make_tensor_value_info(f"y{i}", F, None))
    return model


@FILES.add
def many_dimensions() -> onnx.ModelProto:
    """Names for ten thousand sizes of inputs."""
    model = block()
    for i in range(MANY):
        model.graph.input.append(helper.make_tensor_value_info(f"in{i}", F, [f"n{i}", 3, f"h{i}", f"w{i}"]))
    return model


@FILES.add
def the_same_value_name_in_many_branches() -> onnx.ModelProto:
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["inner"])], "b", [], [helper.make_tensor_value_info("inner", F, None)]
    )
    nodes = [helper.make_node("If", ["cond"], [f"o{i}"], then_branch=branch, else_branch=branch) for i in range(3000)]
    return network([*nodes, helper.make_node("Relu", ["x"], ["y"])])


@FILES.add
def names_that_are_taken() -> onnx.ModelProto:
    """Those that fuse would write, with any number of underscores behind."""
    model = block()
    last = next(node for node in model.graph.node if node.output[0] == "y")
    last.name = "b"
    for name in ("mean", "d", "n", "e", "z", "gate", "lam", "half", "y", "x_mean", "square", "v"):
        for i in range(500):
            model.graph.node.append(helper.make_node("Relu", ["x"], [f"b/{name}{'_' * i}"]))
    return model
