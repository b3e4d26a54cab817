"""Shapes and types of every value of an ONNX model, as declared, or inferred for input sizes of our choice."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator
from functools import cached_property

import onnx
import onnx_ir as ir

from simam_deploy.onnx_file.external import in_memory
from simam_deploy.onnx_file.stream import without_values
from simam_deploy.shapes.calls import Identifier, body_of, functions_of, identifier
from simam_deploy.shapes.ort_ops import stand_in
from simam_deploy.shapes.propagate import propagate
from simam_deploy.walk import graphs, inside, nodes

Dims = tuple[int | str | None, ...]
Known = tuple[ir.DataType, Dims]
"""Element type and shape of a value."""
Scope = ChainMap[str, onnx.TypeProto | onnx.TensorProto]
_TRIALS = ((64, 96), (128, 64), (71, 57), (224, 160))
"""Sizes for dynamic dimensions behind the first, in turn. Three are multiples of 32, which most networks need; an odd
one shows rounding, where a network takes it. No two have the same product: sizes are multiplied."""
_INVENTED = "unk__"
"""What onnx's inference calls a size that it cannot follow."""
_LARGEST_CONSTANT = 1024
"""Bytes; shapes are computed from constants, but not from larger ones. Those are left out of what is inferred on."""


class Shapes:
    """What is known of the sizes in a model. The model is not changed; inference runs when it is first needed."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model

    def declared(self, value: ir.Value) -> Dims | None:
        """Shape of `value`: a number, a name or None per axis; None if unknown.

        That of an inner value is inferred from the inputs, as the file may hold those of other inputs. The file is
        believed where inference knows nothing of an axis.
        """
        given = None if value.shape is None else _sizes(value.shape)
        inferred = None if value.producer() is None else _known(self._inferred.get(value))
        dims = given if value.producer() is None else None if inferred is None else inferred[1]
        if is_open(dims):
            followed = self._followed(value)
            dims = _closer(dims, followed)
            if followed is not None and given is not None:  # an axis that does not stay has no number
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
        """What following the sizes at every trial says of a value in the main graph: an axis is fixed that stays."""
        node = value.producer()
        if node is None or node.graph is not self._model.graph:
            return None
        known = [trial.get(str(value.name)) for trial in self._exact]
        if len(known) < 2 and self._is_dynamic:  # one size tells nothing of which axes stay
            return None
        shapes = {k[1] for k in known if k is not None}
        if not shapes or None in known or len({len(shape) for shape in shapes}) > 1:
            return None
        axes = zip(*shapes, strict=True)
        return known[0][0], tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in axes)  # type: ignore[index]

    def inside(self, function: ir.Function) -> list[dict[str, Known]]:
        """The values in the body of `function`, by name, once for each call that differs from the others in types,
        shapes or attributes; also for calls from sub-graphs and other functions. Empty if it is never called."""
        return self._calls.get(function.identifier(), [])

    @cached_property
    def trials(self) -> list[dict[str, tuple[int, ...]]]:
        """Concrete shapes of the values, by name, at several sizes of the dynamic inputs (one, if all are fixed).

        Sub-graphs included; a name that has two shapes there, as in two branches of an If, is left out.
        """
        found = []
        for inferred, exact in zip(self._resized, self._exact, strict=True):
            named = _by_name(_infos(inferred.graph)).items()
            fixed = {name: tuple(d for d in dims if isinstance(d, int)) for name, (_, dims) in named}
            whole = {name: fixed[name] for name, (_, dims) in named if len(fixed[name]) == len(dims)}
            found.append({name: dims for name, (_, dims) in exact.items()} | whole)
        return found

    @cached_property
    def _resized(self) -> list[onnx.ModelProto]:
        """Inferred at the sizes that the whole network takes. Where it takes none, at all of them: what fails is
        unknown there, and the sizes in front of it hold."""
        tried = [_resized(self._skeleton, sizes) for sizes in _choices(self._model)]
        taken = []
        for model in tried:
            try:
                taken.append(_infer(model, strict=True))
            except Exception:  # of many types
                continue
        return taken or [_infer(model) for model in tried]

    @cached_property
    def _exact(self) -> list[dict[str, tuple[ir.DataType, tuple[int, ...]]]]:
        return [
            {name: (ir.DataType(dtype), dims) for name, (dtype, dims) in propagate(inferred).items()}
            for inferred in self._resized
        ]

    @cached_property
    def _is_dynamic(self) -> bool:
        return next(_choices(self._model)) != {}

    @cached_property
    def _skeleton(self) -> onnx.ModelProto:
        return _skeleton(self._model)

    @cached_property
    def _whole(self) -> onnx.ModelProto:
        return _infer(self._skeleton)

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
                        inferred = _infer(body).graph
                        found.setdefault(identifier(node), []).append(_by_name(_infos(inferred)))
                        waiting.append(inferred)
        return found


def _sizes(shape: Iterable[int | ir.SymbolicDim]) -> Dims:
    """As the file declares them; ONNX Runtime takes any number below 0 as not known."""
    return tuple(d.value if isinstance(d, ir.SymbolicDim) else d if d >= 0 else None for d in shape)


def is_open(dims: Dims | None) -> bool:
    """Whether a size is not known, nor named by whoever made the file."""
    return dims is None or any(d is None or _is_invented(d) for d in dims)


def _is_invented(dim: int | str | None) -> bool:
    return str(dim).startswith(_INVENTED)


def _closer(dims: Dims | None, known: Known | None) -> Dims | None:
    """`dims` with the sizes that are known."""
    if dims is None or known is None or len(dims) != len(known[1]):
        return dims if known is None or dims is not None else known[1]
    return tuple(d if isinstance(d, int) else k or d for d, k in zip(dims, known[1], strict=True))


def _filled(dims: Dims | None, given: Dims) -> Dims:
    """`dims` with what is given of the axes that are not known."""
    if dims is None or len(dims) != len(given):
        return given if dims is None else dims
    return tuple(g if is_open((d,)) else d for d, g in zip(dims, given, strict=True))


def _choices(model: ir.Model) -> Iterator[dict[str, int]]:
    """Sizes for each dynamic dimension, by its key."""
    keys = [key for value in model.graph.inputs for key in _dynamic_keys(str(value.name), _sizes(value.shape or ()))]
    if not keys:
        yield {}
        return
    for batch, (a, b) in zip((2, 5, 3, 4), _TRIALS, strict=True):
        sizes: dict[str, int] = {}
        later = 0
        for key, axis in keys:
            if key not in sizes:
                sizes[key] = batch if axis == 0 else (a, b)[later % 2]
                later += axis != 0
        yield sizes
    if len({key for key, axis in keys if axis}) > 2:  # sizes that are called different things are different
        names = dict.fromkeys(key for key, axis in keys if axis)
        yield {key: 2 for key, axis in keys if not axis} | {key: 64 + 32 * i for i, key in enumerate(names)}


def _dynamic_keys(name: str, dims: Dims) -> Iterator[tuple[str, int]]:
    for axis, dim in enumerate(dims):
        if not isinstance(dim, int):
            yield dim or f"{name}[{axis}]", axis


def _skeleton(model: ir.Model) -> onnx.ModelProto:
    """The model as shape inference can take it: without the values of weights, with standard operators in place of
    ONNX Runtime's own, and without inner shapes that can be inferred. Nodes keep their order."""
    copy = model.clone()
    functions = list(copy.functions.values())
    for graph in (*copy.graphs(), *(graph for function in functions for graph in function.subgraphs())):
        for value in graph.initializers.values():
            if value.const_value is not None:
                value.const_value = _light(value.const_value)
    for part in (copy.graph.all_nodes(), *(function.all_nodes() for function in functions)):
        for node in part:
            for name, attribute in list(node.attributes.items()):
                if attribute.type is ir.AttributeType.TENSOR and not attribute.is_ref():
                    node.attributes[name] = ir.AttrTensor(name, _light(attribute.as_tensor()))
    proto = ir.to_proto(copy)
    opset = model.opset_imports.get("", 0)
    bodies = {(function.domain, function.name) for function in proto.functions}
    for scope in (*graphs(proto), *proto.functions):
        stand_in(scope, opset, bodies)
    values = (v for graph in graphs(proto) for v in (*graph.input, *graph.value_info, *graph.output))
    for dim in (dim for value in values for dim in value.type.tensor_type.shape.dim):
        if dim.dim_value < 0:
            dim.ClearField("dim_value")
    for scope in (*graphs(proto), *proto.functions):
        _forget(scope, bodies)
    _import_all(proto, proto.graph.node, opset)
    for function in proto.functions:
        _import_all(function, function.node, opset)
    return proto


