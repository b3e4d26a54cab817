"""Raising the opset changes no result and loses nothing, or is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from simam_deploy.errors import InputError
from simam_deploy.graph import onnx_file
from simam_deploy.precision.raise_opset import raise_opset
from simam_deploy.runtimes import open_session

OPSET = 22
TOLERANCE = 1e-6
"""An operator of a later opset may be another kernel of ONNX Runtime, which sums in another order."""


def of_opset(opset: int, graph: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]> {graph}')


CHANGED = {
    "axes become an input": (11, "g (float[2, 3, 4] x) => (float[2, 1, 4] y) { y = ReduceSum<axes = [1]>(x) }"),
    "axes of a mean": (13, "g (float[2, 3, 4] x) => (float[2, 1, 4] y) { y = ReduceMean<axes = [1]>(x) }"),
    "softmax flattens": (11, "g (float[2, 3, 4] x) => (float[2, 3, 4] y) { y = Softmax<axis = 1>(x) }"),
    "limits become inputs": (7, "g (float[2, 4] x) => (float[2, 4] y) { y = Clip<min = -0.5, max = 0.5>(x) }"),
    "pads become an input": (7, "g (float[2, 4] x) => (float[2, 6] y) { y = Pad<pads = [0, 1, 0, 1]>(x) }"),
    "starts become inputs": (
        7,
        "g (float[2, 4] x) => (float[2, 2] y) { y = Slice<axes = [1], starts = [1], ends = [3]>(x) }",
    ),
    "equal parts": (11, "g (float[2, 4] x) => (float[2, 2] y, float[2, 2] z) { y, z = Split<axis = 1>(x) }"),
    "dropout": (7, "g (float[2, 4] x) => (float[2, 4] y) { y = Dropout<ratio = 0.5>(x) }"),
    "batch norm": (
        7,
        """g (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y) <float[2] s = {1, 2}> {
            y = BatchNormalization(x, s, s, s, s) }""",
    ),
    "upsample": (
        9,
        """g (float[1, 2, 4, 4] x) => (float[1, 2, 6, 6] y) <float[4] s = {1, 1, 1.5, 1.5}> {
            y = Upsample<mode = "nearest">(x, s) }""",
    ),
    "linear upsample": (
        9,
        """g (float[1, 2, 4, 4] x) => (float[1, 2, 8, 8] y) <float[4] s = {1, 1, 2, 2}> {
            y = Upsample<mode = "linear">(x, s) }""",
    ),
    "resize": (
        10,
        """g (float[1, 2, 4, 4] x) => (float[1, 2, 8, 8] y) <float[4] s = {1, 1, 2, 2}> {
            y = Resize<mode = "linear">(x, s) }""",
    ),
    "resize of today": (
        11,
        """g (float[1, 2, 4, 4] x) => (float[1, 2, 8, 8] y) <float[4] s = {1, 1, 2, 2}, float[0] roi = {}> {
            y = Resize<mode = "linear", coordinate_transformation_mode = "align_corners">(x, roi, s) }""",
    ),
    "quantised": (
        10,
        """g (float[2, 4] x) => (float[2, 4] y) <float s = {0.5}, uint8 z = {3}> {
            q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }""",
    ),
    "a branch": (
        11,
        """g (float[2, 3, 4] x) => (float[2, 3, 4] y) <bool c = {1}> {
            y = If(c)<then_branch = t () => (float[2, 3, 4] u) { u = Softmax<axis = 1>(x) },
                      else_branch = e () => (float[2, 3, 4] v) { v = Identity(x) }> }""",
    ),
    "an operator of ONNX Runtime": (
        11,
        """g (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y) <float[1, 1, 1, 1] w = {-2}> {
            y = com.microsoft.FusedConv<activation = "Relu">(x, w) }""",
    ),
}


@pytest.mark.parametrize("case", CHANGED)
def test_results_stay(case: str, tmp_path: Path) -> None:
    before = of_opset(*CHANGED[case])
    raised = raise_opset(ir.from_proto(before), OPSET)
    onnx.save(before, tmp_path / "before.onnx")
    onnx_file.save(raised, tmp_path / "raised.onnx")
    onnx.checker.check_model(tmp_path / "raised.onnx", full_check=True)
    shape = [dim.dim_value for dim in before.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    results = []
    for name in ("before", "raised"):
        with open_session(tmp_path / f"{name}.onnx", "ort") as session:
            results.append(session.run({"x": x}))
    assert results[0].keys() == results[1].keys()
    for name, array in results[0].items():
        np.testing.assert_allclose(results[1][name], array, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("opset", "graph", "operator"),
    [
        (
            8,
            """g (float[1, 3, 2] x) => (float[1, 3, 2] y) {
                y = Scan<num_scan_inputs = 1, body = b (float[2] a) => (float[2] q) { q = Mul(a, a) }>(, x) }""",
            "Scan is another operator since opset 9",
        ),
        (
            18,
            """g (float[1, 4, 2, 2] x) => (float[1, 4, 2, 2] y) <float[2] s = {1, 2}> {
                y = GroupNormalization<num_groups = 2>(x, s, s) }""",
            "GroupNormalization is another operator since opset 21",
        ),
    ],
)
def test_operators_that_the_converter_overlooks_are_refused(opset: int, graph: str, operator: str) -> None:
    with pytest.raises(
        InputError, match=rf"opset {opset} is too old.*{operator}\nexport the model anew with --opset 22"
    ):
        raise_opset(ir.from_proto(of_opset(opset, graph)), OPSET)


def test_names_notes_and_metadata_stay() -> None:
    proto = of_opset(
        17,
        """g (float[2, 4] x, bool c) => (float[2, 4] y) <float[4] w = {1, 2, 3, 4}> {
            a = Mul(x, w)
            y = If(c)<then_branch = t () => (float[2, 4] u) <float[4] v = {1, 2, 3, 4}> { u = Mul(a, v) },
                      else_branch = e () => (float[2, 4] q) { q = Mul(x, a) }> }""",
    )
    proto.doc_string, proto.producer_name, proto.model_version, proto.graph.doc_string = "model", "us", 3, "graph"
    nodes = [*proto.graph.node, *(node for a in proto.graph.node[1].attribute for node in a.g.node)]
    for at, node in enumerate(nodes):
        node.name, node.doc_string = f"/layer {at}/Mul", f"note {at}"
    for message in (proto, proto.graph, *nodes):
        message.metadata_props.add(key="key", value="value")
    before = ir.from_proto(proto)
    raised = raise_opset(before, OPSET)
    for one in ("doc_string", "producer_name", "model_version", "metadata_props"):
        assert getattr(raised, one) == getattr(before, one)
    assert (raised.graph.doc_string, raised.graph.metadata_props) == ("graph", {"key": "value"})
    assert [_told(node) for node in raised.graph.all_nodes()] == [_told(node) for node in before.graph.all_nodes()]
    assert [value.name for graph in raised.graphs() for value in graph.initializers.values()] == ["w", "v"]


def _told(node: ir.Node) -> tuple[object, ...]:
    values = ([v and v.name for v in node.inputs], [v.name for v in node.outputs])
    return node.name, node.doc_string, dict(node.metadata_props), *values


def test_weights_in_other_files_stay_there(tmp_path: Path) -> None:
    """Small ones too, which the converter reads."""
    proto = of_opset(
        9,
        """g (float[1, 64] x) => (float[2, 128] y) <float[64, 64] w, float[2] s> {
            a = MatMul(x, w) y = Upsample(a, s) }""",
    )
    w = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    held = {"w": w, "s": np.array([2, 2], np.float32)}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in held.items())
    path = tmp_path / "net.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="net.bin", size_threshold=0)
    raised = raise_opset(onnx_file.load(path), OPSET)
    outside = raised.graph.initializers["w"].const_value
    assert isinstance(outside, ir.ExternalTensor)
    assert Path(outside.path) == tmp_path / "net.bin"
    np.testing.assert_array_equal(outside.numpy(), w)
    onnx_file.save(raised, tmp_path / "raised.onnx")
    x = np.ones((1, 64), np.float32)
    with open_session(tmp_path / "raised.onnx", "ort") as session:
        np.testing.assert_allclose(session.run({"x": x})["y"][::2, ::2], x @ w, rtol=1e-5)


def test_a_model_that_is_not_older_stays() -> None:
    model = ir.from_proto(of_opset(OPSET, "g (float[2] x) => (float[2] y) { y = Relu(x) }"))
    assert raise_opset(model, OPSET) is model
    assert raise_opset(model, 7) is model
