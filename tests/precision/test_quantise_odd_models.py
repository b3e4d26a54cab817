"""Models that quantisers stumble over: names, functions, subgraphs, dead channels, values that are not finite."""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.graphs import BODY
from helpers.to_quantise import NET, images, net, saved
from onnx import helper, numpy_helper

from simam_deploy.compare.inputs import specs
from simam_deploy.errors import InputError, RuntimeUnavailable
from simam_deploy.graph import onnx_file
from simam_deploy.precision.calibrate import calibrate
from simam_deploy.precision.prepare import prepare
from simam_deploy.precision.quantise import quantise
from simam_deploy.precision.quantised import Quantised
from simam_deploy.precision.samples import Samples
from simam_deploy.precision.sensitivity import opened, snr
from simam_deploy.precision.targets import TARGETS
from simam_deploy.runtimes import open_session


def noise(path: Path, samples: Samples, made: Quantised) -> float:
    """SNR of the quantised model against the file as it was."""
    with open_session(path, "onnx_reference") as exact, opened(made.model) as session:
        return snr([exact.run(feed) for feed in samples], map(session.run, samples))


def renamed(model: onnx.ModelProto, names: dict[str, str], nodes: dict[str, str]) -> onnx.ModelProto:
    graph = model.graph
    for node in graph.node:
        node.name = nodes.get(node.name, node.name)
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = names.get(value.name, value.name)
    return model


def test_a_weight_with_the_name_that_the_quantiser_would_take(tmp_path: Path) -> None:
    """It takes `x_scale` for the scale of x without a look at it."""
    path, samples = saved(tmp_path, renamed(net(), {"b1": "x_scale", "b3": "x_QuantizeLinear_Output"}, {}))
    made = quantise(calibrate(path, samples), "cpu")
    assert noise(path, samples, made) > 20
    names = [str(value.name) for node in made.model.graph for value in node.outputs]
    assert {"x_QuantizeLinear_Output_", "a", "y"} <= {*names}
    assert len(names) == len({*names})


@pytest.mark.parametrize("name", ["", "with space", "é/ü:0", "v1", "n2_QuantizeLinear"])
def test_names(tmp_path: Path, name: str) -> None:
    nodes = {node: name for node in ("conv1", "bn", "relu", "conv2", "fc")} if not name else {"conv2": name}
    model = renamed(net(), {"x": name or "x", "w2": f"{name}w", "y": f"{name}out"}, nodes)
    path, samples = saved(tmp_path, model)
    made = quantise(calibrate(path, samples), "cpu")
    assert noise(path, samples, made) > 20
    assert made.integer == (("a", "c", f"{name}out") if not name else ("conv1", name, "fc"))
    assert [value.name for value in (*made.model.graph.inputs, *made.model.graph.outputs)] == [
        name or "x", f"{name}out",
    ]  # fmt: skip


def test_two_nodes_of_one_name_are_told_apart(tmp_path: Path) -> None:
    path, samples = saved(tmp_path, renamed(net(), {}, {"conv2": "conv1"}))
    made = quantise(calibrate(path, samples), "cpu", keep_float={"conv1": "asked for"})
    assert [(row.node, row.reason) for row in made.rows] == [("conv1", "asked for"), ("conv1_", ""), ("fc", "")]


def test_batch_norm_that_is_not_behind_simam_folds(tmp_path: Path) -> None:
    graph = NET.replace("a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)", """z = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
    [bn0] a = BatchNormalization (z, gamma, beta, mu, var)""")  # fmt: skip
    path, samples = saved(tmp_path, net(graph))
    prepared = prepare(onnx_file.load(path))
    assert prepared.notes == ("1 BatchNormalization folded into the convolution or Gemm in front",)
    assert [node.name for node in prepared.model.graph] == ["conv1", "simam", "conv2", "pool", "flat", "fc"]
    with open_session(path, "onnx_reference") as exact, opened(prepared.model) as session:
        assert snr([exact.run(feed) for feed in samples], map(session.run, samples)) > 110


