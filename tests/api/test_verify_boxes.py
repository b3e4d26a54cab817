"""Detectors in 16 bits and int8 that list boxes by score: roundings move whole rows, and the boxes are compared."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import simam_deploy as sd
from simam_deploy.compare.limits import NO_LIMITS, Precision
from simam_deploy.compare.outputs import OutputRow, Reference

BOXES, FEATURES = 40, 16


def detector(folder: Path, name: str, weights: np.ndarray) -> Path:
    """x (1, 40, 16) to (1, 10, 6): 40 boxes by a product with `weights` (16, 5), the ten surest first."""
    constants = {
        "w": weights.astype(np.float32),
        "k": np.array([10]),
        "four": np.array([4]),
        "five": np.array([5]),
        "zero": np.array([0]),
        "axis": np.array([2]),
        "gain": np.array([20, 20, 4, 4], np.float32),
        "two": np.array([2]),
        "flat": np.array([-1]),
        "label": np.zeros((1, 10, 1), np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="head"),
        helper.make_node("Slice", ["h", "zero", "four", "axis"], ["raw"]),
        helper.make_node("Slice", ["h", "four", "five", "axis"], ["logits"]),
        helper.make_node("Sigmoid", ["raw"], ["part"]),
        helper.make_node("Mul", ["part", "gain"], ["sized"]),
        helper.make_node("Slice", ["sized", "zero", "two", "axis"], ["corner"]),
        helper.make_node("Slice", ["sized", "two", "four", "axis"], ["size"]),
        helper.make_node("Add", ["corner", "size"], ["end"]),
        helper.make_node("Concat", ["corner", "end"], ["boxes"], axis=2),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
        helper.make_node("TopK", ["scores", "k"], ["best", "places"], axis=1),
        helper.make_node("Squeeze", ["places", "axis"], ["rows"]),
        helper.make_node("Reshape", ["rows", "flat"], ["index"]),
        helper.make_node("Gather", ["boxes", "index"], ["chosen"], axis=1),
        helper.make_node("Concat", ["chosen", "best", "label"], ["y"], axis=2),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, BOXES, FEATURES))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 10, 6))],
        [numpy_helper.from_array(array, key) for key, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / name)
    return folder / name


WEIGHTS = np.random.default_rng(3).standard_normal((FEATURES, 5)) / 4
FEED = {"x": np.random.default_rng(4).standard_normal((1, BOXES, FEATURES)).astype(np.float32)}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Boxes in pairs whose scores differ by less than a rounding of float16: they change places."""
    FEED["x"][:, 1::2] = FEED["x"][:, ::2]
    FEED["x"][:, 1::2, 0] += np.float32(1e-3)
    weights = WEIGHTS.copy()
    weights[0, 4] = 1e-3
    weights[0, :4] = 1
    return detector(tmp_path, "net.onnx", weights)


def outputs(report: object, name: str) -> list:
    return [row for row in report.rows if row.session.startswith(name)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("to", ["fp16", "bf16"])
def test_boxes_that_change_places_pass_and_others_fail(to: str, source: Path, tmp_path: Path) -> None:
    low = tmp_path / "low.onnx"
    sd.convert(source, low, to=to, inputs=FEED)
    assert all(row.passed for row in outputs(sd.verify(source, low, inputs=FEED, runtimes=["onnx_half"]), "low"))
    zeroed = onnx.load(low)
    for tensor in zeroed.graph.initializer:
        if tensor.name.startswith("w"):
            tensor.CopyFrom(helper.make_tensor(tensor.name, tensor.data_type, tensor.dims, [0.0] * (FEATURES * 5)))
    onnx.save(zeroed, low)
    report = sd.verify(source, low, inputs=FEED, runtimes=["onnx_half"])
    assert not report.passed
    assert all(row.agreement < 0.6 for row in outputs(report, "low"))


def test_a_bound_on_labels_of_a_file_without_any(tmp_path: Path) -> None:
    text = '<ir_version: 9, opset_import: ["" : 18]> g (float[1,3,4,4] x) => (float[1,3,4,4] y) { y = Sigmoid(x) }'
    path = tmp_path / "net.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    with pytest.raises(sd.InputError, match=r"--max-drop is a share of labels.*the outputs hold none"):
        sd.verify(path, inputs=["plain"], max_drop=1)


def test_the_float32_file_comes_first(source: Path, tmp_path: Path) -> None:
    sd.convert(source, tmp_path / "low.onnx", to="fp16", inputs=FEED)
    with pytest.raises(sd.InputError, match=r"name the float32 file first: verify net.onnx low.onnx"):
        sd.verify(tmp_path / "low.onnx", source, inputs=FEED)


@pytest.mark.parametrize(
    ("reference", "snr", "passed", "tells"),
    [(26, 20, True, True), (26, 8, True, True), (26, 7.5, False, True), (26, 0, False, True), (17, 17, True, False)],
)
def test_where_the_largest_error_tells_nothing_the_mean_one_does(
    reference: float, snr: float, passed: bool, tells: bool
) -> None:
    """A deep network in bfloat16 has errors as large as its outputs, one by one. LOW_FACTOR is 18 dB."""
    row = OutputRow("case", "session", "y", 1.0, 0.5, snr, 0, True)
    judged = Precision("bf16").judged(row, NO_LIMITS, told=False, reference=Reference(None, reference))
    assert (judged.passed, judged.tells) == (passed, tells)
