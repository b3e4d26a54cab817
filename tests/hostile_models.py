"""ONNX files made to do harm, by name: each a function that returns the bytes."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper
from onnx_models import CHAIN
from onnx_models import model as simam

from simam_deploy.onnx_file.stream import _front

F = TensorProto.FLOAT
HOSTILE: dict[str, Callable[[], bytes]] = {}
Build = Callable[[], onnx.ModelProto]


def hostile(build: Build) -> Build:
    HOSTILE[build.__name__] = lambda: build().SerializeToString()
    return build


def network(nodes: Sequence[onnx.NodeProto], functions: Sequence[onnx.FunctionProto] = ()) -> onnx.ModelProto:
    """x, (1, 3, 4, 4), and cond -> y."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", F, [1, 3, 4, 4]), helper.make_tensor_value_info("cond", 9, [])],
        [helper.make_tensor_value_info("y", F, ["a", "b", "c", "d"])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=9)


def block() -> onnx.ModelProto:
    """SimAM between two Relus."""
    return ir.to_proto(simam())


def row(ops: Sequence[str], domain: str = "", **more: Any) -> list[onnx.NodeProto]:
    """x -> ops one after the other -> y."""
    names = ["x", *(f"t{i}" for i in range(1, len(ops))), "y"]
    return [
        helper.make_node(op, [a], [b], domain="" if op == "Relu" else domain, **more)
        for op, a, b in zip(ops, names, names[1:], strict=False)
    ]


def function(name: str, ops: Sequence[str]) -> onnx.FunctionProto:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]
    return helper.make_function("f", name, ["x"], ["y"], row(ops, "f"), opsets)


def sized(*dims: int) -> Build:
    def build() -> onnx.ModelProto:
        model = block()
        for value in (model.graph.input[0], model.graph.output[0]):
            del value.type.tensor_type.shape.dim[:]
            for dim in dims:
                value.type.tensor_type.shape.dim.add(dim_value=dim)
        return model

    return build


# circles, and functions that never end


@hostile
def circle() -> onnx.ModelProto:
    return network([helper.make_node("Add", ["x", "y"], ["a"]), helper.make_node("Relu", ["a"], ["y"])])


@hostile
def own_output() -> onnx.ModelProto:
    return network([helper.make_node("Mul", ["x", "y"], ["y"])])


@hostile
def circle_in_the_block() -> onnx.ModelProto:
    model = block()
    model.graph.node[1].input[0] = "z"
    return model


@hostile
def function_that_calls_itself() -> onnx.ModelProto:
    return network(row(["a"], "f"), [function("a", ["a"])])


@hostile
def functions_that_call_each_other() -> onnx.ModelProto:
    return network(row(["a"], "f"), [function("a", ["b"]), function("b", ["a"])])


@hostile
def billion_laughs() -> onnx.ModelProto:
    functions = [function(f"a{i}", [f"a{i + 1}"] * 2) for i in range(40)]
    return network(row(["a0"], "f"), [*functions, function("a40", ["Relu"])])


@hostile
def laughs_just_allowed() -> onnx.ModelProto:
    functions = [function(f"a{i}", [f"a{i + 1}"] * 2) for i in range(14)]
    return network(row(["a0"], "f"), [*functions, function("a14", ["Relu"])])


@hostile
def laughs_around_a_block() -> onnx.ModelProto:
    """So that shapes inside functions are asked for."""
    chain = ir.to_proto(simam(before="x = Identity (image)", after="out = Identity (y)"))
    body = [node for node in chain.graph.node if node.op_type != "Identity"]
    held = [helper.make_node("Constant", [], [t.name], value=t) for t in chain.graph.initializer]
    innermost = helper.make_function("f", "a13", ["x"], ["y"], [*held, *body], [helper.make_opsetid("", 18)])
    functions = [function(f"a{i}", [f"a{i + 1}"] * 2) for i in range(13)]
    return network(row(["a0"], "f"), [*functions, innermost])


@hostile
def functions_nested_deeply() -> onnx.ModelProto:
    functions = [function(f"a{i}", [f"a{i + 1}"]) for i in range(3000)]
    return network(row(["a0"], "f"), [*functions, function("a3000", ["Relu"])])


@hostile
def thousands_of_functions() -> onnx.ModelProto:
    names = [f"a{i}" for i in range(3000)]
    return network(row(names, "f"), [function(name, ["Relu"]) for name in names])


@hostile
def a_function_twice() -> onnx.ModelProto:
    return network(row(["a"], "f"), [function("a", ["Relu"]), function("a", ["Relu", "Relu"])])


