"""Each layer of a converted file beside the float32 file."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from helpers.to_quantise import images, net, saved

import simam_deploy as sd
from simam_deploy.graph import onnx_file
from simam_deploy.precision.layer_errors import FEW, LayersOf, compare_layers

LAYERS = [("conv1", "Conv"), ("simam", "SimAM"), ("conv2", "Conv"), ("fc", "Gemm")]


def beside(folder: Path, to: str, target: str = "cpu", change=lambda model: None) -> LayersOf:
    path, _ = saved(folder, net())
    sd.convert(path, folder / "low.onnx", to=to, target=target, inputs={"x": images()})
    made = onnx_file.load(folder / "low.onnx")
    change(made)
    return compare_layers("low", onnx_file.load(path), made, ([x[None]] for x in images()))


@pytest.mark.parametrize(
    ("to", "target", "runtime", "least", "most"),
    [
        ("fp16", "cpu", "onnx_half", 55, 80),
        ("bf16", "cpu", "onnx_half", 38, 62),
        ("int8", "cpu", "ort", 25, 50),
        ("int8", "tensorrt", "ort", 25, 55),
        ("int8", "openvino", "ort", 25, 50),
        ("int8+fp16", "tensorrt", "onnx_half", 25, 55),
    ],
)
def test_every_layer_is_there_and_near(
    to: str, target: str, runtime: str, least: float, most: float, tmp_path: Path
) -> None:
    found = beside(tmp_path, to, target)
    assert [(layer.node, layer.op) for layer in found.layers] == LAYERS
    for layer in found.layers:
        assert least < layer.snr_db < most, layer
    (block,) = found.blocks
    assert block.before is not None
    np.testing.assert_allclose(block.after["low"], block.before, atol=0.02)
    assert (block.block, block.x.counts.total() + block.x.zeros, block.hidden) == (
        "simam",
        FEW * 6 * 8 * 8,
        to.startswith("int8") and target != "openvino",
    )
    assert (found.runtime, found.feeds) == (runtime, FEW)
    assert found.picture is not None


def test_a_wrong_layer_shows_from_there_on(tmp_path: Path) -> None:
    def damage(model: ir.Model) -> None:
        weight = model.graph.initializers["w2/fp16"]
        weight.const_value = ir.tensor(weight.const_value.numpy() * np.float16(1.5), name="w2/fp16")

    found = {layer.node: layer.snr_db for layer in beside(tmp_path, "fp16", change=damage).layers}
    assert min(found["conv1"], found["simam"]) > 55
    assert max(found["conv2"], found["fc"]) < 10


def test_equal_files_have_no_error(tmp_path: Path) -> None:
    model = onnx_file.load(saved(tmp_path, net())[0])
    outputs = len(model.graph.outputs)
    found = compare_layers("same", model, model, [[images(1)]])
    assert {layer.snr_db for layer in found.layers} == {np.inf}
    assert (found.feeds, len(model.graph.outputs)) == (1, outputs)


def test_a_file_without_blocks_says_so(tmp_path: Path) -> None:
    graph = "g (float[N,3,8,8] x) => (float[N,6,6,6] y) { [conv1] y = Conv (x, w1, b1) }"
    model = onnx_file.load(saved(tmp_path, net(graph))[0])
    found = compare_layers("same", model, model, [[images(1)]])
    assert (found.blocks, found.notes) == ((), ("no gate, as no SimAM block was found",))
    assert [layer.node for layer in found.layers] == ["conv1"]
