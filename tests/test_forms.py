"""Every form on every runtime computes SimAM within the tolerance; and what each form writes."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from cases import INPUTS, LAMBDAS, SHAPES, make

from simam_deploy import onnx_file
from simam_deploy.errors import FormError, InputError
from simam_deploy.formula import reference, tolerance
from simam_deploy.forms import FORMS, alone, form_named
from simam_deploy.runtimes import open_session

RUNTIMES = ["onnx_reference", "ort", "openvino"]
PAIRS = [(form, runtime) for form in FORMS for runtime in RUNTIMES if form != "custom_op" or runtime == "onnx_reference"]


@pytest.mark.parametrize("e_lambda", LAMBDAS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("form", "runtime"), PAIRS)
def test_within_tolerance(
    tmp_path: Path, form: str, runtime: str, shape: tuple[int, int, int, int], e_lambda: float
) -> None:
    path = tmp_path / "simam.onnx"
    onnx_file.save(alone(form, shape, e_lambda), path)
    with open_session(path, runtime) as session:
        for name in INPUTS:
            x = make(name, shape)
            y = session.run({"x": x})["y"]
            share = np.abs(y - reference(x, e_lambda)) / tolerance(x, np.float32, e_lambda)
            assert share.max() <= 1, f"{name}: {share.max():.2f} of the tolerance"


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("form", ["function", "primitive"])
def test_dynamic_sizes_in_one_session(tmp_path: Path, form: str, runtime: str) -> None:
    path = tmp_path / "simam.onnx"
    onnx_file.save(alone(form, ("n", "c", "h", "w"), 0.1), path)
    with open_session(path, runtime) as session:
        for shape in [(1, 3, 5, 7), (2, 1, 1, 2), (3, 4, 20, 9)]:
            x = make("faint", shape)
            y = session.run({"x": x})["y"]
            assert (np.abs(y - reference(x, 0.1)) <= tolerance(x, np.float32, 0.1)).all()


def test_a_wrong_constant_would_show(tmp_path: Path) -> None:
    """The bound above can fail: the population variance, in the primitive form, is outside of it."""
    model = alone("primitive", (2, 3, 5, 7), 1e-4)
    n = next(node for node in model.graph if node.name == "simam/n")
    n.attributes["value"] = ir.AttrTensor("value", ir.tensor(np.float32(35)))
    onnx_file.save(model, tmp_path / "wrong.onnx")
    x = make("plain", (2, 3, 5, 7))
    with open_session(tmp_path / "wrong.onnx", "ort") as session:
        y = session.run({"x": x})["y"]
    assert (np.abs(y - reference(x)) / tolerance(x, np.float32)).max() > 100


NODES = {
    "function": ["SimAM"],
    "custom_op": ["SimAM"],
    "instance_norm": ["InstanceNormalization", "Mul", "Add", "Sigmoid", "Mul"],
    "primitive": "ReduceMean Sub Mul ReduceSum Div Add Mul Div Add Sigmoid Mul".split(),
}


@pytest.mark.parametrize("form", FORMS)
def test_operators(form: str) -> None:
    model = alone(form, (2, 3, 5, 7))
    assert [node.op_type for node in model.graph if node.op_type != "Constant"] == NODES[form]
    assert len(model.functions) == (form == "function")


def test_m_minus_1_comes_from_the_shape_of_x_as_an_integer() -> None:
    model = alone("primitive", (2, 3, "h", 7))
    operators = [node.op_type for node in model.graph if node.op_type != "Constant"]
    assert operators[:5] == ["Shape", "Gather", "ReduceProd", "Sub", "Cast"]
    assert next(iter(model.graph)).inputs[0] is model.graph.inputs[0]


@pytest.mark.parametrize("form", ["function", "primitive", "instance_norm"])
@pytest.mark.parametrize("opset", [11, 13, 17, 18, 20, 23])
def test_every_opset_passes_the_strict_checks(form: str, opset: int) -> None:
    if opset < form_named(form).MIN_OPSET:
        with pytest.raises(FormError, match=f"at opset {opset}"):
            alone(form, (2, 3, 5, 7), opset=opset)
        return
    proto = ir.to_proto(alone(form, (2, 3, 5, 7), opset=opset))
    onnx.checker.check_model(proto, full_check=True)
    onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)


def test_shape_inference_sees_through_the_function() -> None:
    model = alone("function", ("n", 3, "h", "w"))
    relu = ir.node("Relu", [model.graph.outputs[0]])
    relu.outputs[0].name, relu.outputs[0].dtype = "z", ir.DataType.FLOAT
    model.graph.append(relu)
    model.graph.outputs[0] = relu.outputs[0]
    inferred = onnx.shape_inference.infer_shapes(ir.to_proto(model), strict_mode=True)
    dims = [d.dim_param or d.dim_value for d in inferred.graph.output[0].type.tensor_type.shape.dim]
    assert dims == ["n", 3, "h", "w"]


@pytest.mark.parametrize("opset", [18, 20])
def test_the_tensorrt_rtx_parser_takes_every_form_with_a_body(opset: int) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    for form in ("function", "primitive", "instance_norm"):
        logger = trt.Logger(trt.Logger.ERROR)
        network = trt.Builder(logger).create_network(0)
        parser = trt.OnnxParser(network, logger)
        proto = ir.to_proto(alone(form, (2, 3, 5, 7), opset=opset))
        errors = [] if parser.parse(proto.SerializeToString()) else [str(parser.get_error(0))]
        assert not errors, form
        if form == "instance_norm":
            kinds = [network.get_layer(i).type for i in range(network.num_layers)]
            assert trt.LayerType.NORMALIZATION in kinds


def test_instance_norm_lists_every_axis_that_is_not_fixed() -> None:
    with pytest.raises(FormError, match=r"C is not fixed, H is not fixed, W is not fixed"):
        alone("instance_norm", (1, "c", "h", "w"))


def test_unknown_form_lists_the_names() -> None:
    with pytest.raises(InputError, match="no form 'fast'; the forms are function, primitive, instance_norm, custom_op"):
        form_named("fast")
