"""Numerical check of an epilogue: activation(scale * y + bias + residual) behind SimAM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper

from simam_deploy import formula
from simam_deploy.block import Epilogue
from simam_deploy.equivalence import Shape4D, float64_tolerance, planes
from simam_deploy.formula import STEEPEST, Float64
from simam_deploy.graph.evaluator import KERNELS, evaluator
from simam_deploy.graph.to_float64 import widen
from simam_deploy.match.subgraph_model import called, inline_functions, renamed, widened

EPS = float(np.finfo(np.float32).eps)
"""Scale and bias are rounded to float32 once, by at most eps / 2."""
NOISE = 2.0**-40
"""Relative rounding error of a few float64 operators in a row."""

BlockFunction = Callable[[Float64, Float64], Float64]
"""Maps x and a residual of its shape to the result."""


def difference(run: BlockFunction, epilogue: Epilogue, e_lambda: float, shapes: Sequence[Shape4D]) -> str | None:
    """First difference between `run` and SimAM with the epilogue; None within the rounding of scale and bias.

    Exceptions of `run` pass through.
    """
    for shape in shapes:
        rng = np.random.default_rng(2)
        for name, x in planes(rng, shape, e_lambda):
            y = formula.reference(x, e_lambda)
            residual = rng.standard_normal(shape) * np.abs(y).max()
            given = residual if epilogue.residual is not None else np.zeros(1)
            exact = formula.apply_epilogue(y, epilogue.scale, epilogue.bias, given, activation=epilogue.activation)
            scale, bias = (np.abs(v, dtype=np.float64)[:, None, None] for v in (epilogue.scale, epilogue.bias))
            rounded = (EPS + NOISE) * (scale * np.abs(y) + bias) + NOISE * np.abs(given)
            allowed = STEEPEST * (scale * float64_tolerance(x, e_lambda) + rounded)
            got = run(x, residual)
            if got.shape != shape:
                return f"the result of x of {shape} has the shape {got.shape}"
            off = np.abs(np.where(np.isnan(got), np.inf, got) - exact)
            if (off > allowed).any():
                return f"differs from {epilogue.op} on {name} planes by {off.max():.3g}"
    return None


def steps(
    model: ir.Model, nodes: Sequence[ir.Node], inputs: Sequence[ir.Value], constants: Sequence[ir.Value], y: ir.Value
) -> Callable[..., Float64]:
    """`nodes`, in order, as a function of float64 arrays: `inputs` to y."""
    names: dict[ir.Value, str] = {}
    for value in (*inputs, *(v for node in nodes for v in (*node.inputs, *node.outputs))):
        if value is not None and value not in names:
            names[value] = f"v{len(names)}"
    graph = helper.make_graph(
        [renamed(node, names) for node in nodes],
        "steps",
        [helper.make_tensor_value_info(names[value], TensorProto.DOUBLE, None) for value in inputs],
        [onnx.ValueInfoProto(name=names[y])],
        [widened(value, names[value]) for value in constants],
    )
    made = helper.make_model(
        graph,
        ir_version=10,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in model.opset_imports.items()],
        functions=called(nodes, model),
    )
    machine = evaluator(widen(inline_functions(made)), list(KERNELS.values()))

    def run(*arrays: Float64) -> Float64:
        with np.errstate(all="ignore"):
            results: Any = machine.run(None, {names[v]: a for v, a in zip(inputs, arrays, strict=True)})
        return np.asarray(results[0], dtype=np.float64)

    return run
