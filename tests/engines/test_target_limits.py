"""Layers that TensorRT-RTX builds for no GPU of a kind: our rule says what its builder says, layer by layer."""

from __future__ import annotations

import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from helpers.small_onnx import save
from onnx import TensorProto, helper, numpy_helper

from simam_deploy.engines import trt_build
from simam_deploy.engines.builder import build_engine
from simam_deploy.errors import BuildError

pytestmark = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
FLOAT, HALF, BF16 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16
DTYPES = {FLOAT: np.float32, HALF: np.float16, BF16: ml_dtypes.bfloat16}
Shapes = dict[str, list[int]]


def saved(
    folder: Path, nodes: list[onnx.NodeProto], dtype: int, inputs: Shapes, weights: Shapes, out: int | None = None
) -> Path:
    """A model of these nodes, from the inputs to y."""
    rng = np.random.default_rng(0)
    held = [numpy_helper.from_array(rng.standard_normal(s).astype(DTYPES[dtype]), n) for n, s in weights.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", out or dtype, None)],
        held,
    )
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def node(op: str, inputs: str, out: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [out], name=f"{op}_1", **attributes)


IMAGE = {"x": [1, 4, 8, 8]}
LAYERS: dict[str, tuple[list[onnx.NodeProto], Shapes, Shapes]] = {
    "gemm": ([node("Gemm", "x w b", transB=1)], {"x": [4, 32]}, {"w": [16, 32], "b": [16]}),
    "matmul": ([node("MatMul", "x w")], {"x": [4, 32]}, {"w": [32, 16]}),
    "of two inputs": ([node("MatMul", "x z")], {"x": [2, 4, 1], "z": [2, 1, 8]}, {}),
    "of constants": ([node("MatMul", "a b", "c"), node("Add", "x c")], {"x": [4, 5]}, {"a": [4, 3], "b": [3, 5]}),
    "einsum": ([node("Einsum", "x z", equation="ij,ij->i")], {"x": [4, 3], "z": [4, 3]}, {}),
    "einsum of one": ([node("Einsum", "x", equation="ij->i")], {"x": [4, 3]}, {}),
    "dead matmul": ([node("MatMul", "x w", "t"), node("Relu", "x")], {"x": [4, 32]}, {"w": [32, 16]}),
    "shape of a matmul": (
        [node("MatMul", "x w", "t"), node("Shape", "t", "s"), node("Expand", "one s")],
        {"x": [4, 32]},
        {"w": [32, 16], "one": [1]},
    ),
    "conv": ([node("Conv", "x w")], IMAGE, {"w": [8, 4, 3, 3]}),
    "conv over three axes": ([node("Conv", "x w")], {"x": [1, 4, 1, 8, 8]}, {"w": [4, 4, 1, 3, 3]}),
    "deconv": ([node("ConvTranspose", "x w", strides=[2, 2])], IMAGE, {"w": [4, 8, 2, 2]}),
    "deconv over three axes": ([node("ConvTranspose", "x w")], {"x": [1, 4, 8, 8, 8]}, {"w": [4, 4, 3, 3, 3]}),
    "relu": ([node("Relu", "x")], IMAGE, {}),
    "mean": ([node("ReduceMean", "x")], IMAGE, {}),
    "softmax": ([node("Softmax", "x")], IMAGE, {}),
}
IN_FLOAT = {
    "gemm",
    "matmul",
    "of two inputs",
    "of constants",
    "einsum",
    "conv over three axes",
    "deconv over three axes",
}
"""Those that sm75 lacks in float32. Of bfloat16 it lacks all."""


def job(model: Path, *targets: str) -> dict[str, Any]:
    empty: dict[str, Any] = {"profiles": {}, "functions": [], "blocks": [], "options": {}, "hint": ""}
    out = str(model.with_suffix(".engine"))
    return {"flavor": "tensorrt_rtx", "model": str(model), "engine": out, "targets": list(targets), **empty}


def refusal(model: Path, *targets: str) -> str:
    try:
        trt_build.build(job(model, *targets), lambda *_: None, threading.Event())
    except trt_build.Refused as refused:
        return str(refused.args[1])
    return ""


def by_rule(words: str) -> bool:
    """Whether our rule refuses, and not the builder."""
    return " is not built for " in words


