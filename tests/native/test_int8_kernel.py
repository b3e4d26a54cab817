"""The kernel on 8-bit integers in ONNX Runtime: beside the fallback definition and the formula."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.on_integers import exact, numbers, saved

from simam_deploy import native, open_session
from simam_deploy.compare.kernel_use import kernel_in
from simam_deploy.errors import RuntimeUnavailable
from simam_deploy.formula import OPS
from simam_deploy.runtimes import KernelUse


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("name", OPS)
def test_kernel_and_body_compute_the_formula(name: str, dtype: type, tmp_path: Path, library: native.Library) -> None:
    """Half a step, which rounding costs. The rest is what float32 and the polynomials of the kernel lose."""
    path = saved(tmp_path, name, dtype)
    held, limits = numbers(dtype), np.iinfo(dtype)
    right = np.clip(exact(name, dtype), limits.min, limits.max)
    results = {}
    for kernel in ("require", "off"):
        with open_session(path, kernel=kernel) as session:
            feed = {spec.name: held[spec.name] for spec in session.inputs}
            results[kernel] = session.run(feed)["y"]
            assert np.abs(results[kernel] - right).max() <= 0.5 + 5e-3, kernel
            if kernel == "require":
                assert session.kernel_use(feed) == KernelUse(1, 1, library.target)
    apart = np.abs(results["require"].astype(int) - results["off"].astype(int))
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.01
    assert (results["off"] == limits.max).any()  # some are cut off


@pytest.mark.usefixtures("library")
def test_a_definition_that_is_another_one_keeps_the_kernel_away(tmp_path: Path) -> None:
    path = saved(tmp_path, "SimAMAffineAdd")
    model = onnx.load(path)
    (ours,) = [function for function in model.functions if function.domain == "simam.int8"]
    (first,) = [node for node in ours.node if node.op_type == "QuantizeLinear"]
    first.input[0] = "residual_float"
    onnx.save(model, path)
    with open_session(path) as session:
        assert session.notes == [
            "SimAM runs as the fallback definition in the file: the fallback definition of "
            "simam.int8::SimAMAffineAdd is not that of this package"
        ]
    with pytest.raises(RuntimeUnavailable, match="SimAMAffineAdd is not that of this package"):
        open_session(path, kernel="require")
    assert kernel_in(path).ran == 0


@pytest.mark.usefixtures("library")
def test_a_float_operator_inside_that_is_another_one(tmp_path: Path) -> None:
    """Its own definition is in the file too, and is compared."""
    path = saved(tmp_path, "SimAM")
    model = onnx.load(path)
    (ours,) = [function for function in model.functions if function.domain == "simam"]
    (sigmoid,) = [node for node in ours.node if node.op_type == "Sigmoid"]
    sigmoid.op_type = "Tanh"
    onnx.save(model, path)
    with pytest.raises(RuntimeUnavailable, match="definition of simam::SimAM at 'simam' is not SimAM"):
        open_session(path, kernel="require")


@pytest.mark.usefixtures("library")
def test_a_map_of_one_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = saved(tmp_path, "SimAM")
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            dim.ClearField("dim_value")
    onnx.save(model, path)
    with open_session(path, kernel="require") as session, pytest.raises(Exception, match="of a 1x1 map is 0/0"):
        session.run({"x": np.ones((1, 1, 1, 6), np.uint8)})
