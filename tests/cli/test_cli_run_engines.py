"""verify and bench of an engine on a GPU that a test plays: see tests/helpers/played_trt.py."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command_line import Run
from helpers.played_engine import LARGE, write_engine
from helpers.played_gpu import PlayedGpu, cuda_python
from helpers.played_trt import module

import simam_deploy as sd
from simam_deploy.errors import InputError


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> Any:
    gpu = PlayedGpu()
    made = module(gpu, "tensorrt", "10.3.0")
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda_python(gpu))
    monkeypatch.setitem(sys.modules, "tensorrt", made)
    return made


@pytest.fixture
def net(folder: Path, trt: Any) -> Path:
    return write_engine(folder / "net.engine", folder / "dynamic.onnx", profiles=[LARGE])


def test_verify_runs_the_engine(net: Path, trt: Any, run: Run) -> None:
    """At the best size of the profile and at its smallest."""
    status, out, err = run("verify net.engine --against dynamic.onnx --cuda-graph")
    assert (status, err) == (0, "")
    assert "net.engine · trt" in out
    assert "x (4, 3, 16, 16); x (1, 3, 2, 2)" in out
    assert "built with --no-tf32" in out
    assert out.splitlines()[-1] == "passed: all 6 comparisons"
    assert {shapes["x"] for _, shapes in trt.seen.executed} == {(4, 3, 16, 16), (1, 3, 2, 2)}
    status, out, err = run("verify net.engine --against dynamic.onnx --json --shape 2,3,5,6 --inputs plain")
    found = json.loads(out)
    assert (status, err, found["passed"], found["engine"]["disagreements"]) == (0, "", True, [])
    assert [row["case"] for row in found["rows"]] == ["plain"]
    assert [row.case for row in sd.verify(net, against="dynamic.onnx", inputs="faint").rows] == [
        "faint",
        "smallest size",
    ]


def test_an_engine_that_computes_something_else_fails(net: Path, trt: Any, run: Run) -> None:
    computed = trt.IExecutionContext._computed
    trt.IExecutionContext._computed = lambda *given: {
        name: y + np.float32(1e-3) * np.abs(y) for name, y in computed(*given).items()
    }
    status, out, _ = run("verify net.engine --against dynamic.onnx")
    assert status == 1
    assert out.splitlines()[-1] == "FAILED: 6 of 6 comparisons"


def test_bench_times_the_engine(net: Path, trt: Any, run: Run) -> None:
    status, out, err = run("bench dynamic.onnx net.engine --runtimes ort --seconds 0")
    assert (status, err) == (0, "")
    assert "net.engine · trt" in out
    assert out.splitlines()[-1] == "timed: 2 sessions"
    done = sd.bench(net, seconds=0, cuda_graph=True)
    assert [row.label for row in done.rows] == ["copy", "net.engine · trt"]
    assert [shapes["x"] for _, shapes in trt.seen.executed] == [(4, 3, 16, 16)] * len(trt.seen.executed)
    assert done.rows[1].simam == "fallback"


def test_options_of_onnx_files_are_refused(net: Path, run: Run) -> None:
    status, out, err = run("verify net.engine --against dynamic.onnx --forms all --gates")
    assert status == 2
    assert "--forms, --gates is for ONNX files, and net.engine is an engine; leave it out" in err
    assert "passed" not in out
    with pytest.raises(InputError, match="cuda_graph is for engines, and none is given"):
        sd.verify("dynamic.onnx", cuda_graph=True)
    with pytest.raises(InputError, match="cuda_graph is for engines, and none is given"):
        sd.bench("dynamic.onnx", cuda_graph=True)


@pytest.mark.parametrize("command", ["verify", "bench"])
def test_trt_runs_no_onnx_file(command: str, folder: Path, run: Run) -> None:
    status, out, err = run(f"{command} dynamic.onnx --runtimes ort,trt")
    assert (status, out) == (2, "")
    assert "trt runs an engine, and not an ONNX file; build one and compare it with:" in err
    assert "simam-deploy verify model.engine --against model.onnx" in err


def test_an_engine_of_another_file(net: Path, run: Run) -> None:
    with pytest.raises(InputError, match=r"(?s)net.engine and fixed.onnx disagree:.*is not the file that the engine"):
        sd.verify(net.name, against="fixed.onnx")
