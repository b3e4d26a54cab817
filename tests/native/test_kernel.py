"""The kernel of the op library in a session: against the formula, and what is said of who ran."""

import re
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.cases import INPUTS, LAMBDAS, SHAPES, make
from helpers.graphs import BODY, beside, file, parse, save

from simam_deploy import native, open_session
from simam_deploy.compare.kernel_use import kernel_in
from simam_deploy.compare.matrix import gather
from simam_deploy.errors import InputError, ModelFileError, RuntimeUnavailable
from simam_deploy.formula import OP_DOMAIN, OP_VERSION, reference, tolerance
from simam_deploy.rewrite.forms import function
from simam_deploy.runtimes import KernelUse, Session
from simam_deploy.runtimes.onnx_model import ours

EPS = 2.0**-23


def run(session: Session, x: np.ndarray) -> np.ndarray:
    return session.run({"x": x})["y"]


# its numbers


@pytest.mark.parametrize("e_lambda", LAMBDAS)
@pytest.mark.parametrize("form", ["function", "custom_op"])
def test_the_kernel_computes_the_formula(form: str, e_lambda: float, tmp_path: Path, library: native.Library) -> None:
    with open_session(file(tmp_path, form, e_lambda=e_lambda), kernel="require", threads=2) as session:
        for shape in SHAPES:
            for name in INPUTS:
                x = make(name, shape)
                error = np.abs(run(session, x) - reference(x, e_lambda))
                assert (error <= tolerance(x, np.float32, e_lambda)).all(), (name, shape)
                assert (error <= 2 * EPS * np.abs(x).max(axis=(2, 3), keepdims=True)).all(), (name, shape)
        assert session.kernel_use({"x": x}) == KernelUse(1, 1, library.target)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("form", ["function", "custom_op"])
def test_a_map_of_one_is_refused_with_the_reason(form: str, tmp_path: Path) -> None:
    with (
        open_session(file(tmp_path, form)) as session,
        pytest.raises(Exception, match=r"SimAM of a 1x1 map is 0/0: its variance divides by H.W - 1; feed larger"),
    ):
        run(session, np.ones((1, 2, 1, 1), np.float32))


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("length", "words"), [(2, ""), (3, "scale must have 2 elements, one for each channel")])
def test_an_epilogue_with_a_scale_of_the_wrong_length(length: int, words: str, tmp_path: Path) -> None:
    model = parse(
        "g (float[1,2,3,4] x, float[S] s, float[2] b) => (float[1,2,3,4] y) { y = simam.SimAMAffine (x, s, b) }"
    )
    model.opset_import.append(onnx.helper.make_opsetid(OP_DOMAIN, OP_VERSION))
    x, scale, bias = make("plain", (1, 2, 3, 4)), np.full(length, 3, np.float32), np.ones(2, np.float32)
    with open_session(save(model, tmp_path / "m.onnx"), kernel="require") as session:
        feeds = {"x": x, "s": scale, "b": bias}
        if words:
            with pytest.raises(Exception, match=words):
                session.run(feeds)
        else:
            np.testing.assert_allclose(session.run(feeds)["y"], 3 * reference(x) + 1, rtol=0, atol=1e-5)
            assert str(session.kernel_use(feeds)).startswith("kernel (")


# who ran


def test_auto_require_and_off(tmp_path: Path, library: native.Library) -> None:
    x = make("plain", (1, 3, 5, 7))
    with open_session(file(tmp_path)) as session:
        assert session.notes == []
        assert str(session.kernel_use({"x": x})) == f"kernel ({library.target})"
    with open_session(file(tmp_path), kernel="off") as session:
        assert session.notes == []
        assert session.kernel_use({"x": x}) == KernelUse(0, 1, why="kernel='off' was asked for")
        assert (np.abs(run(session, x) - reference(x)) <= tolerance(x, np.float32)).all()
    with pytest.raises(
        RuntimeUnavailable,
        match=r"custom_op, 1 nodes.*no fallback definition in the file, and kernel='off' was asked",
    ):
        open_session(file(tmp_path, "custom_op"), kernel="off")
    with pytest.raises(
        RuntimeUnavailable, match=r"asked for the kernel in .*primitive.onnx, but it has no node of the"
    ):
        open_session(file(tmp_path, "primitive"), kernel="require")
    with pytest.raises(RuntimeUnavailable, match="the kernel libraries are for CPUExecutionProvider and CUDA"):
        open_session(file(tmp_path), kernel="require", provider="AzureExecutionProvider")
    with pytest.raises(InputError, match="kernel is one of auto, require, off; got 'on'"):
        open_session(file(tmp_path), kernel="on")
    with pytest.raises(InputError, match="'openvino' has no option kernel"):
        open_session(file(tmp_path), "openvino", kernel="off")


