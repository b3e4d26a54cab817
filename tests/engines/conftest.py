"""A file of fixed sizes, one of dynamic sizes with SimAM in it, the versions of TensorRT, and engines."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import trt_api
from helpers.graphs import BODY
from helpers.made_engine import engine
from helpers.small_onnx import CALL, save

from simam_deploy.engines.builder import build_engine


@pytest.fixture
def dynamic(tmp_path: Path) -> Path:
    return save(tmp_path, CALL + BODY)


@pytest.fixture
def static(tmp_path: Path) -> Path:
    return save(tmp_path, "g (float[1,3,8,8] x) => (float[1,3,8,8] y) { y = Sigmoid(x) }")


@pytest.fixture(params=trt_api.VERSIONS)
def trt_version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each version in turn. Child processes find it as `tensorrt`."""
    version: str = request.param
    if reason := trt_api.missing(version):
        pytest.skip(reason)
    monkeypatch.setenv("PYTHONPATH", trt_api.path_for(version))
    return version


@pytest.fixture(params=["made", "built"])
def whole(request: pytest.FixtureRequest, tmp_path: Path, static: Path) -> Path:
    """An engine and its manifest: one made by a test, and one that is really built."""
    path = tmp_path / "model.engine"
    if request.param == "made":
        return engine(path)
    if find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt_rtx is not installed")
    build_engine(static, path, targets=["sm86", "sm89"])
    return path
