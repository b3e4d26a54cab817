"""What stands on the way and does nothing, and on which side a constant stands: SimAM is found all the same."""

from collections.abc import Callable, Iterator

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from helpers.onnx_models import CHAIN, model
from onnx import TensorProto, helper, numpy_helper

from simam_deploy.block import Found
from simam_deploy.errors import NoBlockError
from simam_deploy.match.find import find
from simam_deploy.rewrite.forms import alone
from simam_deploy.rewrite.fuse import fuse

SPELLINGS: dict[str, onnx.ModelProto] = {
    "plain": ir.to_proto(model()),
    "negated mean, gate first": ir.to_proto(
        model(CHAIN.replace("c = Sub (x, mean)", "o = Neg (mean)\n c = Add (x, o)").replace("(x, g)", "(g, x)"))
    ),
    "divided by 1 + exp": ir.to_proto(
        model(
            CHAIN.replace("g = Sigmoid (z)", "o = Neg (z)\n f = Exp (o)\n one = Sigmoid (big)\n g = Add (f, one)")
            .replace("y = Mul", "y = Div")
            .replace("mean = ", "big = Constant <value_float = 99.0> ()\n mean = ")
        )
    ),
    "instance_norm": ir.to_proto(alone("instance_norm", (2, 3, 5, 7))),
    "sizes from the shape": ir.to_proto(alone("primitive", ("n", "c", "h", "w"))),
}
Nodes = Callable[[str, str], list[onnx.NodeProto]]
KINDS: dict[str, Nodes] = {
    "identity": lambda a, b: [helper.make_node("Identity", [a], [b])],
    "dropout": lambda a, b: [helper.make_node("Dropout", [a], [b])],
    "dropout with a ratio": lambda a, b: [helper.make_node("Dropout", [a, "ratio"], [b])],
    "dropout that is off": lambda a, b: [helper.make_node("Dropout", [a, "", "off"], [b])],
    "dropout with a mask": lambda a, b: [helper.make_node("Dropout", [a, "ratio", "off"], [b, "mask"], seed=1)],
    "cast": lambda a, b: [helper.make_node("Cast", [a], [b], to=TensorProto.FLOAT)],
    "castlike": lambda a, b: [helper.make_node("CastLike", [a, "ratio"], [b])],
    "three": lambda a, b: [
        helper.make_node("Identity", [a], ["first"]),
        helper.make_node("Dropout", ["first"], ["second"]),
        helper.make_node("Cast", ["second"], [b], to=TensorProto.FLOAT),
    ],
}
HELD = [
    numpy_helper.from_array(np.array(0.5, np.float32), "ratio"),
    numpy_helper.from_array(np.array(False), "off"),
    numpy_helper.from_array(np.array(True), "on"),
]


