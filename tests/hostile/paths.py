"""Where weights are said to be: outside, behind links, in what is no file; in every place that holds a tensor."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from hostile.parts import Beside, Files, block, function

FILES = Files()
BIAS = np.array([0.5, -2, 1e-3], np.float32)
SECRET = b"a secret that no model may read or change"


def tensor(location: str = "w.bin", **more: str) -> TensorProto:
    """BIAS, in another file; more : entries besides the location."""
    made = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        made.external_data.add(key=key, value=value)
    return made


def _sparse(values: TensorProto) -> onnx.SparseTensorProto:
    sparse = onnx.SparseTensorProto(dims=[9], values=values)
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(3), "at"))
    return sparse


def _constant(value: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["w"], value=value)


def _branch(nodes: list[onnx.NodeProto], weights: list[TensorProto]) -> onnx.NodeProto:
    out = helper.make_tensor_value_info("w", TensorProto.FLOAT, [3])
    branches = [helper.make_graph(nodes, name, [], [out], weights) for name in ("a", "b")]
    return helper.make_node("If", ["yes"], ["held"], then_branch=branches[0], else_branch=branches[1])


def _with_branch(nodes: list[onnx.NodeProto], weights: list[TensorProto]) -> onnx.ModelProto:
    model = block()
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(_branch(nodes, weights))
    return model


def _adding(model: onnx.ModelProto, node: onnx.NodeProto) -> onnx.ModelProto:
    """`model` with `node` behind its last one: what that made, it takes as "before"."""
    (last,) = (made for made in model.graph.node if "out" in made.output)
    last.output[0] = "before"
    model.graph.node.append(node)
    return model


_AS_CHANNELS = [
    helper.make_node("Constant", [], ["at"], value_ints=[1, 3, 1, 1]),
    helper.make_node("Reshape", ["w", "at"], ["as_channels"]),
]


def _with_default(held: AttributeProto) -> onnx.ModelProto:
    """A function with a default, which is called: y is x + w where the default is a tensor."""
    add = function("Bias", [])
    add.attribute_proto.append(held)
    w = helper.make_node("Constant", [], ["w"])
    w.attribute.add(name="value", type=AttributeProto.TENSOR, ref_attr_name=held.name)
    add.node.extend([w, *_AS_CHANNELS, helper.make_node("Add", ["x", "as_channels"], ["y"])])
    model = block()
    model.functions.append(add)
    model.opset_import.add(domain="f", version=1)
    return _adding(model, helper.make_node("Bias", ["before"], ["out"], domain="f"))


def used(w: TensorProto, place: str) -> onnx.ModelProto:
    """SimAM between two Relus, then + w: an initialiser, an attribute of a node, or the default of a function."""
    if place == "default":
        return _with_default(AttributeProto(name="v", type=AttributeProto.TENSOR, t=w))
    model = _initializer(w) if place == "initializer" else block()
    model.graph.node.extend([_constant(w)] if place == "attribute" else [])
    model.graph.node.extend(_AS_CHANNELS)
    return _adding(model, helper.make_node("Add", ["before", "as_channels"], ["out"]))


def _initializer(w: TensorProto) -> onnx.ModelProto:
    model = block()
    model.graph.initializer.append(w)
    return model


def _attribute(held: AttributeProto) -> onnx.ModelProto:
    model = block()
    model.graph.node[0].attribute.append(held)
    return model


def _in_function(w: TensorProto) -> onnx.ModelProto:
    model = block()
    model.functions.append(function("Held", ["Relu"]))
    model.functions[0].node.append(_constant(w))
    model.opset_import.add(domain="f", version=1)
    return model


def _sparse_initializer(w: TensorProto) -> onnx.ModelProto:
    model = block()
    model.graph.sparse_initializer.append(_sparse(w))
    return model


def _training(w: TensorProto) -> onnx.ModelProto:
    model = block()
    model.training_info.add().initialization.initializer.append(w)
    return model


def _default_graph(w: TensorProto) -> onnx.ModelProto:
    graph = _branch([_constant(w)], []).attribute[0].g
    return _with_default(AttributeProto(name="g", type=AttributeProto.GRAPH, g=graph))


PLACES: dict[str, Callable[[TensorProto], onnx.ModelProto]] = {
    "initializer": _initializer,
    "attribute": lambda w: _attribute(AttributeProto(name="v", type=AttributeProto.TENSOR, t=w)),
    "attributes": lambda w: _attribute(AttributeProto(name="v", type=AttributeProto.TENSORS, tensors=[w])),
    "attribute_of_another_type": lambda w: _attribute(AttributeProto(name="v", type=AttributeProto.INT, i=1, t=w)),
    "initializer_of_a_branch": lambda w: _with_branch([], [w]),
    "attribute_in_a_branch": lambda w: _with_branch([_constant(w)], []),
    "attribute_in_a_function": _in_function,
    "default": lambda w: _with_default(AttributeProto(name="v", type=AttributeProto.TENSOR, t=w)),
    "defaults": lambda w: _with_default(AttributeProto(name="v", type=AttributeProto.TENSORS, tensors=[w])),
    "default_graph": _default_graph,
    "sparse_initializer": _sparse_initializer,
    "sparse_attribute": lambda w: _attribute(
        AttributeProto(name="v", type=AttributeProto.SPARSE_TENSOR, sparse_tensor=_sparse(w))
    ),
    "sparse_default": lambda w: _with_default(
        AttributeProto(name="v", type=AttributeProto.SPARSE_TENSOR, sparse_tensor=_sparse(w))
    ),
    "training": _training,
}
"""Every place in a model that holds a tensor -> a model with the given one there."""


# what lies beside the model, which is in a folder of its own


def secret(folder: Path) -> Path:
    path = folder.parent / "secret"
    path.write_bytes(SECRET)
    return path


def link(folder: Path) -> None:
    (folder / "w.bin").symlink_to(secret(folder))


def link_inside(folder: Path) -> None:
    (folder / "real.bin").write_bytes(BIAS.tobytes())
    (folder / "w.bin").symlink_to("real.bin")


def link_to_a_folder(folder: Path) -> None:
    secret(folder)
    (folder / "sub").symlink_to(folder.parent)


def link_in_a_circle(folder: Path) -> None:
    (folder / "w.bin").symlink_to("w.bin")


def fifo(folder: Path) -> None:
    os.mkfifo(folder / "w.bin")


def link_to_a_device(folder: Path) -> None:
    (folder / "w.bin").symlink_to("/dev/zero")


def a_folder(folder: Path) -> None:
    (folder / "w.bin").mkdir()


def whole(folder: Path) -> None:
    (folder / "w.bin").write_bytes(BIAS.tobytes())


def secret_and_folder(folder: Path) -> None:
    secret(folder)
    (folder / "sub").mkdir()


LOCATIONS: dict[str, tuple[str, Beside]] = {
    "above": ("../secret", secret),
    "far_above": ("../../../../../../../../etc/hostname", whole),
    "absolute": ("/etc/hostname", whole),
    "through_a_folder": ("sub/../../secret", secret_and_folder),
    "of_windows": (r"..\secret", secret),
    "of_windows_absolute": (r"C:\secret", secret),
    "a_drive": ("C:w.bin", whole),
    "a_server": (r"\\server\share\w.bin", whole),
    "link": ("w.bin", link),
    "link_inside": ("w.bin", link_inside),
    "link_to_a_folder": ("sub/secret", link_to_a_folder),
    "link_in_a_circle": ("w.bin", link_in_a_circle),
    "link_to_a_device": ("w.bin", link_to_a_device),
    "fifo": ("w.bin", fifo),
    "device": ("/dev/zero", whole),
    "folder": ("w.bin", a_folder),
    "itself": (".", whole),
    "nothing": ("", whole),
    "below_a_file": ("w.bin/x", whole),
    "an_address": ("*/_ORT_MEM_ADDR_/*", whole),
    "a_zero": ("w.bin\0", whole),
    "control_characters": ("\x1b]0;owned\x07w.bin\n", whole),
}
"""A location that is refused -> the text, and what lies beside the model."""

ENTRIES: dict[str, dict[str, str]] = {
    "negative_offset": {"offset": "-1"},
    "negative_length": {"length": "-12"},
    "offset_of_words": {"offset": "ten"},
    "offset_with_a_sign": {"offset": "+0"},
    "offset_with_spaces": {"offset": " 0"},
    "offset_with_lines": {"offset": "1_0"},
    "offset_in_other_digits": {"offset": "٣"},
    "offset_of_many_digits": {"offset": "1" * 5000},
    "offset_beyond_64_bits": {"offset": str(2**64)},
    "offset_beyond_the_end": {"offset": "1"},
    "length_beyond_the_end": {"length": "13"},
    "too_short": {"length": "11"},
}
"""What is said of the bytes and refused: w.bin has twelve."""

for _place, _build in PLACES.items():
    for _name, (_location, _beside) in LOCATIONS.items():
        if _name in ("above", "link", "fifo") or _place in ("initializer", "default"):
            FILES.add(lambda b=_build, at=_location: b(tensor(at)), f"{_place}_{_name}", _beside)  # type: ignore[misc]
for _name, _entries in ENTRIES.items():
    FILES.add(lambda e=_entries: _initializer(tensor(**e)), f"weights_of_{_name}", whole)  # type: ignore[misc]


@FILES.add
def two_locations() -> onnx.ModelProto:
    held = tensor("w.bin")
    held.external_data.add(key="location", value="../secret")
    return _initializer(held)
