"""SimAM in its published spelling, in any float type, as a converter that knows nothing of SimAM leaves it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from simam_deploy import formula
from simam_deploy.formula import Array, Float64

MAPS = (20, 40, 80, 160, 320)
CASES = [(m, spread, offset) for m in MAPS for spread in 2.0 ** np.arange(-1, 7) for offset in (0, 10, 100, 1000)]
"""Size of the map, and spread and offset of x: 160 cases, of which float16 by operators gets 125 wrong."""
ELEM = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
GATE_LIMIT = 2e-3
"""A gate error above is wrong. No case lies between 1.9e-3 and 2.5e-3."""


def naive(m: int, dtype: str = "float16", channels: int = 4, e_lambda: float = 1e-4) -> onnx.ModelProto:
    """y = simam(x), x : (1, channels, m, m), each constant and each operator in `dtype`."""
    elem = ELEM[dtype]
    held = {"two": 2.0, "n": m * m - 1.0, "e_lambda": e_lambda, "four": 4.0, "half": 0.5}
    with np.errstate(over="ignore"):
        made = {k: np.asarray(v).astype(helper.tensor_dtype_to_np_dtype(elem)) for k, v in held.items()}
    constants = [numpy_helper.from_array(value, name) for name, value in made.items()]
    constants.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mu"]),
        helper.make_node("Sub", ["x", "mu"], ["c"]),
        helper.make_node("Pow", ["c", "two"], ["d"]),
        helper.make_node("ReduceSum", ["d", "axes"], ["s"]),
        helper.make_node("Div", ["s", "n"], ["v"]),
        helper.make_node("Add", ["v", "e_lambda"], ["t"]),
        helper.make_node("Mul", ["t", "four"], ["q"]),
        helper.make_node("Div", ["d", "q"], ["e"]),
        helper.make_node("Add", ["e", "half"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["gate"]),
        helper.make_node("Mul", ["x", "gate"], ["y"], name="block"),
    ]
    values = [helper.make_tensor_value_info(name, elem, (1, channels, m, m)) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "naive", values[:1], values[1:], constants)
    opset = 22 if dtype == "bfloat16" else 18
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def saved(folder: Path, model: onnx.ModelProto, name: str = "net.onnx") -> Path:
    path = folder / name
    onnx.save(model, path)
    return path


def x_of(m: int, spread: float, offset: float, channels: int = 4) -> Array:
    """float32 (1, channels, m, m), normal."""
    noise = np.random.default_rng(0).standard_normal((1, channels, m, m))
    return (offset + spread * noise).astype(np.float32)


def gate_error(x: Array, y: Array) -> float:
    """Largest error of y / x against the gate of this x; infinite for NaN."""
    wide: Float64 = x.astype(np.float64)
    off = np.abs(y.astype(np.float64) - formula.reference(wide))
    seen = np.abs(wide) > 1e-3 * np.abs(wide).max()
    errors = np.where(np.isnan(off), np.inf, off)[seen] / np.abs(wide)[seen]
    return float(errors.max())
