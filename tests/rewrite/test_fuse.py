"""ONNX model in, ONNX model in a form out: numbers, names, what stays and what goes."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.onnx_models import CHAIN, again, model

from simam_deploy.errors import FormError, InputError, NoBlockError, OutputError
from simam_deploy.formula import tolerance
from simam_deploy.graph import onnx_file
from simam_deploy.rewrite.forms import FORMS, alone
from simam_deploy.rewrite.fuse import fuse, fuse_file
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


@pytest.mark.parametrize(("h", "w"), [(2, 1), (1, 3), (2, 2), (3, 3), (5, 5), (7, 7), (13, 11), (80, 80)])
@pytest.mark.parametrize("lam", [1e-4, 1e-5, 0.37, 0.12345678, 0.00010001659])
def test_lambda_does_not_drift_as_an_epsilon(h: int, w: int, lam: float) -> None:
    once = fuse(model(shape=f"2, 3, {h}, {w}", n=h * w - 1, lam=lam), "instance_norm").model
    again = fuse(once, "instance_norm")
    assert data(again.model) == data(once)
    assert again.rows[0].e_lambda == pytest.approx(lam, rel=2e-7)


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


def test_two_blocks_share_one_fallback_definition_and_keep_their_lambda() -> None:
    first = CHAIN.replace("y = Mul (x, g)", "y1 = Mul (x, g)")
    second = CHAIN.replace(" x", " y1").replace("(x", "(y1")
    names = ["mean", "c", "d", "s", "v", "t", "q", "e", "z", "g"]
    for name in names:
        second = second.replace(f" {name} =", f" {name}2 =").replace(f"({name},", f"({name}2,")
        second = second.replace(f", {name})", f", {name}2)").replace(f"({name})", f"({name}2)")
    second = second.replace("lam", "lam2")
    fused = fuse(model("lam2 = Constant <value_float = 0.1> ()\n" + first + second), "function")
    assert [row.e_lambda for row in fused.rows] == [pytest.approx(1e-4), pytest.approx(0.1)]
    assert len(fused.model.functions) == 1


def test_function_form_raises_an_old_ir_version_and_says_so() -> None:
    source = model()
    source.ir_version = 7
    fused = fuse(source, "function")
    assert fused.model.ir_version == 8
    assert fused.notes == ("IR version raised from 7 to 8, the first with functions",)
    assert fuse(source, "primitive").model.ir_version == 7


def test_float64_is_refused_where_it_would_be_computed_in_float32() -> None:
    source = model(dtype="double")
    for form in ("function", "custom_op", "instance_norm"):
        with pytest.raises(FormError, match="x is DOUBLE"):
            fuse(source, form)
    constants = {n.outputs[0].dtype for n in fuse(source, "primitive").model.graph if n.op_type == "Constant"}
    assert ir.DataType.FLOAT not in constants


def test_no_block_names_the_nearest_miss() -> None:
    with pytest.raises(NoBlockError, match=r"what came nearest:\nMul_11:\n  .*population variance"):
        fuse(model(n=35))
    with pytest.raises(NoBlockError, match="found no SimAM block, nor anything like one"):
        fuse(model("y = Relu (x)"))


def test_a_near_miss_of_our_own_name_keeps_its_fallback_definition() -> None:
    """Two nodes simam::SimAM, one on 1x1 maps: the file's only body belongs to both."""
    source = alone("function", (2, 3, 5, 7))
    pooled = ir.node("GlobalAveragePool", [source.graph.inputs[0]], name="pool")
    pooled.outputs[0].name = "pooled"
    pooled.outputs[0].type, pooled.outputs[0].shape = source.graph.inputs[0].type, ir.Shape((2, 3, 1, 1))
    small = ir.Node("simam", "SimAM", pooled.outputs, [ir.AttrFloat32("e_lambda", 0.1)], name="small")
    small.outputs[0].name, small.outputs[0].type, small.outputs[0].shape = (
        "z",
        pooled.outputs[0].type,
        ir.Shape((2, 3, 1, 1)),
    )
    source.graph.extend([pooled, small])
    source.graph.outputs.append(small.outputs[0])
    body = next(iter(source.functions.values()))
    fused = fuse(source, "primitive")
    assert [miss.node for miss in fused.near_misses] == ["small"]
    assert [len(list(f)) for f in fused.model.functions.values()] == [len(list(body))]
    assert fused.model.opset_imports["simam"] == 1
    for form in ("function", "custom_op"):
        with pytest.raises(
            FormError, match="would change node 'small', which has the name simam::SimAM and is not SimAM"
        ):
            fuse(source, form)