def nested_ifs(levels: int) -> bytes:
    """Written field by field: protobuf itself would not. What stands before each level is listed from inside out."""
    innermost = network(row(["Relu"])).graph.node[0].SerializeToString()
    behind = _front(2, 1) + b"g" + _front(12, 3) + b"\n\x01y"
    kind = b"\xa0\x01\x05"
    before, size = [], len(innermost)
    for _ in range(levels):
        graph = _front(1, size)
        graph_size = len(graph) + size + len(behind)
        attribute = _front(1, 11) + b"then_branch" + _front(6, graph_size) + graph
        attribute_size = len(attribute) - len(graph) + graph_size + len(kind)
        node = _front(1, 4) + b"cond" + _front(2, 1) + b"y" + _front(4, 2) + b"If"
        before.append(node + _front(5, attribute_size) + attribute)
        size = len(before[-1]) - len(attribute) + attribute_size
    leaf = b"".join(reversed(before)) + innermost + (behind + kind) * levels
    model = network([])
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    graph += _front(1, len(leaf)) + leaf
    return model.SerializeToString() + _front(7, len(graph)) + graph


for _levels in (10, 30, 100, 1000, 20000):
    HOSTILE[f"if_{_levels}_deep"] = lambda levels=_levels: nested_ifs(levels)


# sizes


HOSTILE_SIZES = {
    "huge": (1, 2**31, 2**20, 2**20),
    "beyond_64_bits": (2**62, 2**62, 2**62, 2**62),
    "huge_map": (1, 3, 2**20, 2**20),
    "negative": (2, 3, -5, 7),
    "nothing": (2, 3, 0, 7),
    "no_batch": (0, 3, 5, 7),
    "many_channels": (1, 2**40, 5, 7),
}
for _name, _dims in HOSTILE_SIZES.items():
    HOSTILE[f"x_{_name}"] = lambda dims=_dims: sized(*dims)().SerializeToString()
_BIG = "   big = Constant <value_ints = [1, 3, {0}, {0}]> ()\n"
HOSTILE_INSIDE = {
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
for _name, _lines in HOSTILE_INSIDE.items():
    HOSTILE[f"inside_{_name}"] = lambda lines=_lines: _unchecked(lines).SerializeToString()


def _unchecked(lines: str) -> onnx.ModelProto:
    """As `inside`, past the checker."""
    chain = CHAIN.replace("   z = Add (e, half)", lines + "\n   z = Add (ee, half)")
    check = onnx.checker.check_model
    try:
        onnx.checker.check_model = lambda *_: None
        return ir.to_proto(simam(chain))
    finally:
        onnx.checker.check_model = check


@hostile
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


@hostile
def long_chain() -> onnx.ModelProto:
    return network(row(["Relu"] * 10**5))


@hostile
def many_products() -> onnx.ModelProto:
    """Each may end a block."""
    names = ["x", *(f"p{i}" for i in range(1, 10**4)), "y"]
    return network([helper.make_node("Mul", [a, "x"], [b]) for a, b in itertools.pairwise(names)])


@hostile
def many_products_of_one_gate() -> onnx.ModelProto:
    """Each needs the walk back through the same eighty nodes."""
    nodes = [helper.make_node("ReduceMean", ["x"], ["s0"], keepdims=1)]
    nodes += [helper.make_node("Neg", [f"s{i}"], [f"s{i + 1}"]) for i in range(80)]
    nodes += [helper.make_node("Sigmoid", ["s80"], ["g"])]
    nodes += [helper.make_node("Mul", ["x", "g"], ["y" if i == 0 else f"o{i}"]) for i in range(10**4)]
    return network(nodes)


@hostile
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


# names, types, versions


@hostile
def the_same_name_twice() -> onnx.ModelProto:
    return network([helper.make_node("Relu", ["x"], ["y"], name="n")] * 2)


@hostile
def an_initialiser_that_a_node_makes() -> onnx.ModelProto:
    model = network(row(["Relu"]))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "y"))
    return model


@hostile
def no_names() -> onnx.ModelProto:
    model = block()
    for node in model.graph.node:
        node.name = ""
    model.graph.name = ""
    model.graph.node.add(op_type="Relu", input=["x"], output=[""])
    model.graph.node.add(op_type="", input=[], output=[])
    model.graph.node.add()
    return model


@hostile
def empty_value_names() -> onnx.ModelProto:
    model = block()
    model.graph.input.add()
    model.graph.initializer.add()
    model.graph.output.add()
    return model


@hostile
def a_long_name() -> onnx.ModelProto:
    model = block()
    for node in model.graph.node:
        node.name = "a/" * 10**6
    return model


@hostile
def names_with_control_characters() -> onnx.ModelProto:
    model = block()
    for i, node in enumerate(model.graph.node):
        node.name = f"\x1b[31m[bold]\x00{i}\n\u202e"
    return model


@hostile
def attributes_of_wrong_types() -> onnx.ModelProto:
    model = block()
    for node in model.graph.node:
        for attribute in node.attribute:
            name = attribute.name
            attribute.CopyFrom(helper.make_attribute(name, "a text"))
    return model


@hostile
def attributes_of_unknown_type() -> onnx.ModelProto:
    model = block()
    for node in model.graph.node:
        for attribute in node.attribute:
            attribute.ClearField("i")
            attribute.type = 0  # type: ignore[assignment]
    return model


def enum(field: bytes) -> bytes:
    """An initialiser with data type 200."""
    model = block()
    return model.SerializeToString() + _front(7, len(field) + 2) + _front(5, len(field)) + field


