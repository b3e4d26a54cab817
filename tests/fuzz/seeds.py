"""Small valid files that the mutants of fuzz.py start from."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from helpers.epilogues import FOLDS, net
from helpers.onnx_models import CHAIN, again, model
from helpers.quantised import rounded
from helpers.spellings import SPELLINGS
from helpers.wrapped import made
from onnx import TensorProto, helper, numpy_helper

from simam_deploy.rewrite.forms import FORMS, alone
from simam_deploy.rewrite.fuse import fuse

YOLO = ("yolo11n-12", "yolo26n-17", "yolov8n-half", "yolo11n-dynamo")
"""Files of tests/yolo: networks of an exporter, with some 150 nodes."""
BESIDE = "weights.bin"
"""Name of the file that lies beside each mutant, and holds the weights of the seed `outside`."""
ROUNDED_BESIDE = {
    "before": "i = QuantizeLinear (image, step, zero)\n x = DequantizeLinear (i, step, zero)",
    "after": "o = QuantizeLinear (y, step, zero)\n out = DequantizeLinear (o, step, zero)",
    "weights": "float step = {0.02}, int8 zero = {0},",
}


def dynamic() -> onnx.ModelProto:
    """M - 1 comes from the shape of x."""
    text = CHAIN.replace("(s, n)", "(s, n2)").replace(
        "   mean =",
        "   size = Shape (x)\n   at = Gather (size, hw)\n   m = ReduceProd <keepdims: int = 0> (at)\n"
        "   mf = Cast <to: int = 1> (m)\n   one = Constant <value_float = 1.0> ()\n   n2 = Sub (mf, one)\n   mean =",
    )
    return ir.to_proto(model(text, shape="n, 3, h, w"))


def older(opset: int) -> onnx.ModelProto:
    """Axes are attributes up to opset 12, those of ReduceMean up to 17."""
    proto = ir.to_proto(model())
    proto.opset_import[0].version = opset
    for node in proto.graph.node:
        if node.op_type == "ReduceMean" or (node.op_type == "ReduceSum" and opset < 13):
            del node.input[1]
            node.attribute.append(helper.make_attribute("axes", [2, 3]))
    onnx.checker.check_model(proto, full_check=True)
    return proto


def of_ir_3() -> onnx.ModelProto:
    """Every weight is an input of the graph too."""
    proto = older(9)
    proto.ir_version = 3
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    onnx.checker.check_model(proto, full_check=True)
    return proto


def spelled(name: str) -> onnx.ModelProto:
    chain = CHAIN
    for line, other in SPELLINGS[name].items():
        chain = chain.replace(line, other)
    return ir.to_proto(model(chain))


def half(*, and_float: bool) -> onnx.ModelProto:
    """A block on float16, and one on float32 behind it."""
    bits = {"n": 34, "lam": 0.01, "four": 4, "half": 0.5}
    bits = {name: int(np.float16(value).view(np.int16)) for name, value in bits.items()}  # as the parser takes them
    if not and_float:
        return ir.to_proto(model(dtype="float16", **bits))  # type: ignore[arg-type]
    second = again("wide", "y2")
    for name in bits:
        second = second.replace(f", {name})", f", {name}_2)")
    weights = "float n_2 = {34}, float lam_2 = {1e-4}, float four_2 = {4}, float half_2 = {0.5},"
    chain = f"{CHAIN} wide = Cast <to: int = 1> (y)\n{second}"
    return ir.to_proto(model(chain, dtype="float16", weights=weights, after="out = Cast <to: int = 10> (y2)", **bits))  # type: ignore[arg-type]


def outside() -> tuple[onnx.ModelProto, bytes]:
    """A model with a block whose constants are in BESIDE, and what that file holds."""
    proto, held = ir.to_proto(model()), b""
    for tensor in proto.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:  # the axes: ONNX Runtime reads them before it looks outside
            continue
        raw = numpy_helper.to_array(tensor).tobytes()
        kept = TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
        kept.data_location = TensorProto.EXTERNAL
        for key, value in {"location": BESIDE, "offset": len(held), "length": len(raw)}.items():
            kept.external_data.add(key=key, value=str(value))
        tensor.CopyFrom(kept)
        held += raw
    return proto, held


def small() -> Iterator[tuple[str, onnx.ModelProto]]:
    """By name; up to some 40 nodes each."""
    yield "spelled out", ir.to_proto(model())
    yield "two", ir.to_proto(model(CHAIN + again("y", "y2"), after="out = Add (y2, x)"))
    yield "float16", half(and_float=False)
    yield "float16 and float32", half(and_float=True)
    yield "dynamic", dynamic()
    yield "outside", outside()[0]
    yield "IR 3", of_ir_3()
    yield "quantised beside", ir.to_proto(model(**ROUNDED_BESIDE))  # type: ignore[arg-type]
    yield "quantised inside", rounded(4, 0, TensorProto.INT8, 18)
    for opset in (7, 9, 11, 12, 17):
        yield f"opset {opset}", older(opset)
    for name in SPELLINGS:
        yield name, spelled(name)
    for name in ("in a branch", "half in a branch", "in a loop", "a function with λ", "in a function in a function"):
        yield name, ir.to_proto(made(name))
    for name in ("bn add relu", "all", "mul by a number", "bn silu"):
        yield name, ir.to_proto(net(FOLDS[name][0]))
        yield f"{name}, fused", ir.to_proto(fuse(net(FOLDS[name][0]), epilogue=True).model)
    for form in FORMS:
        yield form, ir.to_proto(alone(form, (2, 3, 5, 7), opset=20))
        yield f"{form} after another", ir.to_proto(fuse(model(), form).model)
        for shape in ((2, 3, 8), (2, 3, 2, 5, 4)):
            yield f"{form} {len(shape)}-D", ir.to_proto(alone(form, shape))


SEEDS = {name: proto.SerializeToString() for name, proto in small()}
NETWORKS = {name: (Path(__file__).parents[1] / "yolo" / f"{name}.onnx").read_bytes() for name in YOLO}
