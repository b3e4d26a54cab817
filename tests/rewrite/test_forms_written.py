"""What each form writes: operators, names, the opset; and the blocks that it refuses."""

import onnx
import onnx_ir as ir
import pytest
from helpers.forms import DYNAMIC, carries

from simam_deploy.block import Block
from simam_deploy.errors import FormError, InputError, ShapeError
from simam_deploy.graph.shapes import Dims
from simam_deploy.rewrite.forms import FORMS, alone, form_named

NODES = {
    "function": ["SimAM"],
    "custom_op": ["SimAM"],
    "instance_norm": ["InstanceNormalization", "Mul", "Add", "Sigmoid", "Mul"],
    "primitive": ["ReduceMean", "Sub", "Mul", "ReduceSum", "Div", "Add", "Mul", "Div", "Add", "Sigmoid", "Mul"],
}


@pytest.mark.parametrize("form", FORMS)
def test_operators(form: str) -> None:
    model = alone(form, (2, 3, 5, 7))
    assert [node.op_type for node in model.graph if node.op_type != "Constant"] == NODES[form]
    assert len(model.functions) == (form == "function")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dims", [(2, 3, 35), (2, 3, 5, 7), (2, 3, 2, 5, 7)], ids=str)
def test_a_node_of_ours_names_the_plugin(form: str, dims: Dims) -> None:
    ours = [node for node in alone(form, dims).graph if node.domain == "simam"]
    assert len(ours) == FORMS[form].EPILOGUE
    for node in ours:
        texts = {name: a.as_string() for name, a in node.attributes.items() if name != "e_lambda"}
        assert texts == {"plugin_namespace": "simam", "plugin_version": "1"}


def test_m_minus_1_comes_from_the_shape_of_x_as_an_integer() -> None:
    model = alone("primitive", (2, 3, "h", 7))
    operators = [node.op_type for node in model.graph if node.op_type != "Constant"]
    assert operators[:5] == ["Shape", "Gather", "ReduceProd", "Sub", "Cast"]
    assert next(node for node in model.graph if node.op_type == "Shape").inputs[0] is model.graph.inputs[0]


@pytest.mark.parametrize("form", ["function", "primitive", "instance_norm"])
@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 18, 20, 23])
def test_every_opset_passes_the_strict_checks(form: str, opset: int) -> None:
    proto = ir.to_proto(alone(form, (2, 3, 5, 7), opset=opset))
    onnx.checker.check_model(proto, full_check=True)
    onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)


@pytest.mark.parametrize("dims", [(2, 3, 35), *DYNAMIC, (2, 3, 2, 5, 7)], ids=str)
@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 18, onnx.defs.onnx_opset_version()])
@pytest.mark.parametrize("form", FORMS)
def test_strict_inference_finds_the_shape_of_y_at_other_ranks(form: str, opset: int, dims: Dims) -> None:
    """But behind a Reshape to sizes that are computed, in old opsets: there onnx follows none."""
    if not carries(form, dims):
        with pytest.raises(FormError, match=f"at opset {opset}"):
            alone(form, dims, opset=opset)
        return
    proto = ir.to_proto(alone(form, dims, opset=opset))
    onnx.checker.check_model(proto, full_check=form != "custom_op")
    found = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    assert shape_of_y(found) == dims
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    found = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    constant_sizes = all(isinstance(size, int) for size in dims[3:])
    followed = len(dims) == 3 or form != "function" or opset >= (9 if constant_sizes else 17)
    assert form == "custom_op" or shape_of_y(found) == (dims if followed else ())


def shape_of_y(model: onnx.ModelProto) -> Dims:
    """As inferred: a number, a name, or None, for which inference makes up names."""
    dims = model.graph.output[0].type.tensor_type.shape.dim
    names = [None if d.dim_param.startswith("unk__") else d.dim_param or None for d in dims]
    return tuple(d.dim_value if d.HasField("dim_value") else name for d, name in zip(dims, names, strict=True))


