"""SimAM between integer layers as one node on integers: which nodes, and what ONNX Runtime makes of the file."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.to_quantise import NET, images, net, saved

from simam_deploy import native
from simam_deploy.compare.kernel_use import kernel_in
from simam_deploy.graph import onnx_file
from simam_deploy.match.find import find
from simam_deploy.precision.calibrate import calibrate
from simam_deploy.precision.int8_nodes import with_int8_nodes
from simam_deploy.precision.quantise import quantise
from simam_deploy.precision.quantised import Quantised
from simam_deploy.precision.sensitivity import opened, snr
from simam_deploy.runtimes import open_session

SHORTCUT = NET.replace(
    "c = Conv <pads = [1, 1, 1, 1]> (r, w2)",
    """d = Conv <pads = [1, 1, 1, 1]> (r, w4)
    [second] t = simam.SimAM <e_lambda: float = 0.0001> (d)
    u = BatchNormalization (t, gamma, beta, mu, var)
    v = Add (u, r)
    c = Conv <pads = [1, 1, 1, 1]> (v, w2)""",
)
W4 = (0.2 * np.random.default_rng(3).standard_normal((6, 6, 3, 3))).astype(np.float32)

ONE = "uint8 xz = {3}, float xs = {0.1}"
TWO = "uint8[2] xz = {3, 4}, float[2] xs = {0.1, 0.2}"


def quantised(folder: Path, graph: str = NET, **kept: list[str]) -> Quantised:
    path, samples = saved(folder, net(graph, given={"w4": W4}))
    return quantise(calibrate(path, samples), "cpu", **kept)


def on_integers(made: Quantised) -> list[str]:
    return [f"{node.name} {node.op_type}" for node in made.model.graph if node.domain == "simam.int8"]


def test_a_shortcut_stays_on_integers(tmp_path: Path) -> None:
    made = quantised(tmp_path, SHORTCUT)
    assert on_integers(made) == ["simam SimAMAffineRelu", "second SimAMAffineAdd"]
    assert "2 SimAM nodes on integers, from layer to layer" in made.notes
    first, second = (node for node in made.model.graph if node.domain == "simam.int8")
    shortcut = second.inputs[5].producer().inputs[0].producer()
    assert shortcut.op_type == "Transpose"
    assert shortcut.inputs[0] is first.outputs[0]
    assert second.inputs[6:8] == first.inputs[-2:]
    assert [block.node for block in find(made.model).blocks] == ["simam", "second"]


def test_the_result_is_near_the_float_model(tmp_path: Path) -> None:
    path, samples = saved(tmp_path, net(SHORTCUT, given={"w4": W4}))
    calibration, feeds = calibrate(path, samples), [{"x": images(seed=2)}]
    with opened(calibration.float32()) as exact, opened(quantise(calibration, "cpu").model) as made:
        assert 20 < snr([exact.run(feeds[0])], map(made.run, feeds)) < 60


@pytest.mark.parametrize(
    ("kept", "reason"),
    [
        ("conv1", "no integer layer makes its x"),
        ("conv2", "no integer layer reads its result"),
    ],
)
def test_a_node_beside_a_float_layer_stays(kept: str, reason: str, tmp_path: Path) -> None:
    made = quantised(tmp_path, keep_float={kept: "asked for"})
    assert on_integers(made) == []
    assert f"1 SimAM node in float32: {reason}" in made.notes
    assert {function.domain for function in made.model.functions.values()} == {"simam"}


def test_a_float_shortcut_keeps_its_node(tmp_path: Path) -> None:
    graph = SHORTCUT.replace("v = Add (u, r)", "e = Exp (r)\n    v = Add (u, e)")
    made = quantised(tmp_path, graph)
    assert on_integers(made) == ["simam SimAMAffineRelu"]
    assert "1 SimAM node in float32: no integer layer makes its residual" in made.notes


def test_float_readers_get_the_rounded_result(tmp_path: Path) -> None:
    graph = NET.replace("(float[N,5] y)", "(float[N,5] y, float[N,6,8,8] z)").replace(
        "[conv2]", "z = Exp (r)\n    [conv2]"
    )
    made = quantised(tmp_path, graph)
    assert on_integers(made) == ["simam SimAMAffineRelu"]
    (exp,) = [node for node in made.model.graph if node.op_type == "Exp"]
    assert exp.inputs[0].name == "r"
    assert exp.inputs[0].producer().op_type == "DequantizeLinear"


@pytest.mark.parametrize(
    ("rounding", "outputs", "reason"),
    [
        (f"{ONE}, int8 yz = {{5}}", "int8[1,2,3,4] z", "the integers around it are of two types"),
        (f"{TWO}, uint8 yz = {{5}}", "uint8[1,2,3,4] z", "no integer layer makes its x"),
        (f"{ONE}, uint8 yz = {{5}}", "uint8[1,2,3,4] z, float[1,2,3,4] y", "its result has several uses"),
    ],
)
def test_rounding_that_the_operator_cannot_do(rounding: str, outputs: str, reason: str, tmp_path: Path) -> None:
    """Written by others."""
    graph = f"""g (uint8[1,2,3,4] q) => ({outputs}) <{rounding}, float ys = {{0.2}}> {{
        x = DequantizeLinear <axis = 1> (q, xs, xz)
        [simam] y = simam.SimAM <e_lambda: float = 0.0001> (x)
        z = QuantizeLinear (y, ys, yz)
    }}"""
    onnx.save(net(graph), tmp_path / "net.onnx")
    assert with_int8_nodes(onnx_file.load(tmp_path / "net.onnx")) == [f"1 SimAM node in float32: {reason}"]


def test_every_transpose_between_layers_cancels(tmp_path: Path, library: native.Library) -> None:
    """What is left stands at the input, and in front of the pool."""
    import onnxruntime

    made = quantised(tmp_path, SHORTCUT)
    onnx_file.save(made.model, tmp_path / "made.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    options.register_custom_ops_library(str(library.path))
    onnxruntime.InferenceSession(str(tmp_path / "made.onnx"), options, providers=["CPUExecutionProvider"])
    ops = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    first, last = ops.index("QLinearConv"), len(ops) - 1 - ops[::-1].index("QLinearConv")
    assert ops[first : last + 1] == ["QLinearConv", "SimAMAffineRelu", "QLinearConv", "SimAMAffineAdd", "QLinearConv"]
    assert kernel_in(tmp_path / "made.onnx").ran == 2


@pytest.mark.parametrize("runtime", ["ort", "openvino"])
def test_the_file_runs_without_the_kernel(runtime: str, tmp_path: Path) -> None:
    pytest.importorskip({"ort": "onnxruntime"}.get(runtime, runtime))
    onnx_file.save(quantised(tmp_path, SHORTCUT).model, tmp_path / "made.onnx")
    given = {"kernel": "off"} if runtime == "ort" else {}
    feed = {"x": images(seed=2)}
    with (
        open_session(tmp_path / "net.onnx", "ort") as exact,
        open_session(tmp_path / "made.onnx", runtime, **given) as session,
    ):
        assert snr([exact.run(feed)], iter([session.run(feed)])) > 20
