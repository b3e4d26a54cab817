"""Shapes and types of the values of an ONNX model, declared or inferred for chosen input sizes."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

import onnx
import onnx_ir as ir

from simam_deploy.graph.shapes import choices
from simam_deploy.graph.shapes.calls import body_of, functions_of, identifier
from simam_deploy.graph.shapes.fitting import inferred_with_refusal
from simam_deploy.graph.shapes.propagate import Refusal, propagate
from simam_deploy.graph.shapes.skeleton import dims_of, infer, resized, skeleton
from simam_deploy.graph.shapes.types import Dims, Identifier, StaticShape
from simam_deploy.graph.traverse import inside

__all__ = ["Dims", "Exact", "Known", "Refusal", "Shapes", "StaticShape", "Trial", "is_open"]

Known = tuple[ir.DataType, Dims]
"""Element type and shape of a value."""
Exact = dict[str, tuple[ir.DataType, StaticShape]]
Trial = dict[str, StaticShape]
"""Shapes of the values, by name, for one size of each input."""
NestedScope = ChainMap[str, onnx.TypeProto | onnx.TensorProto]
_MOST_STEPS = 30_000
"""Upper bound on the nodes visited for all remainders of sizes: some 5 seconds."""
_INVENTED = "unk__"
"""Prefix of the names that onnx's inference gives to unknown sizes."""


