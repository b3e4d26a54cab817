"""The check of engines in `make gpu`: on a played GPU it passes, and a wrong engine, a lost graph or none is told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from helpers.gpu_machine import emulated_machine, run  # noqa: E402
from helpers.played_engine import write_engine  # noqa: E402
from helpers.played_gpu import PlayedGpu, cuda_python  # noqa: E402
from helpers.played_trt import module  # noqa: E402

import simam_deploy as sd  # noqa: E402
from benchmarks.gpu import checks, engine, verdict  # noqa: E402
from simam_deploy.engines import flavors  # noqa: E402

NAME = "engines of TensorRT"


@pytest.fixture
def machine() -> Any:
    return SimpleNamespace(emulated=False, chip=SimpleNamespace(capability="90"))


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> Any:
    gpu = PlayedGpu((9, 0))
    made = module(gpu, "tensorrt", "10.9.0.34")

    def build(file: Path, path: Path, *, shapes: Any, flavor: str, targets: list[str], tf32: bool) -> None:
        assert (flavor, targets, tf32) == ("tensorrt", [], False)
        write_engine(path, file, version="10.9.0.34", profiles=[{"x": [list(shape) for shape in shapes["x"]]}])

    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda_python(gpu))
    monkeypatch.setitem(sys.modules, "tensorrt", made)
    monkeypatch.setattr(sd, "build_engine", build, raising=False)
    return made


def test_a_right_engine(machine: Any, trt: Any) -> None:
    found = list(engine.check(machine, verdict.SMALL))
    assert [each.why for each in found] == [""] * len(found)
    assert all(each.share <= 1 for each in found)
    assert [each.name for each in found][-2:] == ["tensorrt {'cuda_graph': True}", "tensorrt {'contexts': 3}"]
    assert len(found) == 8


def test_a_wrong_engine(machine: Any, trt: Any) -> None:
    right = trt.IExecutionContext._computed
    trt.IExecutionContext._computed = lambda *given: {n: y * np.float32(1.01) for n, y in right(*given).items()}
    found = list(engine.check(machine, verdict.SMALL))
    assert {each.why for each in found[:6]} == {"verify fails it"}


def test_runs_that_differ(machine: Any, trt: Any) -> None:
    right, count = trt.IExecutionContext._computed, iter(range(10_000))
    trt.IExecutionContext._computed = lambda *given: {
        n: y + np.float32(1e-7) * np.float32(next(count)) for n, y in right(*given).items()
    }
    found = list(engine.check(machine, verdict.SMALL))
    assert found[-1].why.endswith("runs give other bits")


def test_no_tensorrt_is_a_reason(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavors, "find_spec", lambda _: None)
    with pytest.raises(verdict.Skipped, match="no TensorRT that builds for sm90: pip install tensorrt onnx"):
        list(engine.check(machine, verdict.SMALL))
    found: Callable[..., Any] = lambda *_: iter(engine.check(machine, verdict.SMALL))  # noqa: E731
    monkeypatch.setattr(checks, "all_checks", lambda: {NAME: found})
    (row,) = run(emulated_machine(), NAME)
    assert (row["ok"], row["cases"]) == (True, 0)
    assert row["note"].startswith("no TensorRT that builds for sm90")
