"""Files whose fallback definition of our operator is not what the kernel computes: no other numbers in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.graphs import BODY, parse, save

from simam_deploy import native
from simam_deploy.errors import FormError, RuntimeUnavailable
from simam_deploy.formula import reference, tolerance
from simam_deploy.ort_cpu.specialise import specialise
from simam_deploy.rewrite.fuse import fuse_file
from simam_deploy.runtimes import open_session

X = np.random.default_rng(0).standard_normal((2, 3, 6, 5)).astype(np.float32)
CALL = "g (float[2,3,6,5] x) => (float[2,3,6,5] y) {{ y = {call} (x) }}"
OUTER = """
<domain: "theirs", opset_import: ["" : 18, "simam" : 1]>
Outer <lam: float = {default}> (x) => (y)
{{
  y = simam.SimAM <e_lambda: float = @lam> (x)
}}
"""
SIGMOID = """
<domain: "simam", opset_import: ["" : 18]>
SimAM <e_lambda: float = 0.0001> (x) => (y) { y = Sigmoid (x) }
"""


def with_default(e_lambda: float) -> str:
    return BODY.replace("e_lambda: float = 0.0001", f"e_lambda: float = {e_lambda}")


def hard_coded(e_lambda: float) -> str:
    return BODY.replace("value_float: float = @e_lambda", f"value_float: float = {e_lambda}")


def renamed(e_lambda: float) -> str:
    return with_default(e_lambda).replace("e_lambda", "lam")


UNLIKE = {
    "default": (with_default(0.25), "simam.SimAM", 0.25),
    "hard-coded": (hard_coded(0.25), "simam.SimAM", 0.25),
    "hard-coded, and the node says another": (hard_coded(0.25), "simam.SimAM <e_lambda: float = 0.1>", 0.25),
    "attribute of another name": (renamed(1e-4), "simam.SimAM <lam: float = 0.25>", 0.25),
    "its default": (renamed(0.25), "simam.SimAM", 0.25),
    "through a function": (hard_coded(0.25) + OUTER.format(default=0.1), "theirs.Outer", 0.25),
}
ALIKE = {
    "default": (BODY, "simam.SimAM", 1e-4),
    "the node says it": (with_default(0.25), "simam.SimAM <e_lambda: float = 0.1>", 0.1),
    "hard-coded, the same": (hard_coded(1e-4), "simam.SimAM", 1e-4),
    "through a function": (BODY + OUTER.format(default=0.25), "theirs.Outer", 0.25),
    "through a function, said": (BODY + OUTER.format(default=0.25), "theirs.Outer <lam: float = 0.1>", 0.1),
}


def file(folder: Path, body: str, call: str) -> Path:
    model = parse(CALL.format(call=call), body)
    if call.startswith("theirs"):
        model.opset_import.append(onnx.helper.make_opsetid("theirs", 1))
    return save(model, folder / "m.onnx")


@pytest.fixture
def library() -> None:
    if native.library() is None:
        pytest.skip(native.why_not())


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("name", UNLIKE)
def test_another_lambda_runs_as_the_file_says(name: str, tmp_path: Path) -> None:
    body, call, e_lambda = UNLIKE[name]
    path = file(tmp_path, body, call)
    with open_session(path) as session:
        y = session.run({"x": X})["y"]
        assert (np.abs(y - reference(X, e_lambda)) <= tolerance(X, X.dtype, e_lambda)).all()
        assert session.kernel_use({"x": X}).ran == 0
        assert f"λ = {e_lambda:g}" in " ".join(session.notes)
        assert "simam-deploy fuse" in " ".join(session.notes)
    with pytest.raises(RuntimeUnavailable, match=r"asked for the kernel in .*λ = 0\.25.*the kernel takes"):
        open_session(path, kernel="require")


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("name", sorted(UNLIKE.keys() - {"through a function"}))
def test_fuse_makes_a_file_for_the_kernel(name: str, tmp_path: Path) -> None:
    body, call, e_lambda = UNLIKE[name]
    fuse_file(file(tmp_path, body, call), tmp_path / "fused.onnx")
    with open_session(tmp_path / "fused.onnx", kernel="require") as session:
        y = session.run({"x": X})["y"]
        assert (np.abs(y - reference(X, e_lambda)) <= tolerance(X, X.dtype, e_lambda)).all()
        assert session.kernel_use({"x": X}).ran == 1


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("name", ALIKE)
def test_the_same_lambda_runs_as_the_kernel(name: str, tmp_path: Path) -> None:
    body, call, e_lambda = ALIKE[name]
    with open_session(file(tmp_path, body, call)) as session:
        y = session.run({"x": X})["y"]
        assert (np.abs(y - reference(X, e_lambda)) <= tolerance(X, X.dtype, e_lambda)).all()
        assert session.kernel_use({"x": X}).ran == 1
        assert not session.notes


@pytest.mark.usefixtures("library")
def test_another_operator_of_that_name_runs_as_the_file_says(tmp_path: Path) -> None:
    path = file(tmp_path, SIGMOID, "simam.SimAM")
    with open_session(path) as session:
        np.testing.assert_allclose(session.run({"x": X})["y"], 1 / (1 + np.exp(-X)), rtol=1e-5)
        assert "is not SimAM" in " ".join(session.notes)
    with pytest.raises(RuntimeUnavailable, match=r"the fallback definition of simam::SimAM .* is not SimAM"):
        open_session(path, kernel="require")


@pytest.mark.usefixtures("library")
def test_an_epilogue_operator_is_asked_too(tmp_path: Path) -> None:
    """scale and bias change places in it."""
    other = (
        BODY.replace("SimAM <", "SimAMAffine <")
        .replace("(x) => (y)", "(x, scale, bias) => (y)")
        .replace(
            "y = CastLike (product, x)",
            "where = Constant <value_ints: ints = [1, 2]> ()\n  s = Unsqueeze (bias, where)\n"
            "  b = Unsqueeze (scale, where)\n  scaled = Mul (product, s)\n  y = Add (scaled, b)",
        )
    )
    model = parse(
        "g (float[2,3,6,5] x) => (float[2,3,6,5] y)"
        "<float[3] s = {1, 2, 3}, float[3] b = {0, 1, 0}> { y = simam.SimAMAffine (x, s, b) }",
        other,
    )
    path = save(model, tmp_path / "m.onnx")
    with open_session(path, kernel="off") as session:
        expected = session.run({"x": X})["y"]
    with open_session(path) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], expected)
        assert "is not SimAMAffine" in " ".join(session.notes)


@pytest.mark.usefixtures("library")
def test_with_a_node_that_needs_the_kernel_it_does_not_load(tmp_path: Path) -> None:
    """One node has no definition in the file, so the library is needed; of the other it would give other numbers."""
    affine = SIGMOID.replace("SimAM <", "SimAMAffine <").replace("(x) =>", "(x, scale, bias) =>")
    model = parse(
        "g (float[2,3,6,5] x) => (float[2,3,6,5] y) <float[3] s = {1, 2, 3}, float[3] b = {0, 1, 0}>"
        "{ t = simam.SimAM <e_lambda: float = 0.1> (x)\n y = simam.SimAMAffine (t, s, b) }",
        affine,
    )
    with pytest.raises(RuntimeUnavailable, match="is not SimAMAffine"):
        open_session(save(model, tmp_path / "m.onnx"))


@pytest.mark.usefixtures("library")
def test_nor_is_it_specialised() -> None:
    """ONNX Runtime's optimiser keeps the name and drops the definition."""
    affine = SIGMOID.replace("SimAM <", "SimAMAffine <").replace("(x) =>", "(x, scale, bias) =>")
    model = parse(
        "g (float[2,3,6,5] x) => (float[2,3,6,5] y) <float[3] s = {1, 2, 3}, float[3] b = {0, 1, 0}>"
        "{ t = simam.SimAM <e_lambda: float = 0.1> (x)\n y = simam.SimAMAffine (t, s, b) }",
        BODY,
        affine,
    )
    with pytest.raises(FormError, match=r"node 'y' has the name simam::SimAMAffine and a fallback definition"):
        specialise(ir.from_proto(model), check=False)
