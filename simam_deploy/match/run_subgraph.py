"""Run a candidate subgraph by itself in float64, on the onnx reference evaluator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from simam_deploy.errors import InputError
from simam_deploy.formula import OP_DOMAIN, OP_NAME, Array, Float64
from simam_deploy.graph.evaluator import KERNELS, evaluator
from simam_deploy.graph.shapes.propagate import propagate
from simam_deploy.graph.shapes.work import work_of
from simam_deploy.graph.to_float64 import widen
from simam_deploy.graph.traverse import say_defaults
from simam_deploy.match.dataflow import Flow, constant
from simam_deploy.match.subgraph import MOST_AROUND, Subgraph
from simam_deploy.match.subgraph_model import (
    called,
    computing,
    inline_functions,
    kind,
    measure,
    placed,
    renamed,
    widened,
)

MOST_VALUES = 2**23
"""Upper bound on the values of a tensor inside. The evaluator would allocate what a file asks for."""
MOST_NUMBERS = 2**20
"""Upper bound on the values of a tensor computed from sizes."""
MOST_WORK = 2**27
"""Upper bound on one run: values read and written, and products summed. 2^27 take half a second."""
FIXED_WORK = 2**18
"""Overhead of a run, in the same unit."""
WINDOWED = ("AveragePool", "MaxPool")
"""The evaluator runs these in Python, window by window."""


class SubgraphRunner:
    """A candidate subgraph as a function of float64 arrays.

    Subgraphs with equal nodes and constants have equal `key`, whatever their names.
    Raises InputError for a constant that is too large for SimAM, or that comes from outside its function.
    """

    def __init__(self, subgraph: Subgraph, flow: Flow) -> None:
        names: dict[ir.Value, str] = {subgraph.x: "x"}
        for i, node in enumerate(subgraph.sizes):
            names[node.outputs[0]] = f"size{i}"
        for value in (v for node in (*subgraph.around, *subgraph.inside) for v in (*node.inputs, *node.outputs)):
            if value is not None and value.name:
                names.setdefault(value, f"v{len(names)}")
        if len(subgraph.around) > MOST_AROUND:
            raise InputError(
                f"more than {MOST_AROUND} nodes compute its sizes and constants; SimAM has no use for them"
            )
        inputs = [helper.make_tensor_value_info("x", TensorProto.DOUBLE, None)]
        inputs += [
            helper.make_tensor_value_info(f"size{i}", TensorProto.INT64, None) for i in range(len(subgraph.sizes))
        ]
        for node in (*subgraph.around, *subgraph.inside):
            if any(attribute.is_ref() for attribute in node.attributes.values()):
                raise InputError(
                    f"{node.op_type} {node.name!r} takes a value from an attribute of the function that it is in; "
                    "inline the functions first (onnx.inliner)"
                )
        nodes = sorted((*subgraph.around, *subgraph.inside), key=flow.order.__getitem__)
        made = [renamed(node, names) for node in nodes]
        result = names[subgraph.y]
        if subgraph.is_gate:
            result = "product"
            made.append(helper.make_node("Mul", ["x", names[subgraph.y]], [result]))
        watched = {v: None for node in subgraph.two_sided for v in node.inputs if v is not None and v.name}
        graph = helper.make_graph(
            made,
            "subgraph",
            inputs,
            [onnx.ValueInfoProto(name=name) for name in dict.fromkeys((result, *(names[v] for v in watched)))],
            [widened(value, names[value]) for value in subgraph.constants],
        )
        scope = subgraph.inside[-1].graph
        imports = {**flow.model.opset_imports, **(scope.opset_imports if scope is not None else {})}
        functions = called((*subgraph.around, *subgraph.inside), flow.model)
        self._model = helper.make_model(
            graph,
            ir_version=10,
            opset_imports=[helper.make_opsetid(domain, version) for domain, version in imports.items()],
            functions=functions,
        )
        say_defaults(self._model)
        self.key = self._model.SerializeToString(deterministic=True)
        if functions:
            self._model = inline_functions(self._model)
        self._model = widen(self._model)
        self.kind = kind(self._model)
        """Equal for subgraphs that differ in scalar float constants alone."""
        self.spent = 0
        """Work of all runs so far, in the unit of MOST_WORK."""
        self._work: dict[tuple[int, ...], int] = {}
        self._two_sided = [
            (node.op_type, ["" if v is None or not v.name else names[v] for v in node.inputs])
            for node in subgraph.two_sided
        ]
        self._shown: dict[int, list[bool]] = {}
        self._largest = [0.0] * len(self._two_sided)
        self._constants = [
            (names[v], tuple(t.shape.numpy())) for v in subgraph.constants if (t := constant(v)) is not None
        ]
        self._measured = subgraph.sizes
        self._computes = computing(self._model)
        self._numbers: dict[tuple[object, ...], list[Array] | None] = {}
        self._evaluator: ReferenceEvaluator | None = None

    def run(
        self, x: Float64, measured: Sequence[tuple[int, ...]] = (), instead: Mapping[int, float] | None = None
    ) -> Float64:
        """Compute y from x.

        measured : for this size of x, the shape that each node of `subgraph.sizes` measures.
        instead : other values for some of `subgraph.constants`, by index.
        Raises any exception of the evaluator if the subgraph does not fit x.
        """
        if self._evaluator is None:
            self._evaluator = evaluator(self._model, [KERNELS[OP_NAME]])
        self.spent += FIXED_WORK + self._work.get(x.shape, 0)
        sizes = self._sizes(measured)
        for i, value in (instead or {}).items():
            name, shape = self._constants[i]
            sizes[name] = np.full(shape, value)
        with np.errstate(all="ignore"):  # a subgraph other than SimAM may divide by zero
            results: Any = self._evaluator.run(None, {"x": x, **sizes})
            values = dict(zip(self._evaluator.output_names, map(np.asarray, results), strict=True))
            for i, (kind, inputs) in enumerate(self._two_sided):
                data, *bounds = (values.get(name) for name in inputs)
                assert data is not None
                self._largest[i] = max(self._largest[i], float(np.abs(data).max(initial=0)))
                seen = [bool(np.any(side)) for side in _sides(kind, 1e-9 * self._largest[i], data, *bounds)]
                self._shown[i] = [a or b for a, b in zip(seen, self._shown.get(i, seen), strict=True)]
        return np.asarray(results[0], dtype=np.float64)

    def _sizes(self, measured: Sequence[tuple[int, ...]]) -> dict[str, Array]:
        """Outputs of the nodes in `subgraph.sizes`, by name."""
        pairs = zip(self._measured, measured, strict=True)
        return {f"size{i}": measure(node, shape) for i, (node, shape) in enumerate(pairs)}

    def numbers(self, size: tuple[int, ...], measured: Sequence[tuple[int, ...]] = ()) -> list[Array]:
        """Numbers computed from sizes that enter the data, such as M - 1, for x of that size. No integers."""
        return [array for array in self._computed(size, measured) or () if array.dtype.kind == "f"]

    def sized(self, size: tuple[int, ...], measured: Sequence[tuple[int, ...]]) -> tuple[object, ...]:
        """Key of all that a run on x of that size depends on besides x. Equal keys give equal results."""
        computed = self._computed(size, measured)
        if computed is None:
            return (size, *measured)
        return (size, *((array.dtype.str, array.shape, array.tobytes()) for array in computed))

    def _computed(self, size: tuple[int, ...], measured: Sequence[tuple[int, ...]]) -> list[Array] | None:
        key = (size, tuple(measured))
        if key not in self._numbers:
            self._numbers[key] = self._compute(size, measured)
        return self._numbers[key]

    def _compute(self, size: tuple[int, ...], measured: Sequence[tuple[int, ...]]) -> list[Array] | None:
        """None if the sizes cannot be computed apart from the data."""
        if self._computes is None:
            return None
        sizes = self._sizes(measured)
        known = propagate(placed(self._computes, size, sizes), levels=0)
        for name in (name for node in self._computes.graph.node for name in node.output):
            if name not in known or np.prod(known[name][1], dtype=float) > MOST_NUMBERS:
                return None  # the whole subgraph does not run then either
        try:
            x = np.broadcast_to(np.zeros(1), size)  # takes no memory
            results: Any = ReferenceEvaluator(self._computes).run(None, {"x": x, **sizes})
        except Exception:  # the evaluator raises many types
            return None
        return [np.asarray(result) for result in results]

    def reason_against(self, size: tuple[int, ...], measured: Sequence[tuple[int, ...]] = ()) -> str | None:
        """Reason not to run it on x of that size: wrong shapes, or too much memory or work. None if it may run."""
        model = placed(self._model, size, self._sizes(measured))
        found = propagate(model, levels=0)  # work in a call would not be counted
        known = {name: shape for name, (_, shape) in found.items()}
        shown = "x".join(map(str, size))
        work = 0
        for node in model.graph.node:
            for shape in (known.get(name) for name in node.output if name):
                if shape is None:
                    if (node.domain, node.op_type) == (OP_DOMAIN, OP_NAME):
                        return None
                    return f"it does not run by itself: what {node.op_type} makes of x of {shown} cannot be told"
                if np.prod(shape, dtype=float) > MOST_VALUES:
                    return f"{node.op_type} makes {'x'.join(map(str, shape))} values of x of {shown}; SimAM does not"
                if node.op_type in WINDOWED and (np.prod(shape[2:]) > 1 or _is_padded(node)):
                    return f"{node.op_type} has a sliding window; SimAM takes the whole plane"
            work += work_of(node, known)
            if work > MOST_WORK:
                return f"it takes too long on x of {shown}, at {node.op_type}; SimAM does not"
        self._work[size] = work
        return None

    def unseen(self) -> list[int]:
        """Indices of `subgraph.two_sided` whose branches were not all reached in the runs so far."""
        return [i for i in range(len(self._two_sided)) if not all(self._shown.get(i, [False]))]


def _is_padded(node: onnx.NodeProto) -> bool:
    return any(
        (a.name == "pads" and any(a.ints)) or (a.name == "auto_pad" and b"SAME" in a.s) for a in node.attribute
    )


def _sides(kind: str, near: float, a: Array, b: Array | None = None, c: Array | None = None) -> list[Array]:
    """Masks of the values on each branch of a TWO_SIDED operator.

    near : distance within which a bound counts as reached. A variance reaches 0 in Max(v, 0), and never passes it.
    """
    if kind == "Where":
        return [a, ~a]
    bounds = [bound for bound in (b, c) if bound is not None] if kind == "Clip" else [np.zeros(1) if b is None else b]
    return [side for bound in bounds for side in (a <= bound + near, a >= bound - near)]
