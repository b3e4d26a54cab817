"""Check of our operators with an epilogue: does each compute what its name says?"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from simam_deploy.block import Epilogue
from simam_deploy.equivalence import Shape4D
from simam_deploy.formula import DEFAULT_LAMBDA, OP_DOMAIN, OPS, Float64
from simam_deploy.graph.number_types import HALF
from simam_deploy.graph.shapes import Dims
from simam_deploy.match.dataflow import Flow
from simam_deploy.match.epilogue import difference, steps
from simam_deploy.match.probe_shapes import MOST_VALUES, PROBES
from simam_deploy.match.subgraph import is_simam_node

FLOAT = ir.DataType.FLOAT
CHANNELS = 3
"""Channels of the probes on whole maps."""


def has_epilogue(node: ir.Node) -> bool:
    """Whether `node` has the name of one of our operators with an epilogue."""
    return node.domain == OP_DOMAIN and node.op_type in OPS and not is_simam_node(node)


class EpilogueNodes:
    """Reads these nodes of one model. Equal nodes share one check of their fallback definition."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._known: dict[tuple[object, ...], str | None] = {}

    def read(
        self, node: ir.Node, dtype: ir.DataType, variants: list[Dims]
    ) -> tuple[Epilogue | None, float, list[str]]:
        """The epilogue of `node` and its λ; or None, and the reasons why it does not compute what its name says.

        dtype : of x.  variants : shapes of x, one for each call of the enclosing function.
        """
        op = OPS[node.op_type]
        has_fallback = node.op_identifier() in self._flow.model.functions
        given = [*node.inputs[: 3 + op.residual], *[None] * 4][: 3 + op.residual]
        e_lambda = _lambda(node, has_fallback)
        scale, bias = (self._parameter(value) for value in given[1:3])
        counts = {dims[1] for dims in variants if len(dims) > 1 and isinstance(dims[1], int)}
        counts |= {len(values) for values in (scale, bias) if values is not None}
        no_lambda = (
            "its λ is no constant > 0"
            if has_fallback
            else "it has no fallback definition, and no attribute e_lambda > 0"
        )
        reasons = {
            f"x is {len(variants[0])}-D; the operator takes (N, C, H, W)": len(variants[0]) != 4,
            f"x is {dtype.name}; the operator takes FLOAT, FLOAT16 and BFLOAT16": dtype not in (FLOAT, *HALF),
            f"{node.op_type} takes {len(given)} inputs and gives one result": None in given
            or len(node.inputs) > len(given)
            or len(node.outputs) > 1,
            no_lambda: not e_lambda,
            "its scale and bias must be constants, float32, one number for each channel of x": scale is None
            or bias is None
            or len(counts) > 1,
        }
        found = [reason for reason, holds in reasons.items() if holds]
        if found or scale is None or bias is None or e_lambda is None:
            return None, 0.0, found
        epilogue = Epilogue(scale, bias, given[3] if op.residual else None, op.activation)
        for dims in variants if has_fallback else ():
            if differs := self._difference(node, epilogue, e_lambda, dims):
                return None, 0.0, [differs]
        return epilogue, float(str(np.float32(e_lambda))), []

    def _parameter(self, value: ir.Value | None) -> np.ndarray[tuple[int], np.dtype[np.float32]] | None:
        tensor = self._flow.held(value)
        if tensor is None or len(tensor.shape) != 1 or tensor.dtype != FLOAT:
            return None
        return np.asarray(tensor.numpy(), dtype=np.float32)

    def _difference(self, node: ir.Node, epilogue: Epilogue, e_lambda: float, dims: Dims) -> str | None:
        """First difference between fallback definition and epilogue, or None.

        Compares all channels on a small map and few on the whole map; several probes replace a dynamic size.
        """
        shapes = [(2, len(epilogue.scale), 3, 5)]
        for _, _, *probe in PROBES[4]:
            h, w = (d if isinstance(d, int) else p for d, p in zip(dims[2:], probe, strict=True))
            shapes.append((2, CHANNELS, h, w))
        for shape in dict.fromkeys(shapes):
            if math.prod(shape) > MOST_VALUES:
                continue
            key = (node.op_identifier(), e_lambda, shape)
            if key not in self._known:
                self._known[key] = self._at(node, epilogue, e_lambda, shape)
            if (differs := self._known[key]) is not None:
                return differs
        return None

    def _at(self, node: ir.Node, epilogue: Epilogue, e_lambda: float, shape: Shape4D) -> str | None:
        rng = np.random.default_rng(3)
        scale, bias = (rng.standard_normal(shape[1]).astype(np.float32) for _ in range(2))
        inputs = [ir.Value(name=f"input {i}") for i in range(len(node.inputs))]
        alike = ir.Node(node.domain, node.op_type, inputs, node.attributes.values(), overload=node.overload)
        alike.outputs[0].name = "y"
        probe = Epilogue(scale, bias, epilogue.residual, epilogue.activation)

        def run(x: Float64, residual: Float64) -> Float64:
            given = (x, scale.astype(np.float64), bias.astype(np.float64), residual)
            return fallback(*given[: len(inputs)])

        try:
            fallback = steps(self._flow.model, [alike], inputs, [], alike.outputs[0])
            return difference(run, probe, e_lambda, [shape])
        except Exception as error:  # the evaluator raises many types for a definition that does not fit
            return f"it does not run by itself: {error}"


def _lambda(node: ir.Node, has_fallback: bool) -> float | None:
    """λ of the node, or the default of its fallback definition; None unless above 0."""
    attribute = node.attributes.get("e_lambda")
    if attribute is None:
        return DEFAULT_LAMBDA if has_fallback else None
    if attribute.is_ref() or attribute.type != ir.AttributeType.FLOAT or not attribute.as_float() > 0:
        return None
    return attribute.as_float()