@pytest.mark.usefixtures("no_library")
def test_without_a_library_the_fallback_definition_runs_and_says_so(tmp_path: Path) -> None:
    x = make("plain", (1, 3, 5, 7))
    with open_session(file(tmp_path)) as session:
        assert session.notes == [f"SimAM runs as the fallback definition in the file: {native.why_not()}"]
        assert str(session.kernel_use({"x": x})) == "fallback"
        assert (np.abs(run(session, x) - reference(x)) <= tolerance(x, np.float32)).all()
    with open_session(file(tmp_path, "primitive")) as session:
        assert session.notes == []
        assert str(session.kernel_use({"x": x})) == "-"
    with pytest.raises(RuntimeUnavailable, match=r"asked for the kernel in .*, but no kernel library: build it with"):
        open_session(file(tmp_path), kernel="require")
    with pytest.raises(
        RuntimeUnavailable, match="no fallback definition in the file, and no kernel library: build it with `make"
    ):
        open_session(file(tmp_path, "custom_op"))
    assert kernel_in(file(tmp_path)) == KernelUse(0, 1, why=native.why_not())


@pytest.mark.usefixtures("library")
def test_a_type_that_the_kernel_does_not_take_runs_as_the_fallback_definition(tmp_path: Path) -> None:
    path = file(tmp_path)
    model = onnx.load(path)
    casting = function.functions(18, ["SimAM"], {ir.DataType.FLOAT, ir.DataType.FLOAT16})  # for two types
    del model.functions[:]
    model.functions.extend(map(ir.serde.serialize_function, casting))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    onnx.save(model, path)
    x = make("plain", (1, 3, 5, 7)).astype(np.float64)
    with open_session(path) as session:
        (note,) = session.notes
        assert re.match(
            r"SimAM runs as the fallback definition in the file: with the kernel library, .*tensor\(double\)", note
        )
        assert session.kernel_use({"x": x}).ran == 0
        np.testing.assert_allclose(run(session, x), reference(x), rtol=0, atol=1e-5)
    with pytest.raises(ModelFileError, match=r"tensor\(double\).*\(SimAM\) in node \(simam\) is invalid"):
        open_session(path, kernel="require")


@pytest.mark.usefixtures("library")
def test_nodes_are_counted_where_they_run(tmp_path: Path) -> None:
    """In the branch that is taken, twice through a function, and not in one that nothing calls."""
    functions = (
        '<domain: "simam", opset_import: ["" : 18, "simam" : 1]> Block (x) => (y) { y = simam.SimAM (x) }',
        '<domain: "simam", opset_import: ["" : 18, "simam" : 1]> Idle (x) => (y) { y = simam.SimAM (x) }',
    )
    graph = """g (bool c, float[N,C,H,W] x) => (float[N,C,H,W] y) {
        a = simam.Block (x)
        b = simam.Block (a)
        y = If (c) <then_branch = t () => (float[N,C,H,W] p) { p = simam.SimAM (b) },
                    else_branch = e () => (float[N,C,H,W] q) { q = Relu (b) }> }"""
    model = parse(graph, *functions, BODY)
    assert ours(model) == 3
    feeds = {"x": make("plain", (1, 2, 3, 4))}
    with open_session(save(model, tmp_path / "m.onnx")) as session:
        taken, left = (session.kernel_use({**feeds, "c": np.array(c)}) for c in (True, False))
    assert (taken.ran, taken.of, left.ran, left.of) == (3, 3, 2, 3)
    assert str(left).endswith(") 2 of 3")


def test_a_kernel_that_is_not_taken_is_not_reported(tmp_path: Path, library: native.Library) -> None:
    """Seen, not assumed: a session whose file was replaced behind its back by one that has no node of ours."""
    path = file(tmp_path)
    with open_session(path) as session:
        file(tmp_path, "primitive").rename(path)
        x = make("plain", (2, 3, 5, 7))
        assert session.kernel_use({"x": x}) == KernelUse(0, 1, library.target)


def test_candidates_have_custom_op_where_there_is_a_kernel(tmp_path: Path, library: native.Library) -> None:
    source = file(tmp_path, "primitive", (1, 3, 5, 7))
    (tmp_path / "out").mkdir()
    chosen = gather([source], ["all"], ["ort", "openvino"], tmp_path / "out")
    assert "custom_op · ort" in chosen.open
    assert [row.partition(":")[0] for row in chosen.skipped] == ["custom_op · openvino"]
    chosen = gather([source], ["custom_op"], ["ort"], tmp_path / "out", kernel="off")
    assert not chosen.open


@pytest.mark.usefixtures("library")
def test_kernel_in_says_why_it_saw_nothing(tmp_path: Path) -> None:
    assert kernel_in(file(tmp_path, "primitive")) == KernelUse()
    assert kernel_in(file(tmp_path, shape=("n", 3, "h", "w"))).ran == 1
    one = kernel_in(file(tmp_path, shape=(1, 3, 1, "w")))
    assert one.ran == 1
    large = kernel_in(file(tmp_path, shape=(1, 3, 99_999, 99_999)))
    assert (large.ran, large.why) == (None, "its inputs hold more than 67,108,864 numbers")


@pytest.mark.usefixtures("library")
def test_weights_in_another_file_are_found_while_it_watches(tmp_path: Path) -> None:
    assert kernel_in(beside(tmp_path / "model")).ran == 1
