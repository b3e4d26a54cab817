"""A file, and what it becomes for this machine."""

from pathlib import Path

import pytest
from helpers.blocked import NETWORKS, network, saved

from simam_deploy.ort_cpu import specialise


@pytest.fixture
def portable(tmp_path: Path) -> Path:
    return saved(network(NETWORKS["residual"]), tmp_path)


@pytest.fixture
def target(portable: Path, tmp_path: Path) -> Path:
    specialise.specialise_file(portable, tmp_path / "cpu.onnx")
    return tmp_path / "cpu.onnx"
