"""Kinds: attributes, opsets, tensors and models that are wrong, unknown, or of no use here."""

import onnx
from onnx import helper

from hostile.parts import Build, Files, block
from simam_deploy.graph.onnx_file.stream import _front

FILES = Files()


# attributes


@FILES.add
def attributes_of_wrong_types() -> onnx.ModelProto:
    model = block()
    for node in model.graph.node:
        for attribute in node.attribute:
            name = attribute.name
            attribute.CopyFrom(helper.make_attribute(name, "a text"))
    return model


@FILES.add
def attributes_of_unknown_type() -> onnx.ModelProto:
    model = block()
    for node in model.graph.node:
        for attribute in node.attribute:
            attribute.ClearField("i")
            attribute.type = 0
    return model


@FILES.add
def unknown_attribute_enum() -> onnx.ModelProto:
    model = block()
    node = model.graph.node[1]
    raw = node.SerializeToString()
    extra = _front(1, 1) + b"k" + b"\xa0\x01\x63"
    node.ParseFromString(raw + _front(5, len(extra)) + extra)
    return model


# opsets


def opset(version: int) -> Build:
    def build() -> onnx.ModelProto:
        model = block()
        model.opset_import[0].version = version
        return model

    return build


for _version in (0, -1, -(2**63), 1, 5, 2**62):
    FILES.add(opset(_version), f"opset_{_version}")


@FILES.add
def two_opsets() -> onnx.ModelProto:
    model = block()
    model.opset_import.extend([helper.make_opsetid("", 7), helper.make_opsetid("ai.onnx", 13)])
    return model


# tensors


def enum(field: bytes) -> bytes:
    """An initialiser with data type 200."""
    model = block()
    return model.SerializeToString() + _front(7, len(field) + 2) + _front(5, len(field)) + field


FILES["unknown_data_type"] = lambda: enum(b"\x10\xc8\x01" + _front(8, 1) + b"q")


def scalars(kind: int) -> Build:
    """The constants of a block in another type."""

    def build() -> onnx.ModelProto:
        model = block()
        for tensor in model.graph.initializer:
            tensor.data_type = kind
        return model

    return build


def typed(kind: int) -> Build:
    def build() -> onnx.ModelProto:
        model = block()
        model.graph.input[0].type.tensor_type.elem_type = kind
        return model

    return build


for _kind in (0, 2, 7, 8, 9, 10, 11, 14, 16, 17, 22, 23, 77):
    FILES.add(scalars(_kind), f"constants_of_type_{_kind}")
    FILES.add(typed(_kind), f"x_of_type_{_kind}")


@FILES.add
def types_that_are_no_tensors() -> onnx.ModelProto:
    model = block()
    kind = model.graph.input[0].type
    tensor = kind.tensor_type.SerializeToString()
    kind.sequence_type.elem_type.optional_type.elem_type.tensor_type.ParseFromString(tensor)
    return model


@FILES.add
def training() -> onnx.ModelProto:
    model = block()
    model.training_info.add().algorithm.CopyFrom(model.graph)
    return model
