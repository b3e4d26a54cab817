"""A GPU that a test plays, and engines for it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.graphs import BODY
from helpers.played_engine import LARGE, SMALL, write_engine
from helpers.played_gpu import PlayedGpu, cuda_python, torch_for
from helpers.played_trt import module
from helpers.small_onnx import CALL, save

Make = Callable[..., Path]


@pytest.fixture(params=["cuda-python", "torch"])
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> PlayedGpu:
    made = PlayedGpu()
    if request.param == "torch":
        monkeypatch.setitem(sys.modules, "torch", torch_for(made))
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda_python(made))
    return made


@pytest.fixture
def plain(gpu: PlayedGpu, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One version, for all that does not depend on it."""
    made = module(gpu, "tensorrt", "10.3.0")
    monkeypatch.setitem(sys.modules, "tensorrt", made)
    return made


@pytest.fixture
def make(plain: Any, tmp_path: Path) -> Make:
    def write(**told: Any) -> Path:
        model = save(tmp_path, told.pop("text", CALL + BODY))
        told = {"profiles": [SMALL, LARGE]} | told
        return write_engine(tmp_path / "e.engine", model, **told)

    return write
