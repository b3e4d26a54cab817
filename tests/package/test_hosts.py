"""DeepStream, Triton and Jetson: the text, as their readers split it."""

import configparser
import os
import re
import struct
import subprocess
from pathlib import Path

import onnx
import pytest
from helpers.made_engine import header

import simam_deploy as sd
from simam_deploy.package import versions

SHAPES = {"x": ((1, 3, 4, 4), (2, 3, 8, 8), (4, 3, 16, 16))}


def retyped(name: str, dtype: int) -> str:
    model = onnx.load("fixed.onnx")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = dtype
    onnx.save(model, name)
    return name


# DeepStream


def properties(text: str) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None, delimiters="=", comment_prefixes="#")
    parser.read_string(text)
    assert parser.sections() == ["property"]
    return dict(parser["property"])


def test_deepstream(folder: Path) -> None:
    recipe = sd.recipe("deepstream", "dynamic.onnx", tensorrt="10.3", shapes=SHAPES, plugin="lib\\ours.so")
    assert properties(recipe.text) == {
        "gpu-id": "0",
        "gie-unique-id": "1",
        "model-engine-file": "dynamic.engine",
        "onnx-file": "dynamic.onnx",
        "network-mode": "0",
        "batch-size": "4",
        "infer-dims": "3;8;8",
        "network-type": "100",
        "output-tensor-meta": "1",
        "custom-lib-path": "lib\\\\ours.so",
    }
    assert "#   trtexec --onnx=dynamic.onnx --saveEngine=dynamic.engine" in recipe.text
    assert "With model-engine-file nvinfer builds nothing" in recipe.text
    assert "registers itself (autoreg) for TensorRT 10" in recipe.notes[-1]
    assert "custom-lib-path" not in sd.recipe("deepstream", "fixed.onnx").text


def test_deepstream_may_not_build_lower_types_itself(folder: Path) -> None:
    """Its builds are not strongly typed."""
    model = onnx.load("fixed.onnx")
    half = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT16, [1], [1.0])
    model.graph.initializer.append(half)
    onnx.save(model, "half.onnx")
    text = sd.recipe("deepstream", "half.onnx").text
    assert "onnx-file" not in properties(text)
    assert "would not keep fp16" in text
    assert "# onnx-file=half.onnx" in text


def test_deepstream_feeds_one_float32_image(folder: Path) -> None:
    with pytest.raises(sd.InputError, match=r"nvinfer feeds float32, and input 'x' is FLOAT16\n.*--keep-io"):
        sd.recipe("deepstream", retyped("half.onnx", onnx.TensorProto.FLOAT16))
    model = onnx.load("fixed.onnx")
    model.graph.input.append(onnx.helper.make_tensor_value_info("y2", onnx.TensorProto.FLOAT, [4]))
    onnx.save(model, "two.onnx")
    with pytest.raises(sd.InputError, match=r"one input of images, .*; two.onnx has x \(2, 3, 5, 7\), y2"):
        sd.recipe("deepstream", "two.onnx")


# Triton


def served(folder: Path, text: str) -> tuple[str, str]:
    """Run the script with a stand-in for the server: config.pbtxt, and the arguments of the server."""
    server = folder / "bin/tritonserver"
    server.parent.mkdir(exist_ok=True)
    server.write_text('#!/bin/sh\necho "$@" > served\n')
    server.chmod(0o755)
    variables = {"PATH": f"{server.parent}:{os.environ['PATH']}"}
    subprocess.run(["/bin/sh", "-c", text], cwd=folder, env=variables, check=True, timeout=60)
    (config,) = (folder / "models").glob("*/config.pbtxt")
    return config.read_text(), (folder / "served").read_text().strip()


def test_triton_with_onnx_runtime(folder: Path) -> None:
    config, started = served(folder, sd.recipe("triton", "dynamic.onnx", plugin='/a "b"\\$(x).so').text)
    assert config == (
        'name: "dynamic"\nbackend: "onnxruntime"\nmax_batch_size: 0\n'
        'input [\n  { name: "x" data_type: TYPE_FP32 dims: [ -1, 3, -1, -1 ] }\n]\n'
        'output [\n  { name: "y" data_type: TYPE_FP32 dims: [ -1, 3, -1, -1 ] }\n]\n'
        'model_operations { op_library_filename: "/a \\"b\\"\\\\$(x).so" }\n'
    )
    assert started == "--model-repository=models"
    assert (folder / "models/dynamic/1/model.onnx").read_bytes() == (folder / "dynamic.onnx").read_bytes()


def test_triton_with_an_engine(folder: Path) -> None:
    engine = header(64, mark=b"ftrt")
    (folder / "a.engine").write_bytes(engine)
    recipe = sd.recipe("triton", "fixed.onnx", engine="a.engine", plugin="libours.so")
    config, started = served(folder, recipe.text)
    assert 'platform: "tensorrt_plan"' in config
    assert "model_operations" not in config
    assert started == "--model-repository=models --backend-config=tensorrt,plugins=./libours.so"
    assert (folder / "models/fixed/1/model.plan").read_bytes() == engine
    assert "--backend-config" not in sd.recipe("triton", "fixed.onnx", engine="a.engine").text
    with pytest.raises(sd.InputError, match=r"the library is './a;b.so', and Triton splits it at ';'"):
        sd.recipe("triton", "fixed.onnx", engine="a.engine", plugin="a;b.so")


