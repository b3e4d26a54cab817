"""The builder of TensorRT-RTX warns of nothing, whatever the form of SimAM."""

from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest

import simam_deploy as sd
from export_models import digits
from simam_deploy.rewrite.forms import FORMS

pytestmark = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
WRITTEN = [(form, False) for form in FORMS if form != "custom_op"] + [("function", True)]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits.onnx"
    sd.export(*digits.build(), path, check=False, exporter="torchscript")
    return path


@pytest.mark.parametrize("to", ["fp32", "fp16"])
@pytest.mark.parametrize(("form", "epilogue"), WRITTEN)
def test_digits_build_without_a_warning(network: Path, form: str, epilogue: bool, to: str, tmp_path: Path) -> None:
    source, low, written = (tmp_path / f"{name}.onnx" for name in ("source", "low", "written"))
    source.write_bytes(network.read_bytes())
    if to != "fp32":
        sd.convert(network, low, to=to, target="tensorrt", inputs={"x": digits.training_set()[0][:8]})
        source = low
    sd.fuse(source, written, form=form, epilogue=epilogue)
    report = sd.build_engine(written, tmp_path / "engine", targets=["sm86"])
    assert report.precision == to
    assert report.log == ()
    assert [block["built"] for block in report.blocks] == ["fallback" if form == "function" else ""] * 3
    assert all(block["layers"] > 5 for block in report.blocks if form == "function")


def test_weights_in_a_file_of_their_own(network: Path, tmp_path: Path) -> None:
    """The parser gets the model from memory, and looks for them beside the file."""
    apart = tmp_path / "apart.onnx"
    onnx.save(onnx.load(network), apart, save_as_external_data=True, location="weights", size_threshold=0)
    report = sd.build_engine(apart, tmp_path / "engine", targets=["sm86"])
    assert report.log == ()
    assert report.size_bytes == sd.build_engine(network, tmp_path / "whole", targets=["sm86"]).size_bytes