@pytest.mark.parametrize("dtype", [ir.DataType.FLOAT, ir.DataType.FLOAT16])
@pytest.mark.parametrize("dims", [(2, 3, 35), (2, 3, 5, 7), ("n", 3, 2, 5, 7), (2, 3, 2, "h", 7)], ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_names_start_with_that_of_the_block_and_the_last_node_has_it(
    form: str, dims: Dims, dtype: ir.DataType
) -> None:
    if not carries(form, dims):
        return
    x = ir.Value(name="x", type=ir.TensorType(dtype), shape=ir.Shape(dims))
    nodes = form_named(form).nodes(Block("net/block", x, x, dims, dtype, 0.1, form, ()), 18)
    names = [str(node.name) for node in nodes]
    values = [str(node.outputs[0].name) for node in nodes[:-1]]
    assert names[-1] == "net/block"
    assert all(name.startswith("net/block/") for name in names[:-1] + values)
    assert len(set(names)) == len(names)
    assert len(set(values)) == len(values)


@pytest.mark.parametrize(
    ("dims", "around"),
    [
        ((2, 3, 35), ["Unsqueeze", "SimAM", "Squeeze"]),
        (("n", 3, "l"), ["Unsqueeze", "SimAM", "Squeeze"]),
        (("n", 3, "d", 5, 7), ["Reshape", "SimAM", "Reshape"]),
        (("n", 3, 2, "h", 7), ["Shape", "Reshape", "SimAM", "Reshape"]),
    ],
    ids=str,
)
def test_the_op_stays_4d(dims: Dims, around: list[str]) -> None:
    for form in ("function", "custom_op"):
        model = alone(form, dims)
        assert [node.op_type for node in model.graph if node.op_type != "Constant"] == around
        proto = onnx.shape_inference.infer_shapes(ir.to_proto(model), strict_mode=True, data_prop=True)
        (flat,) = [info for info in proto.graph.value_info if info.name == "simam/flat"]
        sizes = [d.dim_value or d.dim_param for d in flat.type.tensor_type.shape.dim]
        assert sizes[:3] == [dims[0], 3, 1] if len(dims) == 3 else sizes[:3] == list(dims[:3])
        assert len(sizes) == 4
    body = [ir.to_proto(alone("function", shape)).functions[0] for shape in (dims, (2, 3, 5, 7))]
    assert body[0] == body[1], "one body serves all ranks"


@pytest.mark.parametrize("dims", [(2, 3, 35), (2, 3, "l"), (2, 3, 2, 5, 7), ("n", 3, "d", "h", "w")], ids=str)
def test_primitive_reshapes_nothing(dims: Dims) -> None:
    operators = [node.op_type for node in alone("primitive", dims).graph if node.op_type != "Constant"]
    sizes = [] if all(isinstance(size, int) for size in dims) else ["Shape", "Gather", "ReduceProd", "Sub", "Cast"]
    assert operators == sizes + NODES["primitive"]


def test_shape_inference_sees_through_the_function() -> None:
    model = alone("function", ("n", 3, "h", "w"))
    relu = ir.node("Relu", [model.graph.outputs[0]])
    relu.outputs[0].name, relu.outputs[0].dtype = "z", ir.DataType.FLOAT
    model.graph.append(relu)
    model.graph.outputs[0] = relu.outputs[0]
    inferred = onnx.shape_inference.infer_shapes(ir.to_proto(model), strict_mode=True)
    dims = [d.dim_param or d.dim_value for d in inferred.graph.output[0].type.tensor_type.shape.dim]
    assert dims == ["n", 3, "h", "w"]


def test_instance_norm_lists_every_axis_that_is_not_fixed() -> None:
    with pytest.raises(FormError, match=r"C is not fixed, H is not fixed, W is not fixed"):
        alone("instance_norm", (1, "c", "h", "w"))


@pytest.mark.parametrize(
    ("dims", "words"),
    [
        ((1, "c", "l"), "C is not fixed, L is not fixed$"),
        ((1, 3, None), ": L is not fixed$"),
        (("n", "c", "d", "h", "w"), "C is not fixed, D is not fixed, H is not fixed, W is not fixed$"),
        (("n", 3, 2, "h", 7), ": H is not fixed$"),
    ],
    ids=str,
)
def test_instance_norm_calls_the_axes_of_other_ranks_by_name(dims: Dims, words: str) -> None:
    with pytest.raises(FormError, match=words):
        alone("instance_norm", dims)


@pytest.mark.parametrize("dims", [(), (2, 3), (2, 3, 2, 2, 5, 7)], ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_ranks_that_are_none(form: str, dims: Dims) -> None:
    with pytest.raises(ShapeError, match=r"takes x of shape \(N, C, L\), .* got \("):
        alone(form, dims)


def test_unknown_form_lists_the_names() -> None:
    with pytest.raises(
        InputError, match="no form 'fast'; the forms are function, primitive, instance_norm, custom_op"
    ):
        form_named("fast")