HOSTILE["unknown_data_type"] = lambda: enum(b"\x10\xc8\x01" + _front(8, 1) + b"q")


@hostile
def unknown_attribute_enum() -> onnx.ModelProto:
    model = block()
    node = model.graph.node[1]
    raw = node.SerializeToString()
    extra = _front(1, 1) + b"k" + b"\xa0\x01\x63"
    node.ParseFromString(raw + _front(5, len(extra)) + extra)
    return model


def opset(version: int) -> Build:
    def build() -> onnx.ModelProto:
        model = block()
        model.opset_import[0].version = version
        return model

    return build


for _version in (0, -1, -(2**63), 1, 5, 2**62):
    HOSTILE[f"opset_{_version}"] = lambda version=_version: opset(version)().SerializeToString()


@hostile
def two_opsets() -> onnx.ModelProto:
    model = block()
    model.opset_import.extend([helper.make_opsetid("", 7), helper.make_opsetid("ai.onnx", 13)])
    return model


def scalars(kind: int) -> Build:
    """The constants of a block in another type."""

    def build() -> onnx.ModelProto:
        model = block()
        for tensor in model.graph.initializer:
            tensor.data_type = kind
        return model

    return build


for _kind in (0, 2, 7, 8, 9, 10, 11, 14, 16, 17, 22, 23, 77):
    HOSTILE[f"constants_of_type_{_kind}"] = lambda kind=_kind: scalars(kind)().SerializeToString()
    HOSTILE[f"x_of_type_{_kind}"] = lambda kind=_kind: typed(kind)().SerializeToString()


def typed(kind: int) -> Build:
    def build() -> onnx.ModelProto:
        model = block()
        model.graph.input[0].type.tensor_type.elem_type = kind
        return model

    return build


# weights


def weight(change: Callable[[TensorProto], object]) -> Build:
    def build() -> onnx.ModelProto:
        model = block()
        tensor = model.graph.initializer.add(name="w", data_type=F, dims=[2], float_data=[1, 2])
        change(tensor)
        return model

    return build


def _outside(tensor: TensorProto, **entries: str) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("float_data")
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


HOSTILE_WEIGHTS: dict[str, Callable[[TensorProto], object]] = {
    "too_many_dims": lambda t: t.dims.extend([1] * 10**5),
    "huge_dims": lambda t: t.dims.extend([2**62, 2**62]),
    "zero_and_huge": lambda t: t.dims.extend([0, 2**62]),
    "negative_dims": lambda t: t.dims.extend([-1]),
    "fewer_values": lambda t: t.dims.extend([2]),
    "raw_and_fields": lambda t: setattr(t, "raw_data", b"123"),
    "a_segment": lambda t: t.segment.MergeFromString(b"\x08\x01\x10\x05"),
    "texts": lambda t: (setattr(t, "data_type", 8), t.string_data.append(b"\xff" * 10**6)),
    "no_location": _outside,
    "absurd_offset": lambda t: _outside(t, location="weights_absurd_offset.onnx", offset=str(2**80), length="8"),
    "negative_offset": lambda t: _outside(t, location="weights_negative_offset.onnx", offset="-1", length="8"),
    "no_number": lambda t: _outside(t, location="a.onnx", offset="ten", length="8"),
    "huge_length": lambda t: _outside(t, location="weights_huge_length.onnx", offset="0", length=str(2**70)),
    "a_device": lambda t: _outside(t, location="/dev/zero", offset="0", length="8"),
    "a_long_path": lambda t: _outside(t, location="a" * 10**5, offset="0", length="8"),
    "a_zero_in_the_path": lambda t: _outside(t, location="a\0b", offset="0", length="8"),
    "the_folder": lambda t: _outside(t, location=".", offset="0", length="8"),
}
for _name, _change in HOSTILE_WEIGHTS.items():
    HOSTILE[f"weights_{_name}"] = lambda change=_change: weight(change)().SerializeToString()


@hostile
def missing_weights() -> onnx.ModelProto:
    model = block()
    del model.graph.initializer[:]
    return model


@hostile
def sparse_weights() -> onnx.ModelProto:
    model = block()
    sparse = model.graph.sparse_initializer.add(dims=[10**6, 10**6])
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "s"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.ones(1, np.int64), "s_indices"))
    return model


@hostile
def a_sparse_constant() -> onnx.ModelProto:
    model = block()
    node = model.graph.node.add(op_type="Constant", output=["s"])
    sparse = onnx.SparseTensorProto(dims=[10**6, 10**6])
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "s"))
    node.attribute.append(helper.make_attribute("sparse_value", sparse))
    return model


@hostile
def types_that_are_no_tensors() -> onnx.ModelProto:
    model = block()
    kind = model.graph.input[0].type
    tensor = kind.tensor_type.SerializeToString()
    kind.sequence_type.elem_type.optional_type.elem_type.tensor_type.ParseFromString(tensor)
    return model


@hostile
def training() -> onnx.ModelProto:
    model = block()
    model.training_info.add().algorithm.CopyFrom(model.graph)
    return model
