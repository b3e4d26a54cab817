"""TensorRT-RTX takes int8 files of the target tensorrt as they are, and rounds nothing inside SimAM."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.parsed_layers import parsed_layers
from helpers.to_quantise import images, net, saved

from simam_deploy.compare.inputs import specs
from simam_deploy.engines.builder import build_engine
from simam_deploy.errors import BuildError
from simam_deploy.graph import onnx_file
from simam_deploy.precision.calibrate import Calibration, calibrate
from simam_deploy.precision.quantise import quantise
from simam_deploy.precision.samples import Samples
from simam_deploy.rewrite.fuse import fuse

pytestmark = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    path, samples = saved(tmp_path_factory.mktemp("net"), net())
    return calibrate(path, samples)


@pytest.fixture
def file(calibration: Calibration, tmp_path: Path) -> Path:
    onnx_file.save(quantise(calibration, "tensorrt").model, tmp_path / "int8.onnx")
    return tmp_path / "int8.onnx"


INSIDE = ("REDUCE", "ELEMENTWISE", "ACTIVATION")
"""Layers that SimAM is made of."""


def test_layers_read_integers_and_simam_does_not(file: Path) -> None:
    layers = parsed_layers(file)
    kinds = [layer.kind for layer in layers]
    assert (kinds.count("QUANTIZE"), kinds.count("DEQUANTIZE"), kinds.count("CONVOLUTION")) == (3, 6, 2)
    assert {layer.behind for layer in layers if layer.kind == "CONVOLUTION"} == {("DEQUANTIZE", "DEQUANTIZE")}
    assert {layer.made for layer in layers if layer.kind == "QUANTIZE"} == {("INT8",)}
    inside = [layer for layer in layers if layer.kind in INSIDE]
    assert {kind for layer in inside for kind in layer.given} == {"FLOAT", "INT64"}  # INT64 : sizes
    assert "DEQUANTIZE" not in {kind for layer in inside for kind in layer.behind}


def test_it_builds(file: Path) -> None:
    done = build_engine(
        file, file.with_name("int8.engine"), targets=["sm86", "sm89", "sm120"], shapes={"x": (1, 3, 8, 8)}
    )
    assert done.targets == ("sm86", "sm89", "sm120")


def test_a_file_with_rounding_inside_simam_is_told_apart(tmp_path: Path) -> None:
    """The check above sees such a file: a quantiser on the primitive form."""
    from onnxruntime.quantization import QuantType, quantize_static

    path, _ = saved(tmp_path, net())
    onnx_file.save(fuse(onnx_file.load(path), "primitive").model, tmp_path / "primitive.onnx")
    samples = iter(Samples({"x": images(4)}, specs(path)))

    class Reader:
        def get_next(self) -> dict | None:
            return next(samples, None)

    quantize_static(
        tmp_path / "primitive.onnx",
        tmp_path / "split.onnx",
        Reader(),
        activation_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": True, "QuantizeBias": False},
    )
    layers = parsed_layers(tmp_path / "split.onnx")
    assert "DEQUANTIZE" in {kind for layer in layers if layer.kind in INSIDE for kind in layer.behind}


def test_a_file_of_another_target_is_refused_with_the_right_one(calibration: Calibration, tmp_path: Path) -> None:
    onnx_file.save(quantise(calibration, "cpu").model, tmp_path / "cpu.onnx")
    with pytest.raises(BuildError, match=r"convert FLOAT.onnx --to int8 --target tensorrt"):
        build_engine(tmp_path / "cpu.onnx", tmp_path / "e.engine", targets=["sm86"], shapes={"x": (1, 3, 8, 8)})