def test_functions_of_others_are_inlined_and_ours_stay(tmp_path: Path) -> None:
    theirs = """<domain: "acme", opset_import: ["" : 18]>
    Block (x, w) => (y) { [inner] a = Conv <pads = [1, 1, 1, 1]> (x, w)
                          y = Relu (a) }"""
    graph = NET.replace("c = Conv <pads = [1, 1, 1, 1]> (r, w2)", "c = acme.Block (r, w2)")
    model = net(graph, BODY, theirs)
    model.opset_import.append(helper.make_opsetid("acme", 1))
    path, samples = saved(tmp_path, model)
    made = quantise(calibrate(path, samples), "cpu")
    assert [f.name for f in made.model.functions.values() if f.domain == "simam"] == ["SimAMAffineRelu"]
    assert {f.domain for f in made.model.functions.values()} == {"simam", "simam.int8"}
    assert "functions inlined: acme::Block" in made.notes
    assert len(made.integer) == 3
    assert noise(path, samples, made) > 20


def test_types_behind_operators_that_onnx_does_not_know(tmp_path: Path) -> None:
    graph = NET.replace("p = GlobalAveragePool (c)", "q = com.microsoft.Gelu (c)\n p = GlobalAveragePool (q)")
    model = net(graph)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    path, samples = saved(tmp_path, model)
    assert quantise(calibrate(path, samples), "cpu").integer == ("conv1", "conv2", "fc")


