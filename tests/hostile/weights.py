"""Weights: too few, too many, somewhere else."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hostile.parts import Build, F, Files, block

FILES = Files()


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


WEIGHTS: dict[str, Callable[[TensorProto], object]] = {
    "too_many_dims": lambda t: t.dims.extend([1] * 10**5),
    "huge_dims": lambda t: t.dims.extend([2**62, 2**62]),
    "zero_and_huge": lambda t: t.dims.extend([0, 2**62]),
    "negative_dims": lambda t: t.dims.extend([-1]),
    "fewer_values": lambda t: t.dims.extend([2]),
    "raw_and_fields": lambda t: setattr(t, "raw_data", b"123"),
    "a_segment": lambda t: t.segment.MergeFromString(b"\x08\x01\x10\x05"),
    "texts": lambda t: t.MergeFrom(TensorProto(data_type=8, string_data=[b"\xff" * 10**6])),
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
for _name, _change in WEIGHTS.items():
    FILES.add(weight(_change), f"weights_{_name}")


@FILES.add
def missing_weights() -> onnx.ModelProto:
    model = block()
    del model.graph.initializer[:]
    return model


@FILES.add
def sparse_weights() -> onnx.ModelProto:
    model = block()
    sparse = model.graph.sparse_initializer.add(dims=[10**6, 10**6])
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "s"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.ones(1, np.int64), "s_indices"))
    return model


@FILES.add
def a_sparse_constant() -> onnx.ModelProto:
    model = block()
    node = model.graph.node.add(op_type="Constant", output=["s"])
    sparse = onnx.SparseTensorProto(dims=[10**6, 10**6])
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "s"))
    node.attribute.append(helper.make_attribute("sparse_value", sparse))
    return model
