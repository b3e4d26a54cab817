"""Much work for few nodes: a million axes, sizes through thousands of nodes, sums over large maps."""

import itertools
from collections.abc import Sequence
from functools import partial

import numpy as np
import onnx
import onnx_ir as ir
from helpers.onnx_models import CHAIN
from helpers.onnx_models import model as simam
from onnx import helper, numpy_helper

from hostile.parts import F, Files, block, network

FILES = Files()
MANY = 10**4


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
