"""Files of the real Ultralytics with SimAM in four places: found, fused in the default form, equal; yolo/make.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from simam_deploy import native
from simam_deploy.graph import onnx_file
from simam_deploy.match.find import find
from simam_deploy.rewrite import fuse
from simam_deploy.runtimes import open_session

FILES = sorted(Path(__file__).parents[1].glob("yolo/*.onnx"))
BLOCKS = 4
FIXED = (1, 3, 32, 64)
"""The size of an input whose axes are fixed."""
OTHERS = ((2, 3, 64, 96), (3, 3, 96, 32))
"""Sizes that the dynamic axes are tried at, besides."""
Arrays = list[np.ndarray]

pytestmark = pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])


def sizes(path: Path) -> list[tuple[int, ...]]:
    (image,) = onnx.load(path).graph.input
    dims = image.type.tensor_type.shape.dim
    found = [tuple(d.dim_value or o for d, o in zip(dims, other, strict=True)) for other in (FIXED, *OTHERS)]
    return list(dict.fromkeys(found))


def images(size: Sequence[int]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(size).astype(np.float32)


def outputs(file: Path, image: np.ndarray) -> Arrays:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: image}))


def bound(path: Path, expected: np.ndarray) -> float:
    """What another order of sums may change: 256 roundings of the largest value, as depth amplifies them; of float16
    in a file of float16. That SimAM changes the outputs by more is seen in `test_simam_is_no_small_change`."""
    eps = np.finfo(np.float16 if "half" in path.stem else np.float32).eps
    return float((8 if "half" in path.stem else 256) * eps * np.abs(expected).max())


def test_it_is_a_file_of_its_kind(path: Path) -> None:
    model = onnx.load(path)
    operators = {node.op_type for node in model.graph.node}
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    generation, *traits = path.stem.split("-")
    assert generation in ("yolo11n", "yolov8n", "yolov5n", "yolo26n")
    for trait in traits:
        if trait.isdigit():
            assert opsets[""] == int(trait)
    assert ("Range" in operators) == ("dynamic" in traits)
    assert len(sizes(path)) == (3 if {"dynamic", "batch"} & set(traits) else 1)
    assert ("NonMaxSuppression" in operators) == ("nms" in traits)
    assert len(model.graph.output) == (4 if "raw" in traits else 1)
    assert not any(node.domain for node in model.graph.node)


def test_every_block_is_found(path: Path) -> None:
    found = find(onnx_file.load(path))
    assert [str(miss) for miss in found.near_misses] == []
    assert [round(block.e_lambda, 6) for block in found.blocks] == [1e-4] * BLOCKS


def test_fused_in_the_default_form_it_computes_the_same(path: Path, tmp_path: Path) -> None:
    written = tmp_path / "fused.onnx"
    fused = fuse.fuse_file(path, written)
    assert [row.form for row in fused.rows] == ["function"] * BLOCKS
    assert len(find(onnx_file.load(written)).blocks) == BLOCKS
    onnx.checker.check_model(onnx.load(written), full_check=True)
    for size in sizes(path):
        image = images(size)
        for got, expected in zip(outputs(written, image), outputs(path, image), strict=True):
            np.testing.assert_allclose(got, expected, rtol=0, atol=bound(path, expected), err_msg=str(size))


def test_the_kernel_takes_every_block(path: Path, tmp_path: Path, library: native.Library) -> None:
    written = tmp_path / "fused.onnx"
    fuse.fuse_file(path, written)
    for size in sizes(path):
        image = images(size)
        with open_session(written, "ort", kernel="require", threads=1) as session:
            feeds = {session.inputs[0].name: image}
            assert str(session.kernel_use(feeds)) == f"kernel ({library.target})"
            results = list(session.run(feeds).values())
        for got, expected in zip(results, outputs(path, image), strict=True):
            np.testing.assert_allclose(got, expected, rtol=0, atol=bound(path, expected), err_msg=str(size))


def test_simam_is_no_small_change(path: Path, tmp_path: Path) -> None:
    """What a gate of 1 in the place of one block does to the outputs is far beyond the bound."""
    model = onnx.load(path)
    image = images(sizes(path)[0])
    expected = outputs(path, image)
    gates = [node for node in model.graph.node if node.op_type == "Sigmoid" and _in_simam(model, node)]
    assert len(gates) == BLOCKS
    for gate in gates:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        (node,) = (node for node in changed.graph.node if node.output[0] == gate.output[0])
        node.op_type = "Identity"
        onnx.save(changed, tmp_path / "changed.onnx")
        pairs = zip(outputs(tmp_path / "changed.onnx", image), expected, strict=True)
        assert any(a.shape != b.shape or np.abs(a - b).max() > 4 * bound(path, b) for a, b in pairs)


def _in_simam(model: onnx.ModelProto, gate: onnx.NodeProto) -> bool:
    """Whether the argument of a Sigmoid is something plus one half."""
    makers = {name: node for node in model.graph.node for name in node.output}
    before = makers.get(gate.input[0])
    return before is not None and before.op_type == "Add" and makers.get(before.input[0], gate).op_type == "Div"
