"""int8 on a small network: what is rounded, what is not, for each target."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.to_quantise import NET, images, net, saved

from simam_deploy.errors import InputError, RuntimeUnavailable
from simam_deploy.graph import onnx_file
from simam_deploy.match.int8_nodes import opened as opened_nodes
from simam_deploy.precision.calibrate import Calibration, calibrate
from simam_deploy.precision.quantise import quantise
from simam_deploy.precision.quantised import Quantised
from simam_deploy.precision.sensitivity import opened, snr
from simam_deploy.precision.targets import TARGETS
from simam_deploy.runtimes import open_session


def counts(made: Quantised) -> dict[str, int]:
    ops = [node.op_type for node in made.model.graph]
    return {op: ops.count(op) for op in sorted(set(ops))}


def producer(value: ir.Value | None) -> str:
    node = value.producer() if value is not None else None
    return node.op_type if node is not None else ""


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    path, samples = saved(tmp_path_factory.mktemp("net"), net())
    return calibrate(path, samples)


@pytest.mark.parametrize("target", TARGETS)
def test_the_result_is_near_the_float_model(calibration: Calibration, target: str) -> None:
    feeds = [{"x": images(seed=2)}]
    with opened(calibration.float32()) as exact, opened(quantise(calibration, target).model) as made:
        assert 20 < snr([exact.run(feeds[0])], map(made.run, feeds)) < 60


def test_cpu(calibration: Calibration) -> None:
    made = quantise(calibration, "cpu")
    assert counts(made) == {
        "Conv": 2, "DequantizeLinear": 10, "Flatten": 1, "Gemm": 1, "GlobalAveragePool": 1, "QuantizeLinear": 5,
        "SimAMAffineRelu": 1, "Transpose": 2,
    }  # fmt: skip
    assert made.integer == ("conv1", "conv2", "fc")
    assert (made.q, made.dq) == (5, 10)
    assert made.notes == (
        "on x86 CPUs without VNNI, sums of uint8 by int8 products may saturate: verify it on such a machine",
        "1 SimAM node on integers, from layer to layer",
    )
    zero_points = {node.inputs[2].const_value.dtype for node in made.model.graph if node.op_type == "QuantizeLinear"}
    assert zero_points == {ir.DataType.UINT8}


def test_simam_is_one_node_between_dequantised_and_quantised(calibration: Calibration) -> None:
    (node,) = [node for node in opened_nodes(quantise(calibration, "cpu").model).graph if node.domain == "simam"]
    assert node.name == "simam"
    assert producer(node.inputs[0]) == "DequantizeLinear"
    assert [use.node.op_type for use in node.outputs[0].uses()] == ["QuantizeLinear"]
    assert [producer(value) for value in node.inputs[1:]] == ["", ""]  # scale and bias stay float32 constants


def test_every_convolution_is_integer_in_onnx_runtime(calibration: Calibration, tmp_path: Path) -> None:
    import onnxruntime

    onnx_file.save(quantise(calibration, "cpu").model, tmp_path / "made.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(tmp_path / "made.onnx"), options, providers=["CPUExecutionProvider"])
    ops = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert (ops.count("QLinearConv"), ops.count("QGemm")) == (2, 1)
    assert not {"Conv", "FusedConv", "Gemm"} & {*ops}


def test_tensorrt(calibration: Calibration) -> None:
    """Zero points are 0, biases float32, and only inputs of layers are rounded."""
    made = quantise(calibration, "tensorrt")
    assert (made.q, made.dq) == (3, 6)
    for node in made.model.graph:
        if node.op_type == "DequantizeLinear":
            zero = node.inputs[2].const_value
            assert zero.dtype == ir.DataType.INT8
            assert not zero.numpy().any()
        if node.op_type in ("Conv", "Gemm"):
            assert [producer(value) for value in node.inputs[:2]] == ["DequantizeLinear"] * 2
            assert [producer(value) for value in node.inputs[2:]] == [""] * (len(node.inputs) - 2)
    (simam,) = [node for node in made.model.graph if node.domain == "simam"]
    assert producer(simam.inputs[0]) == "Conv"


def test_openvino_has_no_function_and_no_rounding_inside_simam(calibration: Calibration) -> None:
    made = quantise(calibration, "openvino")
    assert not made.model.functions
    rounded = [node for node in made.model.graph if node.op_type == "QuantizeLinear"]
    assert len(rounded) == made.q == 7


def test_openvino_runs_its_file_right(tmp_path: Path) -> None:
    """It would not, if the outputs of layers were not rounded."""
    pytest.importorskip("openvino")
    path, samples = saved(tmp_path, net(NET.replace("(x, w1, b1)", "(x, w1)")))
    calibration = calibrate(path, samples)
    onnx_file.save(quantise(calibration, "openvino").model, tmp_path / "made.onnx")
    feed = {"x": images()}
    with open_session(tmp_path / "made.onnx", "openvino") as session, opened(calibration.float32()) as exact:
        assert snr([exact.run(feed)], iter([session.run(feed)])) > 20


def test_openvino_does_not_run_the_file_for_tensorrt(calibration: Calibration, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    onnx_file.save(quantise(calibration, "tensorrt").model, tmp_path / "made.onnx")
    words = "the SimAM block at 'simam' reads the integer layer 'conv1' without rounding .*--target openvino"
    with pytest.raises(RuntimeUnavailable, match=words):
        open_session(tmp_path / "made.onnx", "openvino")
    onnx_file.save(quantise(calibration, "tensorrt", keep_float={"conv1": "asked for"}).model, tmp_path / "made.onnx")
    open_session(tmp_path / "made.onnx", "openvino").close()


def test_weights_have_a_scale_for_each_channel(calibration: Calibration) -> None:
    scales = {
        node.inputs[0].name: node.inputs[1].const_value.shape.numpy()
        for node in quantise(calibration, "tensorrt").model.graph
        if node.op_type == "DequantizeLinear" and producer(node.inputs[0]) == ""
    }
    assert sorted(scales.values()) == [(4,), (5,), (6,)]


def test_a_node_of_simam_reads_a_shortcut_unrounded(tmp_path: Path) -> None:
    graph = NET.replace("c = Conv <pads = [1, 1, 1, 1]> (r, w2)", """d = Conv <pads = [1, 1, 1, 1]> (r, w4)
    t = simam.SimAM <e_lambda: float = 0.0001> (d)
    u = BatchNormalization (t, gamma, beta, mu, var)
    v = Add (u, r)
    c = Conv <pads = [1, 1, 1, 1]> (v, w2)""")  # fmt: skip
    w4 = 0.2 * np.random.default_rng(3).standard_normal((6, 6, 3, 3))
    path, samples = saved(tmp_path, net(graph, given={"w4": w4.astype(np.float32)}))
    made = quantise(calibrate(path, samples), "tensorrt").model
    first, second = (node for node in made.graph if node.domain == "simam")
    assert second.op_type == "SimAMAffineAdd"
    assert second.inputs[3] is first.outputs[0]


def test_keep_float(calibration: Calibration) -> None:
    made = quantise(calibration, "cpu", keep_float={"conv2": "asked for"})
    assert made.integer == ("conv1", "fc")
    assert "conv2  Conv      float32  asked for" in str(made)
    assert made.verdict == "2 layers in int8, 1 in float32; 3 QuantizeLinear, 7 DequantizeLinear"
    (conv,) = [node for node in made.model.graph if node.name == "conv2"]
    assert [producer(value) for value in conv.inputs] == ["SimAMAffineRelu", ""]


def test_nothing_is_rounded_among_float_nodes(calibration: Calibration) -> None:
    made = quantise(calibration, "cpu", keep_float={"conv1": "asked for", "conv2": "asked for", "fc": "asked for"})
    assert (made.integer, made.q, made.dq) == ((), 0, 0)
    made = quantise(calibration, "cpu", keep_float={"conv2": "asked for"})
    (pool,) = [node for node in made.model.graph if node.name == "pool"]
    assert producer(pool.inputs[0]) == "Conv"


def test_nothing_is_rounded_behind_the_last_layer(tmp_path: Path) -> None:
    """Boxes and scores in one output: with one scale, nothing would be left of the scores."""
    graph = """g (float[N,3,8,8] x) => (float[N,12,8,8] y) {
    [conv1] a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
    [boxes] b = Mul (a, stride)
    [sigmoid] s = Sigmoid (a)
    [concat] y = Concat <axis = 1> (b, s) }"""
    path, samples = saved(tmp_path, net(graph, given={"stride": np.array(600, np.float32)}))
    made = quantise(calibrate(path, samples), "cpu")
    assert (made.q, made.dq) == (2, 4)
    with opened(made.model) as session:
        scores = session.run({"x": images(1)})["y"][:, 6:]
    assert 0.4 < scores.mean() < 0.6
    assert len({*scores.ravel()}) > 50


def test_an_activation_goes_with_its_layer(tmp_path: Path) -> None:
    graph = NET.replace("[simam] s = simam.SimAM <e_lambda: float = 0.0001> (a)", """[relu0] z = Relu (a)
    [simam] s = simam.SimAM <e_lambda: float = 0.0001> (z)""")  # fmt: skip
    path, samples = saved(tmp_path, net(graph))
    made = quantise(calibrate(path, samples), "cpu").model
    assert [node.name for node in made.graph if node.op_type == "Relu"] == []  # its range is that of the rounding


def test_one_calibration_serves_all_targets_and_stays(calibration: Calibration) -> None:
    before = calibration.model.SerializeToString(deterministic=True)
    first = ir.to_proto(quantise(calibration, "cpu").model).SerializeToString(deterministic=True)
    for target in TARGETS:
        quantise(calibration, target, only="conv1")
    assert calibration.model.SerializeToString(deterministic=True) == before
    assert ir.to_proto(quantise(calibration, "cpu").model).SerializeToString(deterministic=True) == first


def test_marks_of_the_quantiser_are_taken_off(tmp_path: Path) -> None:
    model = net()
    model.producer_name, model.producer_version = "acme", "7"
    model.metadata_props.add(key="names", value="cat, dog")
    path, samples = saved(tmp_path, model)
    calibration = calibrate(path, samples)
    for made in (quantise(calibration, "cpu").model, calibration.float32()):
        assert (made.producer_name, made.producer_version) == ("acme", "7")
        assert made.metadata_props == {"names": "cat, dog"}


def test_the_model_in_memory_is_not_changed(tmp_path: Path) -> None:
    path, samples = saved(tmp_path, net())
    model = onnx_file.load(path)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    quantise(calibrate(model, samples), "cpu")
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"target": "npu"}, "int8 is made for cpu, tensorrt, openvino; asked for 'npu'"),
        ({"keep_float": {"conv3": "asked for"}}, "no node has the name 'conv3'; there are 'conv2', 'conv1'"),
    ],
)
def test_what_is_unknown(calibration: Calibration, given: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        quantise(calibration, **given)


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_other_methods_cut_rare_extremes(tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]) -> None:
    x = images(64)
    x[5, 0, 0, 0] = 40
    path, samples = saved(tmp_path, net(), x)
    made = calibrate(path, samples, method=method, on_progress=print)
    out, err = capsys.readouterr()
    assert (out.splitlines()[-1], err) == (f"calibrate ({method}): 64 of 64", "")
    assert len(out.splitlines()) == 1 + 2 * 64
    highest = [calibrate(path, samples).ranges["v0"][1], made.ranges["v0"][1]]
    assert highest[0] == 40 > highest[1]
    with pytest.raises(InputError, match="calibration is by minmax, entropy, percentile; asked for 'mean'"):
        calibrate(path, samples, method="mean")
