"""A file of fixed sizes, and one of dynamic sizes with SimAM in it."""

from pathlib import Path

import pytest
from helpers.graphs import BODY
from helpers.small_onnx import CALL, save


@pytest.fixture
def dynamic(tmp_path: Path) -> Path:
    return save(tmp_path, CALL + BODY)


@pytest.fixture
def static(tmp_path: Path) -> Path:
    return save(tmp_path, "g (float[1,3,8,8] x) => (float[1,3,8,8] y) { y = Sigmoid(x) }")