def test_triton_copies_the_files_of_weights(folder: Path) -> None:
    model = onnx.load("fixed.onnx")
    weights = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1024], bytes(4096), raw=True)
    model.graph.initializer.append(weights)
    onnx.save(model, "big.onnx", save_as_external_data=True, location="parts.bin", size_threshold=0)
    served(folder, sd.recipe("triton", "big.onnx").text)
    assert (folder / "models/big/1/parts.bin").stat().st_size >= 4096


def test_triton_needs_types_and_shapes(folder: Path) -> None:
    model = onnx.load("fixed.onnx")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, "untold.onnx")
    with pytest.raises(sd.InputError, match="'y' has no shape in the file, and Triton needs one"):
        sd.recipe("triton", "untold.onnx")
    with pytest.raises(sd.InputError, match="'x' is FLOAT8E4M3FN, and Triton has FLOAT, FLOAT16"):
        sd.recipe("triton", retyped("eight.onnx", onnx.TensorProto.FLOAT8E4M3FN))
    (folder / ".net.onnx").write_bytes((folder / "fixed.onnx").read_bytes())
    with pytest.raises(sd.InputError, match="a hidden folder"):
        sd.recipe("triton", ".net.onnx")


# Jetson


@pytest.mark.parametrize("number", ["6.1", "6.2", "6.2.1"])
def test_jetson(folder: Path, number: str) -> None:
    text = sd.recipe("jetson", "bare.onnx", jetpack=number).text
    assert re.search(r"^# For JetPack 6.[12] \(CUDA 12\.6, TensorRT 10\.3, Python 3\.10\)\.$", text, re.M)
    assert "# Copy to the device, into a checkout of simam-deploy: bare.onnx\n" in text
    assert text.count("\n/usr/src/tensorrt/bin/trtexec ") == 2
    assert " -DSIMAM_CUDA_ARCHITECTURES=87\ncmake --build build/native/cuda\n" in text
    assert subprocess.run(["/bin/sh", "-n", "-c", text], check=False).returncode == 0


def test_jetson_builds_no_plugin_that_is_not_taken(folder: Path) -> None:
    recipe = sd.recipe("jetson", "fixed.onnx")
    assert "cmake" not in recipe.text
    assert "# Copy to the device: fixed.onnx\n" in recipe.text
    assert recipe.notes[0] == "for JetPack 6.2; --jetpack names another"
    assert recipe.notes[-1] == "of a file in the form custom_op this recipe builds our plugin too"
    assert "cmake" not in sd.recipe("jetson", "bare.onnx", plugin="/opt/libours.so").text


def test_a_library_goes_to_the_jetson_too(folder: Path) -> None:
    copied = "# Copy to the device: bare.onnx; and the plugin, built for aarch64, to /opt/libours.so\n"
    assert copied in sd.recipe("jetson", "bare.onnx", plugin="/opt/libours.so").text


def test_a_library_for_another_machine(folder: Path) -> None:
    library = folder / "libours.so"
    library.write_bytes(b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HH", 3, 183))
    assert "libours.so" in sd.recipe("jetson", "bare.onnx", plugin="libours.so").text
    for number, words in ((62, "x86-64"), (243, "machine 243 of ELF")):
        library.write_bytes(b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HH", 3, number))
        with pytest.raises(sd.InputError, match=rf"^libours.so is compiled for {words}, .* aarch64\n.*-aarch64"):
            sd.recipe("jetson", "bare.onnx", plugin="libours.so")
        assert sd.recipe("trtexec", "bare.onnx", plugin="libours.so").text
    library.write_bytes(b"no library")
    with pytest.raises(sd.InputError, match=r"libours.so is no library of Linux"):
        sd.recipe("jetson", "bare.onnx", plugin="libours.so")


def test_jetpacks(folder: Path) -> None:
    with pytest.raises(sd.InputError, match=r"no recipe for JetPack '5.1'; there are recipes for 6.1, 6.2, 7.2"):
        sd.recipe("jetson", "fixed.onnx", jetpack="5.1")
    with pytest.raises(sd.InputError, match=r"of JetPack 7.2 is not known here; .*\nname it with --tensorrt"):
        sd.recipe("jetson", "fixed.onnx", jetpack="7.2")
    text = sd.recipe("jetson", "bare.onnx", jetpack="7.2", tensorrt="10.16").text
    assert "CUDA 13.2, TensorRT 10.16)" in text
    assert "'-DSIMAM_CUDA_ARCHITECTURES=87;110'" in text


def test_a_tensorrt_that_the_jetpack_does_not_have(folder: Path) -> None:
    recipe = sd.recipe("jetson", "fixed.onnx", jetpack="6.2", tensorrt="10.9")
    assert recipe.notes[-1] == "JetPack 6.2 comes with TensorRT 10.3; asked for 10.9"
    assert "# For JetPack 6.2 (CUDA 12.6, TensorRT 10.3, Python 3.10).\n# TensorRT 10.9 was asked for" in recipe.text
    assert "# must say 10.9, or leave --tensorrt out.\n" in recipe.text
    assert "was asked for" not in sd.recipe("jetson", "fixed.onnx", jetpack="6.2", tensorrt="10.3").text


def test_the_page_of_jetson_has_every_jetpack() -> None:
    page = (Path(__file__).parents[2] / "docs/howto/jetson.md").read_text()
    rows = dict(re.findall(r"^\| (\d\.\d) \| (.*) \|$", page, re.M))
    assert list(rows) == list(versions.JETPACKS)
    for number, row in rows.items():
        jetpack = versions.JETPACKS[number]
        assert row.split(" | ")[:3] == [jetpack.cuda, jetpack.tensorrt or "ask the device", jetpack.python or "-"]
