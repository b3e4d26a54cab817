"""The digits network, damaged: by name, and by a seeded program. Each is a function that changes the message."""

import random
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import AttributeProto, TensorProto, helper

from simam_deploy.formula import OP_DOMAIN

Damage = Callable[[onnx.ModelProto, Path], object]
NAN, INF = float("nan"), float("inf")


def calls(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.domain == OP_DOMAIN]


def put(attribute: str, value: object, kind: int | None = None) -> Damage:
    """Give the first SimAM node an attribute of that value; None takes it away."""

    def damage(model: onnx.ModelProto, _: Path) -> None:
        node = calls(model)[0]
        kept = [held for held in node.attribute if held.name != attribute]
        if value is not None:
            kept.append(helper.make_attribute(attribute, value, attr_type=kind))
        del node.attribute[:]
        node.attribute.extend(kept)

    return damage


def twice(model: onnx.ModelProto, _: Path) -> None:
    calls(model)[0].attribute.append(helper.make_attribute("e_lambda", -1.0))


def reference(model: onnx.ModelProto, _: Path) -> None:
    """An attribute of no function."""
    calls(model)[0].attribute.append(AttributeProto(name="other", ref_attr_name="none", type=AttributeProto.FLOAT))


NODES: dict[str, tuple[Damage, str]] = {
    "lambda_nan": (put("e_lambda", NAN), "e_lambda is nan"),
    "lambda_inf": (put("e_lambda", INF), "e_lambda is inf"),
    "lambda_negative": (put("e_lambda", -0.5), r"e_lambda is -0\.5"),
    "lambda_missing": (put("e_lambda", None), ""),
    "lambda_an_int": (put("e_lambda", 1), "e_lambda is not one float"),
    "lambda_a_text": (put("e_lambda", "1e-4"), "e_lambda is not one float"),
    "lambda_many": (put("e_lambda", [0.1] * 1000), "e_lambda is not one float"),
    "lambda_none_of_many": (put("e_lambda", [], AttributeProto.FLOATS), "e_lambda is not one float"),
    "lambda_a_tensor": (
        put("e_lambda", helper.make_tensor("t", TensorProto.FLOAT, [1], [0.1])),
        "e_lambda is not one float",
    ),
    "lambda_twice": (twice, "e_lambda is given 2 times; write the model's own"),
    "lambda_tiny": (put("e_lambda", 1e-45), ""),
    "reference_of_no_function": (reference, "refers to an attribute 'none' of a function"),
    "namespace_of_others": (put("plugin_namespace", "other"), ""),
    "namespace_a_number": (put("plugin_namespace", 7), ""),
    "namespace_long": (put("plugin_namespace", "n" * 10**5), ""),
    "namespace_with_controls": (put("plugin_namespace", "a\x1b[2J\n\0b"), ""),
    "version_of_others": (put("plugin_version", "2"), "Plugin not found"),
    "version_a_number": (put("plugin_version", 1), "Plugin not found"),
    "version_long": (put("plugin_version", "1" * 10**5), ""),
    "attribute_of_others": (put("other", [1, 2, 3]), ""),
    "attribute_a_graph": (put("other", helper.make_graph([], "g", [], [])), ""),
}
"""Damages of a node for the plugin, and words of the answer; "" where it may be built, too."""


def rank(sizes: list[int]) -> Damage:
    """Another shape of the input."""

    def damage(model: onnx.ModelProto, _: Path) -> None:
        shape = model.graph.input[0].type.tensor_type.shape
        del shape.dim[:]
        for size in sizes:
            shape.dim.add(dim_value=size)

    return damage


def weights(change: Callable[[TensorProto], object]) -> Damage:
    return lambda model, _: change(max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data)))


def outside(location: str, write: Callable[[Path], object] | None = None, **entries: str) -> Damage:
    """The largest weights in another file."""

    def damage(model: onnx.ModelProto, folder: Path) -> None:
        tensor = max(model.graph.initializer, key=lambda held: len(held.raw_data))
        if write is not None:
            write(folder / location)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            tensor.external_data.add(key=key, value=value)

    return damage


def fields(tensor: TensorProto, **values: int) -> None:
    for name, value in values.items():
        setattr(tensor, name, value)


def dims(*sizes: int) -> Callable[[TensorProto], None]:
    def change(tensor: TensorProto) -> None:
        tensor.dims[:] = sizes

    return change


def doubled(model: onnx.ModelProto, _: Path) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def missing(model: onnx.ModelProto, _: Path) -> None:
    del model.graph.initializer[0]


def cyclic(model: onnx.ModelProto, _: Path) -> None:
    model.graph.node[0].input[0] = model.graph.node[-1].output[0]


def upside_down(model: onnx.ModelProto, _: Path) -> None:
    nodes = list(reversed(model.graph.node))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def operator(name: str, domain: str = "") -> Damage:
    def damage(model: onnx.ModelProto, _: Path) -> None:
        model.graph.node[0].op_type, model.graph.node[0].domain = name, domain

    return damage


def opset(version: int) -> Damage:
    def damage(model: onnx.ModelProto, _: Path) -> None:
        for entry in model.opset_import:
            entry.version = version if entry.domain == "" else entry.version

    return damage


def named(name: str) -> Damage:
    """All nodes by one name, and one value too."""

    def damage(model: onnx.ModelProto, _: Path) -> None:
        first, output = model.graph.node[0], model.graph.node[0].output[0]
        for node in model.graph.node:
            node.name = name
            node.input[:] = [name if held == output else held for held in node.input]
        first.output[0] = name

    return damage


