"""Models of one of our operators on 8-bit integers."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from simam_deploy.formula import INT8_DOMAIN, OP_DOMAIN, OPS, Array, apply_epilogue, reference
from simam_deploy.match import int8_nodes
from simam_deploy.rewrite.forms import function

SHAPE = (2, 5, 7, 6)
"""(N, H, W, C)"""
E_LAMBDA = 0.1


def numbers(dtype: type) -> dict[str, Array]:
    """Inputs by name, for every operator."""
    rng = np.random.default_rng(5)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max

    def integers() -> Array:
        return rng.integers(low, high, SHAPE, endpoint=True).astype(dtype)

    held: dict[str, Array] = {"x": integers(), "residual": integers()}
    for name, (scale, zero) in {"x": (0.03, 100), "residual": (0.02, 30), "y": (0.025, 120)}.items():
        held[f"{name}_scale"] = np.array(scale, np.float32)
        held[f"{name}_zero_point"] = np.array(zero + low, dtype)
    held["scale"] = rng.uniform(-1.5, 1.5, SHAPE[3]).astype(np.float32)
    held["bias"] = rng.uniform(-1, 1, SHAPE[3]).astype(np.float32)
    return held


def model_of(name: str, dtype: type = np.uint8) -> onnx.ModelProto:
    """x, residual -> y : (N, H, W, C). name : in formula.OPS."""
    held, inputs = numbers(dtype), int8_nodes.names(name)
    kind = TensorProto.UINT8 if dtype is np.uint8 else TensorProto.INT8
    maps = [n for n in ("x", "residual") if n in inputs]
    node = helper.make_node(name, inputs, ["y"], name="block", domain=INT8_DOMAIN, e_lambda=E_LAMBDA)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(n, kind, SHAPE) for n in maps],
        [helper.make_tensor_value_info("y", kind, SHAPE)],
        [numpy_helper.from_array(held[n], n) for n in inputs if n not in maps],
    )
    functions = [*function.functions(20, [name], [ir.DataType.FLOAT]), int8_nodes.definition(name, 20)]
    opsets = [helper.make_opsetid(*domain) for domain in (("", 20), (OP_DOMAIN, 1), (INT8_DOMAIN, 1))]
    return helper.make_model(
        graph, ir_version=9, opset_imports=opsets, functions=[ir.to_proto(made) for made in functions]
    )


def saved(folder: Path, name: str, dtype: type = np.uint8) -> Path:
    path = folder / f"{name}.onnx"
    onnx.save(model_of(name, dtype), path)
    return path


def exact(name: str, dtype: type) -> Array:
    """y by the formula in float64, in steps, before it is rounded and cut off."""
    held, op = numbers(dtype), OPS[name]

    def floats(of: str) -> Array:
        q = held[of].astype(np.float64) - held[f"{of}_zero_point"].astype(np.float64)
        return np.moveaxis(q * held[f"{of}_scale"].astype(np.float64), 3, 1)

    y = reference(floats("x"), E_LAMBDA)
    if op.affine:
        residual = floats("residual") if op.residual else 0.0
        y = apply_epilogue(y, held["scale"], held["bias"], residual, activation=op.activation)
    steps = y / held["y_scale"].astype(np.float64) + held["y_zero_point"].astype(np.float64)
    return np.moveaxis(steps, 1, 3)