def _forget(scope: onnx.GraphProto | onnx.FunctionProto, bodies: set[tuple[str, str]]) -> None:
    """Leave out the declared shapes, but for the outputs of operators that inference does not know."""
    kept = {
        name
        for node in scope.node
        if (node.domain, node.op_type) not in bodies and not onnx.defs.has(node.op_type, node.domain)
        for name in node.output
    }
    for at, value in reversed(list(enumerate(scope.value_info))):
        if value.name not in kept:
            del scope.value_info[at]
    for value in scope.output if isinstance(scope, onnx.GraphProto) else ():
        if value.name not in kept and value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")


def _import_all(scope: onnx.ModelProto | onnx.FunctionProto, sequence: Iterable[onnx.NodeProto], opset: int) -> None:
    """Import every domain that nodes are of: without an import, inference gives up all, and not that node alone."""
    graph = onnx.ModelProto(graph=onnx.GraphProto(node=sequence))
    for domain in {node.domain for node in nodes(graph)} - {entry.domain for entry in scope.opset_import}:
        scope.opset_import.add(domain=domain, version=1 if domain else opset)


def _light(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """The tensor, or where it is large one without values: it says that they are in a file, which nobody opens."""
    if tensor.dtype is ir.DataType.STRING or tensor.nbytes > _LARGEST_CONSTANT:
        return without_values(tensor)
    return in_memory(tensor) if isinstance(tensor, ir.ExternalTensor) else tensor


def _infer(model: onnx.ModelProto, *, strict: bool = False) -> onnx.ModelProto:
    """strict : raise for a node that does not take its inputs; otherwise what it makes is unknown, and no more.

    A type or a rank that the file declares and inference contradicts is not believed then, as in ONNX Runtime.
    """
    try:
        return onnx.shape_inference.infer_shapes(model, strict_mode=strict, data_prop=True)
    except Exception:  # of many types
        if strict:
            raise
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for scope in (*graphs(bare), *bare.functions):
        del scope.value_info[:]
        for value in scope.output if isinstance(scope, onnx.GraphProto) else ():
            value.ClearField("type")
    try:
        return onnx.shape_inference.infer_shapes(bare, data_prop=True)
    except Exception:  # nothing is known but what propagate.py makes of it
        return bare


def _resized(skeleton: onnx.ModelProto, sizes: dict[str, int]) -> onnx.ModelProto:
    """A copy whose inputs have these sizes, and where nothing else has any."""
    proto = onnx.ModelProto()
    proto.CopyFrom(skeleton)
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        keys = dict((axis, key) for key, axis in _dynamic_keys(value.name, tuple(_dim(d) for d in dims)))
        for axis, key in keys.items():
            dims[axis].dim_value = sizes[key]
    for graph in graphs(proto):
        for i, value in reversed(list(enumerate(graph.value_info))):
            if sizes or any(not d.HasField("dim_value") for d in value.type.tensor_type.shape.dim):
                del graph.value_info[i]
        for value in graph.output if sizes else ():
            value.type.tensor_type.ClearField("shape")
    return proto


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    return dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None


def _known(kind: onnx.TypeProto | None) -> Known | None:
    if kind is None or not kind.tensor_type.HasField("shape"):
        return None
    return ir.DataType(kind.tensor_type.elem_type), tuple(_dim(d) for d in kind.tensor_type.shape.dim)


def _infos(graph: onnx.GraphProto) -> Iterator[tuple[str, Known]]:
    """Every value with a known shape, by name, sub-graphs included."""
    for part in inside(graph):
        for info in (*part.input, *part.value_info, *part.output):
            if (known := _known(info.type)) is not None:
                yield info.name, known


def _by_name(found: Iterable[tuple[str, Known]]) -> dict[str, Known]:
    """Those whose name means one thing."""
    named: dict[str, Known] = {}
    twice = {name for name, known in found if named.setdefault(name, known) != known}
    return {name: known for name, known in named.items() if name not in twice}


def _values(graph: ir.Graph, twin: onnx.GraphProto) -> Iterator[tuple[ir.Value, onnx.TypeProto]]:
    """The values of `graph` as inference on its twin knows them, sub-graphs included."""
    infos = {info.name: info.type for info in (*twin.input, *twin.value_info, *twin.output)}
    for value in (*graph.inputs, *(value for node in graph for value in node.outputs)):
        if value.name in infos:
            yield value, infos[value.name]
    for node, other in zip(graph, twin.node, strict=True):
        for attribute in other.attribute:
            if attribute.HasField("g") and attribute.name in node.attributes:
                yield from _values(node.attributes[attribute.name].as_graph(), attribute.g)


def _scoped(graph: onnx.GraphProto, outer: Scope) -> Iterator[tuple[onnx.NodeProto, Scope]]:
    """Every node, with the types and constants that it sees."""
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