def many(model: onnx.ModelProto, _: Path) -> None:
    last = model.graph.output[0].name
    model.graph.node[-1].output[0] = "n0"
    made = [helper.make_node("Identity", [f"n{i}"], [f"n{i + 1}"]) for i in range(10**5)]
    made[-1].output[0] = last
    model.graph.node.extend(made)


def calls_itself(model: onnx.ModelProto, _: Path) -> None:
    function = model.functions[0]
    function.node.append(helper.make_node(function.name, ["x"], ["again"], domain=function.domain))


def called_with(inputs: list[str]) -> Damage:
    def damage(model: onnx.ModelProto, _: Path) -> None:
        calls(model)[0].input[:] = [calls(model)[0].input[0] if name == "x" else name for name in inputs]

    return damage


def nothing(model: onnx.ModelProto, _: Path) -> None:
    del model.graph.node[:]


def no_outputs(model: onnx.ModelProto, _: Path) -> None:
    del model.graph.output[:]


def attribute_types(model: onnx.ModelProto, _: Path) -> None:
    for node in model.graph.node:
        for held in node.attribute:
            held.CopyFrom(helper.make_attribute(held.name, "text"))


GRAPHS: dict[str, tuple[Damage, str]] = {
    **{f"input_of_rank_{n}": (rank([1, 1, 8, 8, 8, 8, 8][:n]), "") for n in (0, 1, 2, 3, 5, 6)},
    "input_of_no_numbers": (rank([1, 1, 0, 8]), ""),
    "input_of_huge_sizes": (rank([2**31 - 1, 1, 2**31 - 1, 2**31 - 1]), ""),
    "input_of_one_pixel": (rank([1, 1, 1, 1]), ""),
    "input_of_negative_size": (rank([-1, 1, -8, 8]), ""),
    "weights_declared_huge": (weights(dims(2**40, 2**20)), "damaged|not valid"),
    "weights_declared_negative": (weights(dims(-1, 4)), "damaged|not valid"),
    "weights_declared_of_less": (weights(dims(1, 1, 1, 1)), "damaged|not valid"),
    "weights_of_a_type_unknown": (weights(lambda tensor: fields(tensor, data_type=99)), ""),
    "weights_of_text": (weights(lambda tensor: fields(tensor, data_type=8)), ""),
    "weights_of_complex": (weights(lambda tensor: fields(tensor, data_type=15)), ""),
    "weights_nan": (weights(lambda tensor: setattr(tensor, "raw_data", b"\xff" * len(tensor.raw_data))), ""),
    "weights_doubled": (doubled, "not valid ONNX|the parser lacks this"),
    "weights_missing": (missing, ""),
    "outside_missing": (outside("none.bin"), "which is missing; put it back"),
    "outside_above": (outside("../none.bin"), "outside its own folder"),
    "outside_absolute": (outside("/etc/passwd"), "outside its own folder"),
    "outside_short": (outside("short.bin", lambda file: file.write_bytes(b"short")), "is truncated"),
    "outside_link": (outside("link.bin", lambda file: file.symlink_to("/dev/zero")), "is a symbolic link"),
    "outside_folder": (outside("folder", lambda file: file.mkdir()), "is a folder"),
    "outside_no_offset": (outside("o.bin", lambda file: file.write_bytes(b""), offset="-5"), "offset"),
    "cyclic": (cyclic, "wait for each other"),
    "upside_down": (upside_down, ""),
    "operator_unknown": (
        operator("Nope"),
        "(?s)Nope.*the file is not valid ONNX: No Op registered for Nope.*export the model again",
    ),
    "operator_of_others": (operator("Conv", "other"), "is other::Conv, and no function"),
    "operator_without_name": (operator(""), ""),
    **{f"opset_{n}": (opset(n), "damaged|opset") for n in (0, -3, 10**6)},
    **{f"opset_{n}": (opset(n), "") for n in (7, 12)},
    "opset_1": (opset(1), "not valid ONNX|the parser lacks this"),
    "names_of_a_megabyte": (named("n" * 10**6), ""),
    "names_all_alike": (named("n"), ""),
    "names_with_controls": (named("a\x1b[2Jb\n\x07\u202e"), ""),
    "names_empty": (named(""), ""),
    "nodes_a_hundred_thousand": (many, "is not read: it holds more nodes"),
    "function_calls_itself": (calls_itself, "call themselves"),
    "call_without_input": (called_with([]), "not valid ONNX|the parser lacks this"),
    "call_of_an_empty_name": (called_with([""]), ""),
    "call_of_two_inputs": (called_with(["x", "x"]), ""),
    "call_of_no_value": (called_with(["none"]), "none"),
    "graph_of_no_nodes": (nothing, ""),
    "graph_of_no_outputs": (no_outputs, ""),
    "attributes_of_text": (attribute_types, ""),
}
"""Damages of the whole network, with its fallback definitions."""


def bytes_of(seed: int, content: bytes) -> bytes:
    """Cut, overwritten, doubled in part, or with one bit flipped in a hundred places."""
    chance = random.Random(seed)
    at = chance.randrange(len(content))
    match seed % 4:
        case 0:
            return content[:at]
        case 1:
            return content[:at] + chance.randbytes(64) + content[at + 64 :]
        case 2:
            return content[:at] + content[max(0, at - 5000) :]
    held = bytearray(content)
    for place in (chance.randrange(len(held)) for _ in range(100)):
        held[place] ^= 1 << chance.randrange(8)
    return bytes(held)
