"""Every form on every runtime computes SimAM within the tolerance."""

import math
from itertools import product
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from helpers.cases import INPUTS, LAMBDAS, SHAPES, Float32, make
from helpers.forms import DYNAMIC, carries

from simam_deploy.errors import FormError
from simam_deploy.formula import as_maps, reference, tolerance
from simam_deploy.graph import onnx_file
from simam_deploy.graph.shapes import Dims
from simam_deploy.rewrite.forms import FORMS, alone
from simam_deploy.runtimes import open_session

RUNTIMES = ["onnx_reference", "ort", "openvino"]
PAIRS = [
    (form, runtime) for form in FORMS for runtime in RUNTIMES if form != "custom_op" or runtime == "onnx_reference"
]
NOT_4D: list[tuple[int, ...]] = [
    (1, 1, 2),  # the smallest
    (2, 3, 35),
    (1, 4, 16000),  # a second of speech
    (1, 1, 1, 1, 2),
    (1, 1, 2, 1, 1),
    (2, 3, 2, 5, 7),
    (1, 4, 16, 32, 32),  # a clip of 16 frames
]
"""Shapes of another rank: (N, C, L) and (N, C, D, H, W)."""


def of_any_rank(name: str, shape: tuple[int, ...]) -> Float32:
    """`make` with planes of that shape."""
    return make(name, (*shape[:3], math.prod(shape[3:]))).reshape(shape)


def share(y: Float32, x: Float32, e_lambda: float) -> float:
    """The largest error of y, as a share of the tolerance. Every plane is judged as a map."""
    assert y.shape == x.shape
    maps = as_maps(x)
    return float((np.abs(as_maps(y) - reference(maps, e_lambda)) / tolerance(maps, np.float32, e_lambda)).max())


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


@pytest.mark.parametrize("e_lambda", LAMBDAS)
@pytest.mark.parametrize("shape", NOT_4D, ids=str)
@pytest.mark.parametrize(("form", "runtime"), PAIRS)
def test_other_ranks_within_tolerance(
    tmp_path: Path, form: str, runtime: str, shape: tuple[int, ...], e_lambda: float
) -> None:
    """Measured: at most 0.59 of the tolerance."""
    path = tmp_path / "simam.onnx"
    onnx_file.save(alone(form, shape, e_lambda), path)
    with open_session(path, runtime) as session:
        for name in INPUTS:
            x = of_any_rank(name, shape)
            assert share(session.run({"x": x})["y"], x, e_lambda) <= 1, name


@pytest.mark.parametrize("dims", DYNAMIC, ids=str)
@pytest.mark.parametrize(("form", "runtime"), PAIRS)
def test_dynamic_sizes_of_other_ranks(tmp_path: Path, form: str, runtime: str, dims: Dims) -> None:
    path = tmp_path / "simam.onnx"
    if not carries(form, dims):
        with pytest.raises(FormError, match="is not fixed"):
            alone(form, dims)
        return
    onnx_file.save(alone(form, dims, 0.1), path)
    with open_session(path, runtime) as session:
        for shape in DYNAMIC[dims]:
            x = of_any_rank("faint", shape) if shape[0] else np.zeros(shape, np.float32)
            y = session.run({"x": x})["y"]
            assert y.shape == shape
            assert not shape[0] or share(y, x, 0.1) <= 1


@pytest.mark.parametrize("dims", [(2, 3, 35), ("n", 3, "l"), (2, 3, 2, 5, 7), ("n", 3, 2, "h", "w")], ids=str)
@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 20, 23])
@pytest.mark.parametrize(("form", "runtime"), PAIRS)
def test_other_ranks_at_every_opset(tmp_path: Path, form: str, runtime: str, opset: int, dims: Dims) -> None:
    if not carries(form, dims):
        return
    onnx_file.save(alone(form, dims, 0.1, opset=opset), tmp_path / "simam.onnx")
    x = of_any_rank("faint", (2, 3, 35) if len(dims) == 3 else (2, 3, 2, 5, 7))
    with open_session(tmp_path / "simam.onnx", runtime) as session:
        assert share(session.run({"x": x})["y"], x, 0.1) <= 1


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


@pytest.mark.parametrize("opset", [9, 12, 18, 20])
def test_the_tensorrt_rtx_parser_takes_every_form_with_a_fallback_definition(opset: int) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    bodies = ("function", "primitive", "instance_norm")
    sizes: list[Dims] = [(2, 3, 5, 7), (2, 3, 35), (2, 3, 2, 5, 7)]
    some: list[Dims] = [("n", 3, "l"), ("n", 3, "d", 5, 7), ("n", 3, "d", "h", "w")]
    for form, dims in [*product(bodies, sizes), *product(bodies[:2], some)]:
        logger = trt.Logger(trt.Logger.ERROR)
        network = trt.Builder(logger).create_network(0)
        parser = trt.OnnxParser(network, logger)
        proto = ir.to_proto(alone(form, dims, opset=opset))
        errors = [] if parser.parse(proto.SerializeToString()) else [str(parser.get_error(0))]
        assert not errors, (form, dims)
        assert len(network.get_output(0).shape) == len(dims)
        if form == "instance_norm":
            kinds = [network.get_layer(i).type for i in range(network.num_layers)]
            assert trt.LayerType.NORMALIZATION in kinds
