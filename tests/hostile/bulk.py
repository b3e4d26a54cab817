"""Much of one thing: nodes in a chain, uses of one value, blocks, near misses, texts of megabytes."""

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
LONG = "n" * (3 * 10**6)


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


# texts of megabytes


@FILES.add
def long_value_names() -> onnx.ModelProto:
    model = block()
    for node in model.graph.node:
        if node.output[0] not in ("out",):
            node.output[0] += LONG if node.output[0] == "e" else ""
        node.input[:] = [i + LONG if i == "e" else i for i in node.input]
    return model


def _names_x(model: onnx.ModelProto) -> None:
    for other in model.graph.node:
        other.input[:] = [i + LONG if i == "x" else i for i in other.input]
        other.output[:] = [o + LONG if o == "x" else o for o in other.output]


def _last(model: onnx.ModelProto) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.output[0] == "y")


def _add_domain(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Relu", ["x"], ["o"], domain=LONG))
    model.opset_import.append(helper.make_opsetid(LONG, 1))


def _write(field: str, *parts: object) -> None:
    for part in parts:
        setattr(part, field, LONG)


TEXTS: dict[str, Callable[[onnx.ModelProto], object]] = {
    "node": lambda m: _write("name", _last(m)),
    "every_node": lambda m: _write("name", *m.graph.node),
    "domain": _add_domain,
    "operator": lambda m: m.graph.node.append(helper.make_node(LONG, ["x"], ["o"])),
    "attribute": lambda m: _last(m).attribute.append(helper.make_attribute(LONG, 1)),
    "string": lambda m: _last(m).attribute.append(helper.make_attribute("s", LONG)),
    "doc": lambda m: _write("doc_string", m, m.graph, _last(m)),
    "metadata": lambda m: m.metadata_props.add(key=LONG, value=LONG),
    "metadata_of_a_node": lambda m: _last(m).metadata_props.add(key=LONG, value=LONG),
    "x": _names_x,
    "dimension": lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_param", LONG),
    "initializer": lambda m: m.graph.initializer.add(name=LONG, data_type=F, dims=[1], float_data=[1]),
    "graph": lambda m: _write("name", m.graph),
    "producer": lambda m: m.MergeFrom(onnx.ModelProto(producer_name=LONG, producer_version=LONG, domain=LONG)),
}


def text(change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    model = block()
    change(model)
    return model


for _name, _change in TEXTS.items():
    FILES.add(partial(text, _change), f"long_{_name}")


@FILES.add
def long_function_names() -> onnx.ModelProto:
    return network(
        [helper.make_node(LONG, ["x"], ["y"], domain="f")],
        [
            helper.make_function(
                "f", LONG, ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], [helper.make_opsetid("", 18)]
            )
        ],
    )


@FILES.add
def long_names_of_many_nodes() -> onnx.ModelProto:
    model = block()
    for i in range(100):
        model.graph.node.append(helper.make_node("Relu", ["x"], [f"{'v' * 30000}{i}"], name="m" * 30000))
    return model


# sizes with many axes


@FILES.add
def a_million_axes_of_x() -> onnx.ModelProto:
    model = block()
    for _ in range(10**6):
        model.graph.input[0].type.tensor_type.shape.dim.add(dim_value=1)
    return model


@FILES.add
def a_million_axes_of_a_weight() -> onnx.ModelProto:
    model = block()
    model.graph.initializer.add(name="w", data_type=F, dims=[1] * 10**6, float_data=[1])
    return model


@FILES.add
def a_million_axes_to_reduce() -> onnx.ModelProto:
    model = block()
    axes = next(t for t in model.graph.initializer if t.name == "hw")
    axes.CopyFrom(numpy_helper.from_array(np.full(10**6, 2, np.int64), "hw"))
    return model


@FILES.add
def a_million_numbers_in_an_attribute() -> onnx.ModelProto:
    model = block()
    node = next(node for node in model.graph.node if node.output[0] == "y")
    node.attribute.append(helper.make_attribute("axes", list(range(10**6))))
    return model


def reshaped(nodes: Sequence[onnx.NodeProto], size: str) -> onnx.ModelProto:
    """image -> Shape -> nodes -> Reshape -> SimAM: whether x has a shape shows at the end of the nodes."""
    model = ir.to_proto(simam(shape="n, 3, h, w", before="x = Identity (image)"))
    rest = list(model.graph.node)[1:]
    del model.graph.node[:]
    model.graph.node.extend([helper.make_node("Shape", ["image"], ["s0"]), *nodes])
    model.graph.node.extend([helper.make_node("Reshape", ["image", size], ["x"]), *rest])
    return model


SIZES = list(itertools.pairwise(f"s{i}" for i in range(MANY)))


@FILES.add
def sizes_through_a_chain() -> onnx.ModelProto:
    return reshaped([helper.make_node("Identity", [a], [b]) for a, b in SIZES], SIZES[-1][1])


@FILES.add
def sizes_that_are_added_up() -> onnx.ModelProto:
    ops = itertools.cycle(("Add", "Mul", "Pow"))
    return reshaped([helper.make_node(next(ops), [a, a], [b]) for a, b in SIZES], SIZES[-1][1])


@FILES.add
def sizes_by_nodes_that_all_differ() -> onnx.ModelProto:
    """Slices of 1 to 10,000 numbers, of four."""
    nodes = [helper.make_node("Constant", [], [f"c{i}"], value_ints=[i, 3 * i + 1]) for i in range(len(SIZES) // 2)]
    nodes += [helper.make_node("Concat", [f"c{i}", "s0"], [f"d{i}"], axis=0) for i in range(len(SIZES) // 2)]
    return reshaped([*nodes, helper.make_node("Identity", ["s0"], ["s1"])], "s1")


@FILES.add
def a_size_that_lies() -> onnx.ModelProto:
    """A billion numbers that are declared as one, in what sizes are computed with."""
    nodes = [
        helper.make_node("Mod", ["big", "other"], ["made"]),
        helper.make_node("ConstantOfShape", ["made"], ["many"]),
        helper.make_node("ReduceSum", ["many"], ["total"], keepdims=0),
        helper.make_node("Mul", ["s0", "total"], ["s1"]),
    ]
    model = reshaped(nodes, "s1")
    model.graph.initializer.append(numpy_helper.from_array(np.array([10**9]), "big"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([10**9 + 1]), "other"))
    model.graph.value_info.append(helper.make_tensor_value_info("many", F, [1]))
    for value in (model.graph.input[0], model.graph.output[0]):
        for dim, size in zip(value.type.tensor_type.shape.dim, (2, 3, 5, 7), strict=True):
            dim.dim_value = size
    return model


@FILES.add
def a_constant_through_a_chain() -> onnx.ModelProto:
    """lam -> Identity -> ... -> the sum that takes λ."""
    model = block()
    names = ["lam", *(f"k{i}" for i in range(MANY))]
    nodes = [helper.make_node("Identity", [a], [b]) for a, b in itertools.pairwise(names)]
    for node in model.graph.node:
        node.input[:] = [names[-1] if i == "lam" else i for i in node.input]
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    return model


def heavy(lines: str, size: str = "1, 2, 600, 600") -> onnx.ModelProto:
    """Small results of much work, between e and z, on a large map."""
    chain = CHAIN.replace("   z = Add (e, half)", lines + "\n   z = Add (ee, half)")
    return ir.to_proto(simam(chain, shape=size))


HEAVY = {
    "einsum": '   o = Einsum <equation: string = "abcd,efgh->"> (e, e)\n   ee = Add (e, o)',
    "einsum_of_three": '   o = Einsum <equation: string = "abcd,efgh,abgh->ef"> (e, e, e)\n'
    "   p = ReduceMean <keepdims: int = 0> (o)\n   ee = Add (e, p)",
    "matmul": "   f = Flatten <axis: int = 3> (e)\n   h = Transpose (f)\n   o = MatMul (f, h)\n"
    "   p = ReduceMean <keepdims: int = 0> (o)\n   ee = Add (e, p)",
    "padding": "   o = AveragePool <kernel_shape: ints = [30001, 30001], strides: ints = [40000, 40000], "
    "pads: ints = [15000, 15000, 15000, 15000]> (e)\n   ee = Add (e, o)",
    "sum": "   o = Sum (" + ", ".join(["e"] * 90) + ")\n   ee = Mul (o, half)",
    "powers": "\n".join(f"   h{i + 1} = Pow ({f'h{i}' if i else 'e'}, half)" for i in range(80))
    + "\n   ee = Identity (h80)",
}
for _name, _lines in HEAVY.items():
    FILES.add(partial(heavy, _lines), f"heavy_{_name}")


@FILES.add
def random_products() -> onnx.ModelProto:
    """A gate and a statistic, and ten thousand nodes that each take two of what stands before."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["v0"], keepdims=1),
        helper.make_node("Sigmoid", ["v0"], ["v1"]),
        helper.make_node("Mul", ["x", "v1"], ["v2"]),
    ]
    for i in range(3, MANY):
        a, b = (f"v{max(0, i - 1 - int(rng.integers(8)))}" for _ in range(2))
        nodes.append(
            helper.make_node(
                ("Mul", "Sub", "Add", "Sigmoid", "ReduceMean")[i % 5], [a, b][: 2 if i % 5 < 3 else 1], [f"v{i}"]
            )
        )
    return network([*nodes, helper.make_node("Relu", [f"v{MANY - 1}"], ["y"])])