@pytest.mark.parametrize("dtype", [FLOAT, HALF, BF16], ids=["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("layer", LAYERS)
def test_the_rule_refuses_exactly_what_the_builder_refuses(
    layer: str, dtype: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes, inputs, weights = LAYERS[layer]
    model = saved(tmp_path, nodes, dtype, inputs, weights)
    ours = refusal(model, "sm75")
    everywhere = dtype == BF16 and layer.startswith("deconv")
    assert ("lacks this for every GPU" in ours) == everywhere
    monkeypatch.setattr(trt_build, "reason_against", lambda *_: "")
    its = refusal(model, "sm75")
    assert not its or everywhere or "sm75" in its.lower()
    assert (by_rule(ours), by_rule(its)) == (bool(its), False), ours + its
    if layer not in ("dead matmul", "shape of a matmul"):
        assert bool(ours) == (dtype == BF16 or (dtype == FLOAT and layer in IN_FLOAT))
    for target in ("sm80", "sm86", "sm89", "sm120", "sm121"):
        assert bool(refusal(model, target)) == everywhere


def test_the_words_name_the_layer_the_target_and_the_remedy(tmp_path: Path) -> None:
    nodes, inputs, weights = LAYERS["gemm"]
    model = saved(tmp_path, nodes, FLOAT, inputs, weights)
    words = (
        r"model\.onnx is not built for sm75, sm86: GPUs of the kind sm75 cannot run .* \(sm86 can\):\n"
        r"  Gemm_1: a matrix product in float32\n.*leave sm75 out of --targets, or .*--to fp16"
    )
    stages: list[str] = []
    with pytest.raises(BuildError, match=words):
        build_engine(model, tmp_path / "net.engine", targets=["sm86", "sm75"], on_progress=stages.append)
    assert stages == ["parse"]
    assert not (tmp_path / "net.engine").exists()
    assert build_engine(model, tmp_path / "net.engine", targets=["sm86"]).targets == ("sm86",)


def test_a_transposed_convolution_in_bfloat16_is_refused_for_all(tmp_path: Path) -> None:
    nodes, inputs, weights = LAYERS["deconv"]
    model = saved(tmp_path, nodes, BF16, inputs, weights)
    with pytest.raises(BuildError, match=r"every GPU:\n  ConvTranspose_1: .*\n.*--keep-float ConvTranspose_1"):
        build_engine(model, tmp_path / "net.engine", targets=["sm120"])


def test_the_remedy_names_every_transposed_convolution(tmp_path: Path) -> None:
    text = "g (bfloat16[1,4,8,8] x, bfloat16[4,4,2,2] w) => (bfloat16[1,4,10,10] y)"
    text += " { [one] t = ConvTranspose(x, w) [two] y = ConvTranspose(t, w) }"
    with pytest.raises(BuildError, match=r"--keep-float one --keep-float two$"):
        build_engine(save(tmp_path, text), tmp_path / "net.engine", targets=["sm120"])


BRANCHES = (
    "<then_branch = a () => (float[4,4] t) { t = Relu(x) }, else_branch = b () => (float[4,4] o) { o = Tanh(x) }>"
)
PRODUCT = "g (float[4,4] x, float[4,4] w, bool d) => (float[4,4] y) { p = MatMul(x, w) m = ReduceMax<keepdims = 0>(p)"
PRODUCT += " b = Cast<to = 9>(m)"
BODY = "body = l (int64 i, bool k, float[4,4] h) => (bool c, float[4,4] g) { p = MatMul(h, h)"
BODY += " m = ReduceMax<keepdims = 0>(p) c = Cast<to = 9>(m) g = Relu(h) }"
LOOP = "g (float[4,4] x, int64 n, bool d) => (float[4,4] y) {"


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("g (float[1,4] x, bfloat16[3,4] z) => (float[3,4] y) { s = Shape(z) y = Expand(x, s) }", False),
        (f"{PRODUCT} u = If(b) {BRANCHES} y = If(d) {BRANCHES} }}", False),
        (f"{PRODUCT} u = If(d) {BRANCHES} y = If(b) {BRANCHES} }}", True),
        (f"{LOOP} u = Loop(n, d, x) <{BODY}> y = Relu(x) }}", False),
        (f"{LOOP} y = Loop(n, d, x) <{BODY}> }}", True),
    ],
    ids=["shape of bfloat16", "condition, unread", "condition", "length of a loop, unread", "length of a loop"],
)
def test_only_what_an_output_needs_is_refused(
    text: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save(tmp_path, text)
    ours = refusal(model, "sm75")
    monkeypatch.setattr(trt_build, "reason_against", lambda *_: "")
    its = refusal(model, "sm75")
    assert "cannot parse" not in its
    assert (by_rule(ours), by_rule(its), bool(its)) == (refused, False, refused), ours + its


def test_a_matrix_product_inside_a_branch_counts(tmp_path: Path) -> None:
    then = helper.make_graph(
        [node("MatMul", "x w", "t")], "then", [], [helper.make_tensor_value_info("t", FLOAT, None)]
    )
    other = helper.make_graph(
        [node("Identity", "x", "o")], "else", [], [helper.make_tensor_value_info("o", FLOAT, None)]
    )
    nodes = [
        node("ReduceSum", "x", "s", keepdims=0),
        node("Greater", "s limit", "c"),
        helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other),
    ]
    model = saved(tmp_path, nodes, FLOAT, {"x": [4, 4]}, {"w": [4, 4], "limit": []})
    assert "matrix product in float32" in refusal(model, "sm75")
