"""The Python program for ONNX Runtime, which is run."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

import simam_deploy as sd
from simam_deploy import native

pytest.importorskip("onnxruntime")

SHAPES = {"x": ((1, 3, 4, 4), (2, 3, 8, 8), (4, 3, 16, 16))}


def printed(text: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_runs(folder: Path) -> None:
    assert printed(sd.recipe("onnxruntime", "dynamic.onnx", shapes=SHAPES).text, folder) == "y (2, 3, 8, 8) float32\n"


def test_it_runs_with_the_op_library(folder: Path) -> None:
    """A node without a definition runs by the library alone."""
    if (library := native.library()) is None:
        pytest.skip(native.why_not())
    text = sd.recipe("onnxruntime", "bare.onnx", plugin=library.path).text
    assert printed(text, folder) == "y (2, 3, 5, 7) float32\n"


def test_names_that_mean_harm_are_strings(folder: Path) -> None:
    evil = 'x"\'\\"""}; print(\'pwned\')  # {x}'
    model = onnx.load("fixed.onnx")
    model.graph.input[0].name = model.graph.node[0].input[0] = evil
    onnx.save(model, 'it\'s "a\\b".onnx')
    assert printed(sd.recipe("onnxruntime", 'it\'s "a\\b".onnx').text, folder) == "y (2, 3, 5, 7) float32\n"


def test_types_that_numpy_lacks(folder: Path) -> None:
    model = onnx.load("fixed.onnx")
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.BFLOAT16
    onnx.save(model, "bf16.onnx")
    with pytest.raises(sd.InputError, match=r"input 'x' is BFLOAT16, and NumPy, .*\n.*--keep-io"):
        sd.recipe("onnxruntime", "bf16.onnx")


def test_the_options_of_the_tensorrt_provider(folder: Path) -> None:
    text = sd.recipe("onnxruntime", "dynamic.onnx", shapes=SHAPES).text
    names: dict[str, Any] = {}
    exec(text[text.index("tensorrt = {") :], names)
    assert names["tensorrt"] == {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": "engines",
        "trt_profile_min_shapes": "x:1x3x4x4",
        "trt_profile_opt_shapes": "x:2x3x8x8",
        "trt_profile_max_shapes": "x:4x3x16x16",
    }