def copied(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy


def edges(proto: onnx.ModelProto) -> Iterator[tuple[int, int]]:
    """Node and input, for each that takes floats made of data."""
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    data = {v.name for v in (*inferred.input, *inferred.value_info) if v.type.tensor_type.elem_type == 1}
    data -= {t.name for t in proto.graph.initializer} | {"one"}
    data -= {node.output[0] for node in proto.graph.node if node.op_type == "Constant"}
    for i, node in enumerate(proto.graph.node):
        yield from ((i, k) for k, name in enumerate(node.input) if name in data)


def inserted(proto: onnx.ModelProto, at: int, k: int, nodes: Nodes) -> onnx.ModelProto:
    """With `nodes` between a node and what makes its input k."""
    copy = copied(proto)
    node = copy.graph.node[at]
    made = nodes(node.input[k], "on the way")
    node.input[k] = "on the way"
    for one in reversed(made):
        copy.graph.node.insert(at, one)
    copy.graph.initializer.extend(HELD)
    return copy


def searched(proto: onnx.ModelProto) -> Found:
    return find(ir.from_proto(proto))


@pytest.mark.parametrize("name", SPELLINGS)
def test_on_every_edge(name: str) -> None:
    """Every kind in the plain spelling; in the others, another one on each edge in turn. Dynamic sizes take long."""
    kinds = list(KINDS.values())
    for turn, (at, k) in enumerate(edges(SPELLINGS[name])):
        if name == "sizes from the shape" and turn % 4:
            continue
        for nodes in kinds if name == "plain" else [kinds[turn % len(kinds)]]:
            found = searched(inserted(SPELLINGS[name], at, k, nodes))
            assert len(found.blocks) == 1, (SPELLINGS[name].graph.node[at], k, found.near_misses)
            assert found.blocks[0].e_lambda == pytest.approx(1e-4, rel=1e-6)


@pytest.mark.parametrize("opset", [9, 10, 11, 12, 13, 18, 22])
@pytest.mark.parametrize("ratio", [True, False])
def test_dropout_of_every_opset(opset: int, ratio: bool) -> None:
    proto = ir.to_proto(alone("primitive", (2, 3, 5, 7), opset=max(opset, 11)))
    proto.opset_import[0].version = opset
    at, k = list(edges(proto))[-1]
    held: dict[str, float] = {"ratio": 0.3} if ratio and opset < 12 else {}
    inputs = ["ratio"] if ratio and opset >= 12 else []
    made = inserted(proto, at, k, lambda a, b: [helper.make_node("Dropout", [a, *inputs], [b], **held)])
    onnx.checker.check_model(made)
    (block,) = searched(made).blocks
    assert block.y.name == proto.graph.output[0].name


IN_USE: dict[str, Nodes] = {
    "in training": lambda a, b: [helper.make_node("Dropout", [a, "ratio", "on"], [b])],
    "trained or not by an input": lambda a, b: [helper.make_node("Dropout", [a, "ratio", "mode"], [b])],
    "by a default that may be replaced": lambda a, b: [helper.make_node("Dropout", [a, "ratio", "maybe"], [b])],
    "its mask is used": lambda a, b: [
        helper.make_node("Dropout", [a, "ratio", "off"], ["dropped", "mask"]),
        helper.make_node("Where", ["mask", "dropped", "ratio"], [b]),
    ],
}


@pytest.mark.parametrize("kind", IN_USE)
def test_a_dropout_that_may_drop_is_in_the_way(kind: str) -> None:
    base = copied(SPELLINGS["plain"])
    base.graph.input.extend(helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("mode", "maybe"))
    base.graph.initializer.append(numpy_helper.from_array(np.array(False), "maybe"))
    sigmoid = next(i for i, node in enumerate(base.graph.node) if node.op_type == "Sigmoid")
    assert len(searched(base).blocks) == 1
    assert not searched(inserted(base, sigmoid, 0, IN_USE[kind])).blocks


COMMUTATIVE = ("Add", "Mul", "Sum", "Max", "Min", "And", "Or", "Equal")


def flipped(proto: onnx.ModelProto, every: int) -> onnx.ModelProto:
    copy = copied(proto)
    for node in [node for node in copy.graph.node if node.op_type in COMMUTATIVE][::every]:
        node.input[:] = list(node.input)[::-1]
    return copy


@pytest.mark.parametrize("name", SPELLINGS)
def test_constants_on_either_side(name: str) -> None:
    for every in (1, 2, 3) if name == "plain" else (1,):
        assert len(searched(flipped(SPELLINGS[name], every)).blocks) == 1


def test_constants_by_other_names() -> None:
    """torch's exporters make one initialiser of those that are equal, and Identity for the others."""
    for name, proto in SPELLINGS.items():
        copy = copied(proto)
        for tensor in proto.graph.initializer:
            copy.graph.node.insert(0, helper.make_node("Identity", [tensor.name], [f"{tensor.name}'"]))
        for node in copy.graph.node[len(proto.graph.initializer) :]:
            held = {tensor.name for tensor in proto.graph.initializer}
            node.input[:] = [f"{value}'" if value in held else value for value in node.input]
        assert len(searched(copy).blocks) == 1, name


# constants that are inputs of the graph


def with_inputs(names: list[str], ir_version: int, **changes: float) -> onnx.ModelProto:
    """The plain spelling; those initialisers are inputs too."""
    proto = ir.to_proto(model(**changes))
    proto.ir_version = ir_version
    held = [tensor for tensor in proto.graph.initializer if tensor.name in names]
    proto.graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in held)
    return proto


CONSTANTS = ["hw", "n", "lam", "four", "half"]


@pytest.mark.parametrize("ir_version", [3, 4, 8, 10])
@pytest.mark.parametrize("names", [CONSTANTS, ["lam"], ["n"], ["hw", "four"]])
def test_a_default_counts_and_is_said(names: list[str], ir_version: int) -> None:
    """Before IR version 4 every initialiser is an input, and none can be replaced."""
    proto = with_inputs(CONSTANTS if ir_version == 3 else names, ir_version, lam=0.1)
    fused = fuse(ir.from_proto(proto))
    assert [row.e_lambda for row in fused.rows] == [0.1]
    said = [note for note in fused.notes if "defaults" in note]
    assert bool(said) == (ir_version > 3)
    assert all(repr(name) in said[0] for name in names) if said else True
    made = ir.to_proto(fused.model)
    onnx.checker.check_model(made)
    kept = [value.name for value in proto.graph.input if ir_version > 3 or value.name == "image"]
    assert [value.name for value in made.graph.input] == kept  # IR 8 would let callers replace the others


def test_the_inputs_may_be_fed_as_before() -> None:
    """And what is fed for λ changes nothing: the note says so."""
    proto = with_inputs(["lam"], 8)
    made = ir.to_proto(fuse(ir.from_proto(proto)).model)
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)
    feeds = [{"image": x}, {"image": x, "lam": np.array(1e-4, np.float32)}]
    before, after = (
        [onnxruntime.InferenceSession(m.SerializeToString()).run(None, given)[0] for given in feeds]
        for m in (proto, made)
    )
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-6)


def test_an_input_without_a_default_is_no_constant() -> None:
    proto = with_inputs(["lam"], 8)
    del proto.graph.initializer[[t.name for t in proto.graph.initializer].index("lam")]
    with pytest.raises(NoBlockError, match=r"it is made of more than one value: .*'lam' .an input"):
        fuse(ir.from_proto(proto))


def test_an_image_with_a_default_is_data() -> None:
    proto = with_inputs([], 8)
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((2, 3, 5, 7), np.float32), "image"))
    (row,) = fuse(ir.from_proto(proto)).rows
    assert row.shape == (2, 3, 5, 7)
