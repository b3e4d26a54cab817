"""Our operators on 8-bit integers, with the channels last: their inputs, and what they stand for.

    x, x_scale, x_zero_point[, scale, bias][, residual, residual_scale, residual_zero_point], y_scale, y_zero_point

x, residual and y : (N, H, W, C), all uint8 or all int8. A node stands for DequantizeLinear, the float operator of the
same name, and QuantizeLinear, with a Transpose around each map. ONNX Runtime's integer convolutions have their
channels last too, between Transpose nodes of its own, so those between two neighbours cancel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
import onnx_ir as ir

from simam_deploy.formula import DEFAULT_LAMBDA, INT8_DOMAIN, OP_DOMAIN, OP_VERSION, OPS

CHANNELS_LAST, CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
"""Permutations of (N, C, H, W), and back."""
ROUNDING = ("scale", "zero_point")
LAST = "/channels_last"
"""Behind the name of y in the float network, the name of what a node of ours makes of it."""


def names(name: str) -> list[str]:
    """Names of the inputs of an operator. name : in formula.OPS."""
    op = OPS[name]
    maps = ["x", *(["residual"] if op.residual else [])]
    rounded = {held: [held, *(f"{held}_{part}" for part in ROUNDING)] for held in (*maps, "y")}
    parameters = ["scale", "bias"] if op.affine else []
    return [*rounded["x"], *parameters, *rounded.get("residual", []), *rounded["y"][1:]]


def definition(name: str, opset: int) -> ir.Function:
    """Fallback definition of an operator. name : in formula.OPS.  opset : of the default domain, from 13 on."""
    inputs = {held: ir.Value(name=held) for held in names(name)}
    e_lambda = ir.RefAttr("e_lambda", "e_lambda", ir.AttributeType.FLOAT)
    nodes = _nodes(name, inputs, e_lambda, {held: held for held in ("simam", "y")}, "")
    imports = {"": opset, OP_DOMAIN: OP_VERSION}
    graph = ir.Graph([*inputs.values()], nodes[-1].outputs, nodes=nodes, opset_imports=imports, name=name)
    return ir.Function(INT8_DOMAIN, name, graph=graph, attributes=[ir.AttrFloat32("e_lambda", DEFAULT_LAMBDA)])


def is_ours(node: ir.Node) -> bool:
    """Whether `node` has the name of such an operator."""
    return node.domain == INT8_DOMAIN and node.op_type in OPS


def differs(function: onnx.FunctionProto) -> bool:
    """Whether a function in a file with the name of such an operator is not its definition."""
    opset = next((entry.version for entry in function.opset_import if not entry.domain), 0)
    return _signature(function) != _signature(ir.to_proto(definition(function.name, opset)))


def opened(model: ir.Model) -> ir.Model:
    """A copy with each node replaced by what it stands for, or `model` itself if it has none.

    Nodes whose function in the file is another one or missing, with other inputs, or in functions, stay.
    """
    ours = [node.op_identifier() for node in model.graph.all_nodes() if _is_whole(node)]
    known = {name for name in {*ours} & model.functions.keys() if not differs(ir.to_proto(model.functions[name]))}
    if not known:
        return model
    copy = model.clone()
    taken = {value.name for node in copy.graph.all_nodes() for value in node.outputs}
    for node in list(copy.graph.all_nodes()):
        if node.op_identifier() in known and _is_whole(node):
            _open(node, taken)
    scopes: list[ir.Graph | ir.Function] = [copy.graph, *copy.functions.values()]
    for identifier in known - {node.op_identifier() for scope in scopes for node in scope.all_nodes()}:
        del copy.functions[identifier]
    copy.graph.opset_imports.setdefault(OP_DOMAIN, OP_VERSION)
    if not any(function.domain == INT8_DOMAIN for function in copy.functions.values()):
        copy.graph.opset_imports.pop(INT8_DOMAIN, None)
    return copy


def _is_whole(node: ir.Node) -> bool:
    """Whether `node` is an operator of ours with all its inputs and one output."""
    if not is_ours(node) or len(node.outputs) != 1:
        return False
    return None not in node.inputs and len(node.inputs) == len(names(node.op_type))


def _open(node: ir.Node, taken: set[str | None]) -> None:
    """Replace a node in its graph. taken : names of values."""
    inputs = {held: value for held, value in zip(names(node.op_type), node.inputs, strict=True) if value is not None}
    e_lambda = node.attributes.get("e_lambda", ir.AttrFloat32("e_lambda", DEFAULT_LAMBDA))
    before = node.outputs[0]
    y = str(before.name).removesuffix(LAST)
    y = f"{before.name}/float" if y in taken else y
    made = _nodes(node.op_type, inputs, e_lambda, {"simam": y, "y": str(before.name)}, f"{before.name}/")
    simam = next(new for new in made if new.domain == OP_DOMAIN)
    simam.name = node.name
    graph = node.graph
    assert graph is not None
    graph.insert_before(node, made)
    made[-1].outputs[0].type, made[-1].outputs[0].shape = before.type, before.shape
    before.replace_all_uses_with(made[-1].outputs[0], replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _nodes(
    name: str, inputs: Mapping[str, ir.Value], e_lambda: ir.Attr, results: Mapping[str, str], prefix: str
) -> list[ir.Node]:
    """What a node stands for. results : names of the float y and of the integer one.  prefix : of other names."""
    made: list[ir.Node] = []

    def op(kind: str, given: Sequence[ir.Value], result: str, *attributes: ir.Attr, domain: str = "") -> ir.Value:
        made.append(ir.Node(domain, kind, given, attributes, name=result))
        made[-1].outputs[0].name = result
        return made[-1].outputs[0]

    def floats(held: str) -> ir.Value:
        first = op("Transpose", [inputs[held]], f"{prefix}{held}_first", ir.AttrInt64s("perm", CHANNELS_FIRST))
        rounding = (inputs[f"{held}_{part}"] for part in ROUNDING)
        return op("DequantizeLinear", [first, *rounding], f"{prefix}{held}_float")

    given = [floats("x")]
    if OPS[name].affine:
        given += [inputs["scale"], inputs["bias"]]
    if OPS[name].residual:
        given.append(floats("residual"))
    y = op(name, given, results["simam"], e_lambda, domain=OP_DOMAIN)
    first = op("QuantizeLinear", [y, *(inputs[f"y_{part}"] for part in ROUNDING)], f"{prefix}y_first")
    op("Transpose", [first], results["y"], ir.AttrInt64s("perm", CHANNELS_LAST))
    return made


def _signature(function: onnx.FunctionProto) -> tuple[object, ...]:
    """All that a function computes with."""
    nodes = [
        (
            *(node.domain, node.op_type, node.overload, *node.input, None, *node.output),
            *sorted(a.SerializeToString(deterministic=True) for a in map(_bare, node.attribute)),
        )
        for node in function.node
    ]
    defaults = [_bare(attribute).SerializeToString(deterministic=True) for attribute in function.attribute_proto]
    return (*function.input, None, *function.output, None, *function.attribute, None, *defaults, *nodes)


def _bare(attribute: onnx.AttributeProto) -> onnx.AttributeProto:
    copy = onnx.AttributeProto()
    copy.CopyFrom(attribute)
    copy.ClearField("doc_string")
    return copy
