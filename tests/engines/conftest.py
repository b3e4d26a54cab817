"""A file of fixed sizes, one of dynamic sizes with SimAM in it, and the versions of TensorRT."""

from pathlib import Path

import pytest
import trt_api
from helpers.graphs import BODY
from helpers.small_onnx import CALL, save


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