def test_near_misses_beside_a_block_are_left_alone() -> None:
    other = CHAIN.replace("(x", "(y1").replace("y = Mul", "y = Mul")
    for name in ["mean", "c", "d", "s", "v", "t", "q", "e", "z", "g"]:
        other = other.replace(f" {name} =", f" {name}2 =").replace(f"({name},", f"({name}2,")
        other = other.replace(f", {name})", f", {name}2)").replace(f"({name})", f"({name}2)")
    other = other.replace("half", "lam")
    fused = fuse(model(CHAIN.replace("y = Mul", "y1 = Mul") + other))
    assert len(fused.rows) == len(fused.near_misses) == 1
    assert [n.op_type for n in fused.model.graph].count("Sigmoid") == 1


def test_a_form_that_needs_fixed_sizes_says_which_are_not() -> None:
    words = (
        r"form 'instance_norm' cannot lower the SimAM block at node 'simam':\n  H is not fixed\n  W is not fixed\n"
        r"export with fixed C, H and W .*, or use --form primitive"
    )
    with pytest.raises(FormError, match=words):
        fuse(alone("primitive", (1, 3, "h", "w")), "instance_norm")


def test_unknown_form() -> None:
    with pytest.raises(InputError, match="no form 'fast'"):
        fuse(model(), "fast")


def test_files_get_a_manifest_and_a_property(tmp_path: Path) -> None:
    onnx_file.save(model(lam=0.1), tmp_path / "in.onnx")
    fuse_file(tmp_path / "in.onnx", tmp_path / "out.onnx", "instance_norm")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.onnx", "out.onnx", "out.onnx.json"]
    import json

    manifest = json.loads((tmp_path / "out.onnx.json").read_text())
    travelling = json.loads(onnx_file.load(tmp_path / "out.onnx").metadata_props["simam_deploy"])
    block = {"node": "Mul_11", "op": "SimAM", "shape": [2, 3, 5, 7], "dtype": "FLOAT", "e_lambda": 0.1}
    assert travelling["blocks"] == manifest["blocks"] == [block]
    assert travelling["form"] == manifest["form"] == "instance_norm"
    assert manifest["source"]["file"] == "in.onnx"
    assert len(manifest["source"]["sha256"]) == 64
    assert manifest["versions"]["onnx"] == onnx.__version__


def test_the_input_is_never_overwritten(tmp_path: Path) -> None:
    onnx_file.save(model(), tmp_path / "in.onnx")
    before = (tmp_path / "in.onnx").read_bytes()
    with pytest.raises(OutputError, match="same file as the input"):
        fuse_file(tmp_path / "in.onnx", tmp_path / "in.onnx")
    assert (tmp_path / "in.onnx").read_bytes() == before


def test_names_that_the_file_has_already_are_not_taken(tmp_path: Path) -> None:
    """The block's own names start with its node's, and somebody else may have such a name."""
    source = model(CHAIN, after="w = Relu (y)\n out = Identity (w)")
    relu = next(node for node in source.graph if node.outputs[0].name == "w")
    for name in ("Mul_11/n", "Mul_11/scale"):
        relu.outputs[0].name = name
        for form in ("primitive", "instance_norm"):
            fused = fuse(source, form).model
            assert name in {value.name for node in fused.graph for value in node.outputs}
            onnx.checker.check_model(ir.to_proto(fused), full_check=True)
            np.testing.assert_allclose(run(fused, tmp_path), run(source, tmp_path), atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_blocks_one_behind_the_other(form: str, tmp_path: Path) -> None:
    """The y of one is the x of the next."""
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
