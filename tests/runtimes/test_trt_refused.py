"""Engines, GPUs and packages that the runtime of engines refuses, each in words."""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.graphs import BODY
from helpers.played_gpu import PlayedGpu
from helpers.played_trt import module
from helpers.small_onnx import CALL, save

from simam_deploy import build_engine, open_session
from simam_deploy.errors import InputError, RuntimeUnavailable
from simam_deploy.runtimes import trt_cuda

Make = Callable[..., Path]


def test_a_file_that_is_not_as_built(make: Make) -> None:
    path = make()
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(InputError, match=r"(?s)e.engine is not run:.*SHA-256"):
        open_session(path, "trt")
    path.write_bytes(b"ftrt")
    with pytest.raises(InputError, match=r"(?s)e.engine is not run:.*it was cut"):
        open_session(path, "trt")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (
            {"version": "10.9.0.34"},
            r"built by TensorRT 10\.9\.0, and 10\.3\.0 is installed; an engine runs with",
        ),
        ({"options": {"version_compatible": True}}, "was built with --version-compatible"),
        ({"flavor": "tensorrt_rtx", "version": "1.6.0.1"}, r"TensorRT-RTX 1\.6\.0\.1, which cannot be imported"),
    ],
)
def test_engines_that_do_not_run_here(
    told: dict[str, Any], words: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(RuntimeUnavailable, match=words):
        open_session(make(**told), "trt")


def test_another_gpu(gpu: PlayedGpu, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", module(gpu, "tensorrt_rtx", "1.7.1.116"))
    path = make(flavor="tensorrt_rtx", version="1.7.1.116", mask=0b10010)
    words = "e.engine was built for sm80, sm120, and this GPU is sm86\nbuild it again with --targets sm86"
    with pytest.raises(RuntimeUnavailable, match=words):
        open_session(path, "trt")


def test_an_engine_that_tensorrt_refuses(make: Make, plain: Any) -> None:
    def refuse(self: Any, serialized_engine: bytes) -> None:
        self._logger.log(SimpleNamespace(name="ERROR"), "it is for another device")

    plain.Runtime.deserialize_cuda_engine = refuse
    words = r"(?s)TensorRT 10\.3\.0 cannot load .*\(sm86\):\n  ERROR: it is for another device\n.*build it again here"
    with pytest.raises(RuntimeUnavailable, match=words):
        open_session(make(), "trt")


@pytest.mark.parametrize("gpu", ["cuda-python"], indirect=True)
def test_no_gpu(gpu: PlayedGpu, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make()
    cuda = sys.modules["cuda.bindings.runtime"]
    monkeypatch.setattr(cuda, "cudaGetDeviceCount", lambda: (cuda.cudaError_t.cudaErrorNoDevice, None))
    with pytest.raises(
        RuntimeUnavailable, match=r"none can be used here: .* sees no GPU; .*: no CUDA-capable device"
    ):
        open_session(path, "trt")
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(RuntimeUnavailable, match=r"(?s)none can be used here: .*on a machine with a GPU of NVIDIA"):
        open_session(path, "trt")
    monkeypatch.setattr(trt_cuda, "has_driver", lambda: True)
    with pytest.raises(RuntimeUnavailable, match=r"(?s)none can be used here: .*pip install cuda-bindings"):
        open_session(path, "trt")


def test_an_onnx_file_is_not_run(tmp_path: Path) -> None:
    path = save(tmp_path, CALL + BODY)
    with pytest.raises(InputError, match=r"(?s)trt runs an engine, and not an ONNX file.*build model.onnx -o"):
        open_session(path, "trt")
    with pytest.raises(InputError, match="opens the path of an engine file; got int"):
        open_session(3, "trt")
    with pytest.raises(InputError, match="contexts must be 1 to 64, or 0 for one; got 65"):
        open_session(path, "trt", contexts=65)


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
@pytest.mark.skipif(trt_cuda.has_driver(), reason="there is a driver, so the engine may load")
@pytest.mark.parametrize("gpu", ["cuda-python"], indirect=True)
def test_the_true_tensorrt_rtx_loads_as_far_as_it_goes(gpu: PlayedGpu, tmp_path: Path) -> None:
    """Its own Runtime and logger, on a GPU that is not there."""
    path = save(tmp_path, "g (float[1,3,8,8] x) => (float[1,3,8,8] y) { y = Sigmoid(x) }")
    build_engine(path, tmp_path / "true.engine", targets=["sm86"])
    with pytest.raises(
        RuntimeUnavailable, match=r"(?s)TensorRT-RTX .* cannot load .*true\.engine .*\n  ERROR: .*[Cc]uda"
    ):
        open_session(tmp_path / "true.engine", "trt")
