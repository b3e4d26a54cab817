"""Sizes: of x, of what is computed inside, of the graph."""

import itertools
from functools import partial

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import Message
from helpers.onnx_models import CHAIN
from helpers.onnx_models import model as simam
from onnx import TensorProto, helper, numpy_helper

from hostile.parts import Build, F, Files, block, network, row

FILES = Files()


def sized(*dims: int) -> Build:
    def build() -> onnx.ModelProto:
        model = block()
        for value in (model.graph.input[0], model.graph.output[0]):
            del value.type.tensor_type.shape.dim[:]
            for dim in dims:
                value.type.tensor_type.shape.dim.add(dim_value=dim)
        return model

    return build


SIZES = {
    "huge": (1, 2**31, 2**20, 2**20),
    "beyond_64_bits": (2**62, 2**62, 2**62, 2**62),
    "huge_map": (1, 3, 2**20, 2**20),
    "negative": (2, 3, -5, 7),
    "nothing": (2, 3, 0, 7),
    "no_batch": (0, 3, 5, 7),
    "many_channels": (1, 2**40, 5, 7),
}
for _name, _dims in SIZES.items():
    FILES.add(sized(*_dims), f"x_{_name}")


# inside a block


_BIG = "   big = Constant <value_ints = [1, 3, {0}, {0}]> ()\n"

INSIDE = {
    "expand": _BIG.format(10**6) + "   ee = Expand (e, big)",
    "expand_that_fits": _BIG.format(8000) + "   b = Constant <value_float = 1.0> ()\n   o = Expand (b, big)\n"
    "   r = ReduceMean <keepdims: int = 1> (o)\n   ee = Mul (e, r)",
    "tile": _BIG.format(10**6) + "   ee = Tile (e, big)",
    "tile_that_fits": _BIG.format(1500) + "   ee = Tile (e, big)",
    "constant_of_shape": _BIG.format(10**6) + "   o = ConstantOfShape (big)\n   ee = Add (e, o)",
    "constant_of_shape_that_fits": _BIG.format(8000) + "   o = ConstantOfShape (big)\n   ee = Add (e, o)",
    "range": "   a = Constant <value_int = 0> ()\n   b = Constant <value_int = 200000000> ()\n"
    "   c1 = Constant <value_int = 1> ()\n   rg = Range (a, b, c1)\n   rf = Cast <to: int = 1> (rg)\n"
    "   r = ReduceMean <keepdims: int = 0> (rf)\n   ee = Mul (e, r)",
    "outer_product": "   big = Constant <value_ints = [20000]> ()\n   o = ConstantOfShape (big)\n"
    "   ax = Constant <value_ints = [1]> ()\n   o2 = Unsqueeze (o, ax)\n   o3 = Add (o, o2)\n"
    "   r = ReduceMean <keepdims: int = 0> (o3)\n   ee = Add (e, r)",
    "einsum": '   ei = Einsum <equation: string = "abcd,efgh->abcdefgh"> (e, e)\n   ee = ReduceMean (ei)',
    "einsum_of_six": '   ei = Einsum <equation: string = "abcd,efgh,ijkl,mnop->abcdefghijklmnop"> (e, e, e, e)\n'
    "   ee = ReduceMean (ei)",
    "einsum_silly": '   ee = Einsum <equation: string = "ab->->,,.."> (e)',
    "einsum_empty": '   ee = Einsum <equation: string = ""> (e)',
    "pooling": "   ee = AveragePool <kernel_shape: ints = [999999, 999999], "
    "pads: ints = [999998, 999998, 999998, 999998]> (e)",
    "pooling_that_fits": "   ee = AveragePool <kernel_shape: ints = [999, 999], "
    "pads: ints = [998, 998, 998, 998]> (e)",
    "reshape": "   to = Constant <value_ints = [1, -1, 1000000000000, 0]> ()\n   ee = Reshape (e, to)",
    "power": "   h = Constant <value_float = 1e30> ()\n   ee = Pow (e, h)",
    "wrong_type": "   ee = Cast <to: int = 8> (e)",
    "unknown_type": "   ee = Cast <to: int = 999> (e)",
    "transpose": "   ee = Transpose <perm: ints = [9, 9, 9, 9]> (e)",
    "gather": "   at = Constant <value_ints = [9223372036854775807]> ()\n   ee = Gather (e, at)",
    "slice": "   a = Constant <value_ints = [-9223372036854775808]> ()\n"
    "   b = Constant <value_ints = [9223372036854775807]> ()\n   ee = Slice (e, a, b, b, a)",
    "no_attributes": "   ee = Cast (e)",
}


