"""The TensorRT and the CUDA that tests play have the signatures of the true ones."""

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from helpers.played_gpu import PlayedGpu, cuda_python
from helpers.played_trt import module, played

SIGNATURES = """
import json, sys
import tensorrt
import tensorrt_bindings as trt
print(json.dumps({name: eval(f"trt.{name}.__doc__") for name in sys.argv[1:]}))
"""


def parameters(doc: str) -> Iterator[list[str]]:
    """Names of the parameters in each signature of a docstring of pybind11."""
    for line in doc.splitlines():
        if found := re.match(r"(?:\d+\. )?\w+\(self: [\w.]+(.*)\) -> ", line):
            yield re.findall(r", (\w+):", found[1])


def test_what_is_played_has_the_signatures_of_the_bindings(trt_version: str) -> None:
    methods = played(module(PlayedGpu(), "tensorrt", trt_version))
    if tuple(map(int, trt_version.split(".")[:2])) < (10, 11):  # the first with a runtime config
        methods.pop("ICudaEngine.create_runtime_config")
        methods.pop("ICudaEngine.create_execution_context")
    told = subprocess.run([sys.executable, "-c", SIGNATURES, *methods], capture_output=True, text=True, check=True)
    for name, doc in json.loads(told.stdout).items():
        ours = list(inspect.signature(methods[name]).parameters)[1:]
        assert ours in list(parameters(doc)), (name, doc)


def test_the_calls_of_cuda_are_those_of_cuda_python() -> None:
    cuda = pytest.importorskip("cuda.bindings.runtime")
    for name, ours in vars(cuda_python(PlayedGpu())).items():
        if name.startswith("_"):
            continue
        true = getattr(cuda, name)
        if isinstance(ours, type):
            assert {each.name for each in ours} <= set(true.__members__)
        elif callable(ours):
            given = re.search(r"\((.*)\)", true.__doc__.partition("\n")[0])
            assert given
            count = len([each for each in given[1].split(",") if each.strip()])
            assert count == len(inspect.signature(ours).parameters), name
    failed, _ = cuda.cudaGetDeviceCount()
    assert not cuda.cudaError_t.cudaSuccess
    assert failed != 0 or cuda.cudaGetDevice()