class Shapes:
    """Shape information of a model. Infers on first use; does not change the model."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._residues: dict[int, list[Trial]] = {}

    def declared(self, value: ir.Value) -> Dims | None:
        """Shape of `value`: a number, a name or None per axis; None if unknown.

        Inferred from the inputs for inner values: the shapes in the file may be those of other inputs. The file
        counts for an axis without an inferred size.
        """
        given = None if value.shape is None else _sizes(value.shape)
        inferred = None if value.producer() is None else _known(self._inferred.get(value))
        dims = given if value.producer() is None else None if inferred is None else inferred[1]
        if is_open(dims):
            followed = self._followed(value)
            dims = _closer(dims, followed)
            if followed is not None and given is not None:  # an axis that varies has no number
                given = tuple(None if isinstance(d, int) else d for d in given)
        if is_open(dims) and given is not None:
            dims = _filled(dims, given)
        return None if dims is None else tuple(None if _is_invented(d) else d for d in dims)

    def dtype(self, value: ir.Value) -> ir.DataType:
        """Element type of `value`; FLOAT if even inference cannot tell."""
        return self.known_dtype(value) or ir.DataType.FLOAT

    def known_dtype(self, value: ir.Value) -> ir.DataType | None:
        """Element type of `value`; None if even inference cannot tell."""
        if value.dtype is not None:
            return value.dtype
        inferred = self._inferred.get(value)  # without a shape too
        if inferred is not None and (kind := inferred.tensor_type.elem_type):
            return ir.DataType(kind)
        found = self._followed(value)
        return found[0] if found else None

    def _followed(self, value: ir.Value) -> Known | None:
        """Type and shape of a value of the main graph over all trials. An axis is fixed if its size never varies."""
        node = value.producer()
        if node is None or node.graph is not self._model.graph:
            return None
        known = [trial.get(str(value.name)) for trial in self._exact]
        if len(known) < 2 and self._is_dynamic:  # one size does not tell which axes vary
            return None
        shapes = {k[1] for k in known if k is not None}
        if not shapes or None in known or len({len(shape) for shape in shapes}) > 1:
            return None
        axes = zip(*shapes, strict=True)
        return known[0][0], tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in axes)  # type: ignore[index]

    def inside(self, function: ir.Function) -> list[dict[str, Known]]:
        """Values in the body of `function`, by name: one dictionary for each distinct call.

        Calls differ by types, shapes or attributes. Includes calls from subgraphs and functions. Empty without calls.
        """
        return self._calls.get(function.identifier(), [])

    @cached_property
    def trials(self) -> list[Trial]:
        """Concrete shapes of the values, by name, for several sizes of the dynamic inputs (one, if all are fixed).

        Includes subgraphs. Leaves out a name with two shapes, as in two branches of an If.
        """
        return [_concrete(inferred, exact) for inferred, exact in zip(self._resized, self._exact, strict=True)]

    def residues(self, period: int) -> list[Trial]:
        """Trials with each remainder of the dynamic sizes modulo `period`; one, if all are fixed.

        Empty if the network refuses one of these sizes, or exceeds the work limit.
        """
        if period not in self._residues:
            tried = choices.residues(self._keys, period) if self._keys else [{}]
            too_much = len(self._skeleton.graph.node) * len(tried) > _MOST_STEPS
            self._residues[period] = [] if too_much else self._taken(tried)
        return self._residues[period]

    def at(self, sizes: Mapping[str, int]) -> tuple[Trial, Refusal | None]:
        """Concrete shapes of the values, by name, and the first node that refuses them.

        sizes : of the dynamic axes, by key as in choices.keys; 1 where left out.
        """
        chosen = {key: 1 for key, _ in self._keys} | dict(sizes)
        inferred, exact, refusal = inferred_with_refusal(resized(self._skeleton, chosen))
        return _concrete(inferred, _typed(exact)), refusal

    def _taken(self, tried: list[dict[str, int]]) -> list[Trial]:
        found = []
        for sizes in tried:
            try:
                inferred = infer(resized(self._skeleton, sizes), strict=True)
            except Exception:  # of many types
                return []
            found.append(_concrete(inferred, _followed(inferred)))
        return found

    @cached_property
    def _keys(self) -> list[tuple[str, int]]:
        inputs = self._model.graph.inputs
        return [key for value in inputs for key in choices.keys(str(value.name), _sizes(value.shape or ()))]

    @cached_property
    def _resized(self) -> list[onnx.ModelProto]:
        """Inference at the sizes that the whole network accepts.

        If it accepts none: at all sizes. Then the values behind a failing node are unknown.
        """
        tried = [resized(self._skeleton, sizes) for sizes in choices.sizes(self._keys)]
        taken = []
        for model in tried:
            try:
                taken.append(infer(model, strict=True))
            except Exception:  # of many types
                continue
        return taken or [infer(model) for model in tried]

    @cached_property
    def _exact(self) -> list[Exact]:
        return [_followed(inferred) for inferred in self._resized]

    @property
    def _is_dynamic(self) -> bool:
        return bool(self._keys)

    @cached_property
    def _skeleton(self) -> onnx.ModelProto:
        return skeleton(self._model)

    @cached_property
    def _whole(self) -> onnx.ModelProto:
        return infer(self._skeleton)

    @cached_property
    def _inferred(self) -> dict[ir.Value, onnx.TypeProto]:
        return dict(_values(self._model.graph, self._whole.graph))

    @cached_property
    def _calls(self) -> dict[Identifier, list[dict[str, Known]]]:
        found: dict[Identifier, list[dict[str, Known]]] = {}
        functions = functions_of(self._skeleton)
        seen: set[bytes] = set()
        waiting = [self._whole.graph]
        while waiting:
            for node, scope in _scoped(waiting.pop(), ChainMap()):
                if identifier(node) in functions:
                    body = body_of(functions, node, scope)
                    if (key := body.SerializeToString(deterministic=True)) not in seen:
                        seen.add(key)
                        inferred = infer(body).graph
                        found.setdefault(identifier(node), []).append(_by_name(_infos(inferred)))
                        waiting.append(inferred)
        return found


def _sizes(shape: Iterable[int | ir.SymbolicDim]) -> Dims:
    """Sizes as declared. A negative one is unknown, as in ONNX Runtime."""
    return tuple(d.value if isinstance(d, ir.SymbolicDim) else d if d >= 0 else None for d in shape)


def is_open(dims: Dims | None) -> bool:
    """Whether a size is unknown and has no name from the file."""
    return dims is None or any(d is None or _is_invented(d) for d in dims)


def _is_invented(dim: int | str | None) -> bool:
    return str(dim).startswith(_INVENTED)


def _closer(dims: Dims | None, known: Known | None) -> Dims | None:
    """`dims` with the known sizes filled in."""
    if dims is None or known is None or len(dims) != len(known[1]):
        return dims if known is None or dims is not None else known[1]
    return tuple(d if isinstance(d, int) else k or d for d, k in zip(dims, known[1], strict=True))


def _filled(dims: Dims | None, given: Dims) -> Dims:
    """`dims` with unknown axes taken from `given`."""
    if dims is None or len(dims) != len(given):
        return given if dims is None else dims
    return tuple(g if is_open((d,)) else d for d, g in zip(dims, given, strict=True))


def _followed(inferred: onnx.ModelProto) -> Exact:
    return _typed(propagate(inferred))


def _typed(exact: Mapping[str, tuple[int, StaticShape]]) -> Exact:
    return {name: (ir.DataType(dtype), dims) for name, (dtype, dims) in exact.items()}


def _concrete(inferred: onnx.ModelProto, exact: Exact) -> Trial:
    named = _by_name(_infos(inferred.graph)).items()
    fixed = {name: tuple(d for d in dims if isinstance(d, int)) for name, (_, dims) in named}
    whole = {name: fixed[name] for name, (_, dims) in named if len(fixed[name]) == len(dims)}
    return {name: dims for name, (_, dims) in exact.items()} | whole


def _known(kind: onnx.TypeProto | None) -> Known | None:
    if kind is None or not kind.tensor_type.HasField("shape"):
        return None
    return ir.DataType(kind.tensor_type.elem_type), dims_of(kind)


def _infos(graph: onnx.GraphProto) -> Iterator[tuple[str, Known]]:
    """Every value with a known shape, by name, including subgraphs."""
    for part in inside(graph):
        for info in (*part.input, *part.value_info, *part.output):
            if (known := _known(info.type)) is not None:
                yield info.name, known


def _by_name(found: Iterable[tuple[str, Known]]) -> dict[str, Known]:
    """The names that have one type and shape everywhere."""
    named: dict[str, Known] = {}
    twice = {name for name, known in found if named.setdefault(name, known) != known}
    return {name: known for name, known in named.items() if name not in twice}


def _values(graph: ir.Graph, twin: onnx.GraphProto) -> Iterator[tuple[ir.Value, onnx.TypeProto]]:
    """Values of `graph`, with their types inferred on its twin, including subgraphs."""
    infos = {info.name: info.type for info in (*twin.input, *twin.value_info, *twin.output)}
    for value in (*graph.inputs, *(value for node in graph for value in node.outputs)):
        if value.name in infos:
            yield value, infos[value.name]
    for node, other in zip(graph, twin.node, strict=True):
        for attribute in other.attribute:
            if attribute.HasField("g") and attribute.name in node.attributes:
                yield from _values(node.attributes[attribute.name].as_graph(), attribute.g)


def _scoped(graph: onnx.GraphProto, outer: NestedScope) -> Iterator[tuple[onnx.NodeProto, NestedScope]]:
    """Every node, with the types and constants in its scope."""
    scope = outer.new_child()
    scope.update((info.name, info.type) for info in (*graph.input, *graph.value_info, *graph.output))
    scope.update((tensor.name, tensor) for tensor in graph.initializer)
    for node in graph.node:
        if node.op_type == "Constant" and not node.domain and node.attribute and node.attribute[0].name == "value":
            scope[node.output[0]] = node.attribute[0].t
        yield node, scope
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _scoped(attribute.g, scope)
