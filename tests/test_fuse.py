"""ONNX model in, ONNX model in a form out: numbers, names, what stays and what goes."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_models import CHAIN, again, model

from simam_deploy import onnx_file
from simam_deploy.errors import FormError, InputError, NoBlockError, OutputError
from simam_deploy.forms import FORMS, alone
from simam_deploy.formula import tolerance
from simam_deploy.fuse import fuse, fuse_file
from simam_deploy.runtimes import open_session

IMAGE = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)


def data(what: ir.Model) -> bytes:
    return ir.to_proto(what).SerializeToString(deterministic=True)


def run(what: ir.Model, folder: Path, runtime: str = "ort") -> np.ndarray:
    onnx_file.save(what, folder / "run.onnx")
    with open_session(folder / "run.onnx", runtime) as session:
        (out,) = session.run({"image": IMAGE}).values()
        return out


@pytest.mark.parametrize("form", FORMS)
def test_each_form_keeps_the_numbers(form: str, tmp_path: Path) -> None:
    source = model(lam=0.1)
    fused = fuse(source, form)
    runtime = "onnx_reference" if form == "custom_op" else "ort"
    bound = 2 * tolerance(np.maximum(IMAGE, 0), np.float32, 0.1)
    assert (np.abs(run(fused.model, tmp_path, runtime) - run(source, tmp_path)) <= bound).all()


@pytest.mark.parametrize("there", FORMS)
@pytest.mark.parametrize("back", FORMS)
def test_every_form_becomes_every_other_one(there: str, back: str) -> None:
    """Through any form and back: the same file as the direct way, but for λ through instance_norm's epsilon."""
    direct = fuse(model(), back).model
    around = fuse(fuse(model(), there).model, back)
    assert around.rows[0].found == there
    assert around.rows[0].e_lambda == pytest.approx(1e-4, rel=1e-6)
    if there != "instance_norm":
        assert data(around.model) == data(direct)


@pytest.mark.usefixtures("no_library")  # the body is compared, not the kernel
@pytest.mark.parametrize("shape", ["2, 3, 5, 7", "n, 3, h, w"])
def test_primitive_function_primitive_is_bit_equal(shape: str, tmp_path: Path) -> None:
    if shape.startswith("n"):
        chain = "\n".join(
            ["m_shape = Shape (x)", "hw_size = Gather (m_shape, hw)", "m = ReduceProd <keepdims: int = 0> (hw_size)",
             "one = Constant <value_int = 1> ()", "n_int = Sub (m, one)", "n_x = Cast <to: int = 1> (n_int)"]
        ) + CHAIN.replace("(s, n)", "(s, n_x)")  # fmt: skip
        primitive = fuse(model(chain, shape=shape), "primitive").model
    else:
        primitive = fuse(model(), "primitive").model
    function = fuse(primitive, "function").model
    again = fuse(function, "primitive").model
    assert [f.name for f in function.functions.values()] == ["SimAM"]
    np.testing.assert_array_equal(run(function, tmp_path), run(primitive, tmp_path))
    np.testing.assert_array_equal(run(again, tmp_path), run(primitive, tmp_path))


@pytest.mark.parametrize("form", FORMS)
def test_fusing_twice_gives_the_same_file(form: str) -> None:
    once = fuse(model(), form).model
    assert data(fuse(once, form).model) == data(once)


def test_the_source_is_not_changed() -> None:
    source = model()
    before = data(source)
    fuse(source, "function")
    assert data(source) == before


def test_everything_outside_keeps_nodes_names_weights_and_metadata() -> None:
    weights = "float[3, 3, 1, 1] kernel = {1, 0, 0, 0, 1, 0, 0, 0, 1},"
    source = model(before="w = Conv (image, kernel)\n x = Relu (w)", weights=weights)
    kernel = source.graph.initializers["kernel"]
    source.metadata_props["task"] = "detect"
    source.doc_string, source.producer_name, source.graph.name = "doc", "somebody", "net"
    source.graph[0].metadata_props["origin"] = "conv1"
    fused = fuse(source, "function").model
    assert [(n.op_type, n.name) for n in fused.graph] == [
        ("Conv", "Conv_0"), ("Relu", "Relu_1"), ("SimAM", "Mul_12"), ("Relu", "Relu_13")
    ]  # fmt: skip
    assert [v.name for v in (*fused.graph.inputs, *fused.graph.outputs)] == ["image", "out"]
    assert list(fused.graph.initializers) == ["kernel"], "what the block alone used is gone"
    assert fused.graph.initializers["kernel"].const_value is kernel.const_value
    assert fused.metadata_props == {"task": "detect"}
    assert (fused.doc_string, fused.producer_name, fused.graph.name) == ("doc", "somebody", "net")
    assert fused.graph[0].metadata_props["origin"] == "conv1"
    assert fused.opset_imports == {"": 18, "simam": 1}


def test_constants_shared_with_others_stay() -> None:
    fused = fuse(model(after="out = Mul (y, four)"), "function").model
    assert list(fused.graph.initializers) == ["four"]


@pytest.mark.parametrize("form", FORMS)
def test_a_block_at_the_edges_of_the_graph(form: str, tmp_path: Path) -> None:
    """x is the graph's input and y its output: their names are the interface and stay."""
    fused = fuse(alone("primitive", (2, 3, 5, 7)), form).model
    assert [v.name for v in (*fused.graph.inputs, *fused.graph.outputs)] == ["x", "y"]
    onnx.checker.check_model(ir.to_proto(fused), full_check=True)


def test_two_blocks_share_one_body_and_keep_their_lambda() -> None:
    first = CHAIN.replace("y = Mul (x, g)", "y1 = Mul (x, g)")
    second = CHAIN.replace(" x", " y1").replace("(x", "(y1")
    source = model(CHAIN.replace("y = Mul", "y1 = Mul") + again("y1", "y"))
    fused = fuse(source, form)
    assert len(fused.rows) == 2
    onnx.checker.check_model(ir.to_proto(fused.model))
    assert data(fuse(fused.model, form).model) == data(fused.model)
    runtime = "onnx_reference" if form == "custom_op" else "ort"
    np.testing.assert_allclose(run(fused.model, tmp_path, runtime), run(source, tmp_path), atol=2e-6)


@pytest.mark.parametrize("there", FORMS)
def test_two_blocks_in_a_file_that_tells_no_types_come_back(there: str) -> None:
    """Of a node without a body no inference can tell them, but it keeps those of x."""
    source = model(f"{CHAIN} x2 = Relu (y) {again('x2', 'y2')}", after="out = Relu (y2)")
    there_and_back = fuse(fuse(source, there).model, "primitive")
    assert len(there_and_back.rows) == 2