def _unchecked(lines: str) -> onnx.ModelProto:
    """As `inside`, past the checker."""
    chain = CHAIN.replace("   z = Add (e, half)", lines + "\n   z = Add (ee, half)")
    check = onnx.checker.check_model
    try:
        onnx.checker.check_model = lambda *_: None
        return ir.to_proto(simam(chain))
    finally:
        onnx.checker.check_model = check


for _name, _lines in INSIDE.items():
    FILES.add(partial(_unchecked, _lines), f"inside_{_name}")


@FILES.add
def loop_without_end() -> onnx.ModelProto:
    """2^62 times, between e and z."""
    model = block()
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c_out"]), helper.make_node("Relu", ["v"], ["v_out"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", F, None),
        ],
        [
            helper.make_tensor_value_info("c_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_out", F, None),
        ],
    )
    times = numpy_helper.from_array(np.array(2**62), "times")
    model.graph.initializer.append(times)
    at = next(i for i, node in enumerate(model.graph.node) if node.output[0] == "z")
    model.graph.node.insert(at, helper.make_node("Loop", ["times", "", "e"], ["looped"], body=body))
    model.graph.node[at + 1].input[0] = "looped"
    return model


# many nodes


@FILES.add
def long_chain() -> onnx.ModelProto:
    """As long as is read."""
    return network(row(["Relu"] * 70_000))


def very_many(field: str, message: Message, count: int) -> onnx.ModelProto:
    """In the graph, or in the model; of one name, which changes nothing in what it takes to read them."""
    model = block()
    held = getattr(model.graph if hasattr(model.graph, field) else model, field)
    held.extend([message] * count)
    return model


VERY_MANY: dict[str, Message] = {
    "node": helper.make_node("Relu", ["image"], [""]),
    "initializer": helper.make_tensor("q", TensorProto.FLOAT, [1], [0.0]),
    "input": helper.make_tensor_value_info("q", TensorProto.FLOAT, [1]),
    "value_info": helper.make_tensor_value_info("q", TensorProto.FLOAT, [1]),
    "functions": onnx.FunctionProto(domain="f", name="a", node=[helper.make_node("Relu", ["a"], ["b"])]),
    "metadata_props": onnx.StringStringEntryProto(key="a", value="b"),
}
for _field, _message in VERY_MANY.items():
    FILES.add(partial(very_many, _field, _message, 300_000), f"very_many_of_{_field}")


@FILES.add
def very_many_of_attribute() -> onnx.ModelProto:
    model = block()
    model.graph.node[0].attribute.extend([helper.make_attribute("a", 1)] * 300_000)
    return model


@FILES.add
def many_products() -> onnx.ModelProto:
    """Each may end a block."""
    names = ["x", *(f"p{i}" for i in range(1, 10**4)), "y"]
    return network([helper.make_node("Mul", [a, "x"], [b]) for a, b in itertools.pairwise(names)])


@FILES.add
def many_products_of_one_gate() -> onnx.ModelProto:
    """Each needs the walk back through the same eighty nodes."""
    nodes = [helper.make_node("ReduceMean", ["x"], ["s0"], keepdims=1)]
    nodes += [helper.make_node("Neg", [f"s{i}"], [f"s{i + 1}"]) for i in range(80)]
    nodes += [helper.make_node("Sigmoid", ["s80"], ["g"])]
    nodes += [helper.make_node("Mul", ["x", "g"], ["y" if i == 0 else f"o{i}"]) for i in range(10**4)]
    return network(nodes)


@FILES.add
def many_near_misses() -> onnx.ModelProto:
    """SimAM without its sigmoid's half, a hundred times."""
    text = CHAIN.replace("Add (e, half)", "Add (e, four)")
    model = ir.to_proto(simam(text))
    chain = [node for node in model.graph.node if node.op_type not in ("Relu",)]
    for copy in range(100):
        for node in chain:
            more = model.graph.node.add()
            more.CopyFrom(node)
            made = {output for other in chain for output in other.output}
            more.input[:] = [f"{i}_{copy}" if i in made else i for i in node.input]
            more.output[:] = [f"{o}_{copy}" for o in node.output]
    return model