def test_an_operator_of_another_domain_is_not_taken_for_onnx_own(tmp_path: Path) -> None:
    model = net(
        """g (float[N,3,8,8] x) => (float[N,6,10,10] y) {
        [conv1] a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
        [pad] y = com.microsoft.Pad (a, pads) }""",
        given={"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])},
    )
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    path, samples = saved(tmp_path, model)
    made = quantise(calibrate(path, samples), "cpu").model
    assert made.graph.outputs[0].producer().name == "pad"


def test_layers_of_other_types_stay(tmp_path: Path) -> None:
    graph = NET.replace("[fc] y = Gemm <transB = 1> (f, w3, b3)", """z = Cast <to = 11> (f)
    [wide] k = MatMul (z, w4)
    y = Cast <to = 1> (k)""")  # fmt: skip
    path, samples = saved(tmp_path, net(graph, given={"w4": np.ones((4, 5))}))
    rows = quantise(calibrate(path, samples), "cpu").rows
    assert {row.node: row.reason for row in rows} == {
        "conv1": "",
        "conv2": "",
        "wide": "its inputs and outputs are not float32, or of unknown type",
    }


@pytest.mark.parametrize("shape", [(1, 5), (1,), ()])
def test_a_gemm_whose_bias_is_broadcast(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path, samples = saved(tmp_path, net(given={"b3": np.ones(shape, np.float32)}))
    calibration = calibrate(path, samples)
    made = quantise(calibration, "cpu")
    reasons = {row.node: row.reason for row in made.rows}
    assert reasons["fc"] == "its bias is no vector of 5 numbers, which int32 needs"
    assert quantise(calibration, "tensorrt").integer == ("conv1", "conv2", "fc")


def test_a_bias_that_is_computed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    graph = NET.replace("(r, w2)", "(r, w2, b4)")
    graph = graph.replace("[conv2]", "m = ReduceMax <keepdims = 0> (r, axes)\n b4 = Slice (m, at, to)\n [conv2]")
    given = {"axes": np.array([0, 2, 3]), "at": np.array([0]), "to": np.array([4])}
    path, samples = saved(tmp_path, net(graph, given=given))
    calibration = calibrate(path, samples)
    made = quantise(calibration, "cpu")
    assert {row.node: row.reason for row in made.rows}["conv2"] == "its bias is no constant, which int32 needs"
    assert quantise(calibration, "tensorrt").integer == ("conv1", "conv2", "fc")
    assert not caplog.records


@pytest.mark.parametrize("target", TARGETS)
def test_a_gemm_keeps_its_beta(tmp_path: Path, target: str) -> None:
    """The quantiser would lose it."""
    graph = NET.replace("Gemm <transB = 1>", "Gemm <transB = 1, alpha = 0.5, beta = 0.25>")
    path, samples = saved(tmp_path, net(graph, given={"b3": np.arange(5, dtype=np.float32)}))
    assert noise(path, samples, quantise(calibrate(path, samples), target)) > 30


def test_transposed_convolutions_are_integer_where_a_kernel_is(tmp_path: Path) -> None:
    graph = NET.replace("c = Conv <pads = [1, 1, 1, 1]> (r, w2)", "c = ConvTranspose (r, w4)")
    w4 = np.random.default_rng(0).standard_normal((6, 4, 3, 3)).astype(np.float32)
    path, samples = saved(tmp_path, net(graph, given={"w4": w4}))
    calibration = calibrate(path, samples)
    assert quantise(calibration, "tensorrt").integer == ("conv1", "conv2", "fc")
    made = quantise(calibration, "cpu")
    assert {row.node: row.reason for row in made.rows}["conv2"] == "ConvTranspose has no integer kernel there"
    assert noise(path, samples, made) > 20


def test_a_model_that_onnx_runtime_cannot_run(tmp_path: Path) -> None:
    path, samples = saved(
        tmp_path, net(NET.replace("f = Flatten (p)", "f = Reshape (p, wrong)"), given={"wrong": np.array([7, 5])})
    )
    with pytest.raises(
        RuntimeUnavailable,
        match=r"ONNX Runtime cannot run the float32 model on the samples: .*(fc|flat)",
    ):
        calibrate(path, samples)


def test_bodies_stay_float_with_a_note(tmp_path: Path) -> None:
    branches = """If (yes) <
        then_branch = then () => (t) { [inner] t = Conv <pads = [1, 1, 1, 1]> (r, w2) },
        else_branch = other () => (e) { k = Conv <pads = [1, 1, 1, 1]> (r, w2)
                                        e = Neg (k) }>"""
    graph = NET.replace("Conv <pads = [1, 1, 1, 1]> (r, w2)", branches)
    model = net(graph, given={"yes": np.array(True)})
    w2 = np.random.default_rng(0).standard_normal((4, 6, 3, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(w2, "w2"))
    path, samples = saved(tmp_path, model)
    made = quantise(calibrate(path, samples), "cpu")
    assert made.integer == ("conv1", "fc")
    assert "2 layers in the bodies of If, Loop and Scan stay float32" in made.notes
    assert noise(path, samples, made) > 20


@pytest.mark.parametrize("target", TARGETS)
def test_dead_channels_and_dead_maps(tmp_path: Path, target: str) -> None:
    given = {"w1": np.zeros((6, 3, 3, 3), np.float32), "b1": np.zeros(6, np.float32)}
    path, samples = saved(tmp_path, net(given=given))
    made = quantise(calibrate(path, samples), target)
    assert made.integer == ("conv1", "conv2", "fc")
    with opened(made.model) as session:
        assert all(np.isfinite(session.run(feed)["y"]).all() for feed in samples)


def test_a_weight_that_is_not_finite_stays(tmp_path: Path) -> None:
    w2 = np.full((4, 6, 3, 3), np.nan, np.float32)
    path, samples = saved(tmp_path, net(given={"w2": w2}))
    made = quantise(calibrate(path, samples), "cpu")
    assert {row.node: row.reason for row in made.rows}["conv2"] == "its weight 'w2' holds NaN or infinity"
    assert made.integer == ("conv1",)


@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_an_activation_that_is_not_finite_stays(tmp_path: Path, method: str) -> None:
    graph = NET.replace("[conv2] c = Conv", "l = Log (m)\n [conv2] c = Conv").replace("(r, w2)", "(l, w2)")
    graph = graph.replace("r = Relu (n)", "r = Relu (n)\n m = Sub (r, r)")
    path, samples = saved(tmp_path, net(graph))
    made = quantise(calibrate(path, samples, method=method), "cpu")
    reasons = {row.node: row.reason for row in made.rows}
    assert reasons["conv1"] == ""
    assert reasons["conv2"] == "'l' becomes NaN or infinite on the samples"


def test_weights_that_are_constant_nodes(tmp_path: Path) -> None:
    model = net()
    for tensor in list(model.graph.initializer):
        model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    del model.graph.initializer[:]
    path, samples = saved(tmp_path, model)
    made = quantise(calibrate(path, samples), "tensorrt")
    assert (made.q, made.dq) == (3, 6)


def test_weights_that_are_inputs_too(tmp_path: Path) -> None:
    """As files of IR version 3 list them."""
    model = net()
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    path, samples = saved(tmp_path, model)
    made = quantise(calibrate(path, samples), "tensorrt")
    assert "9 weights that could be fed as an input can no longer" in made.notes
    assert [value.name for value in made.model.graph.inputs] == ["x"]
    assert len(made.integer) == 3


def test_a_model_without_simam(tmp_path: Path) -> None:
    path, samples = saved(tmp_path, net(NET.replace("simam.SimAM <e_lambda: float = 0.0001>", "Sigmoid")))
    made = quantise(calibrate(path, samples), "openvino")
    assert "no SimAM block was found in it" in made.notes
    assert made.integer == ("conv1", "conv2", "fc")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("quantised", "quantised already .*quantise the float32 file"),
        ("half", "holds FLOAT16; int8 is made of the float32 file"),
        ("old", "of opset 12, and int8 with a scale for each channel needs 13; export it with opset 13"),
    ],
)
def test_models_that_are_refused(tmp_path: Path, change: str, words: str) -> None:
    path, samples = saved(tmp_path, net())
    model = onnx_file.load(path)
    if change == "quantised":
        model = quantise(calibrate(path, samples), "cpu").model
    elif change == "half":
        model.graph.register_initializer(ir.Value(name="h", const_value=ir.tensor(np.ones(1, np.float16), name="h")))
    else:
        model.graph.opset_imports[""] = 12
    with pytest.raises(InputError, match=words):
        calibrate(model, samples)


@pytest.mark.parametrize("missing", ["onnxruntime.quantization", "onnxscript.rewriter"])
def test_a_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    path, samples = saved(
        tmp_path, net(NET.replace("[simam] s = simam.SimAM <e_lambda: float = 0.0001> (a)", "s = Neg (a)"))
    )
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(RuntimeUnavailable, match=r'cannot be imported.*\npip install "simam-deploy\[quantise\]"'):
        calibrate(path, samples)


def test_samples_for_another_model(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, net())
    x = specs(path)[0]
    with pytest.raises(InputError, match="the samples are for 2 inputs; the model has 1"):
        calibrate(path, Samples({"x": images(), "u": images()}, [x, type(x)("u", x.dtype, x.shape)]))


def test_a_function_that_cannot_be_inlined_is_refused(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["" : 18, "acme" : 1]> g (float[1,2,4,4] x) => (float[1,2,4,4] y) {
        y = acme.Block(x)
    }
    <domain: "acme", opset_import: ["" : 10]> Block (x) => (y) { y = Resize(x, s) s = Identity(x) }"""
    model = onnx.parser.parse_model(
        text.replace("y = Resize(x, s) s = Identity(x)", "t = Clip<min = 0.0>(x) y = Relu(t)")
    )
    with pytest.raises(InputError, match="cannot be inlined"):
        prepare(ir.from_proto(model))
