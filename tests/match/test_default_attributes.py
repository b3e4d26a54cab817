"""Functions whose attributes have defaults, and calls that leave them out."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.graphs import BODY, parse, save

from simam_deploy.formula import reference, tolerance
from simam_deploy.graph import onnx_file
from simam_deploy.match.find import find
from simam_deploy.rewrite.fuse import fuse_file
from simam_deploy.runtimes import open_session

X = np.random.default_rng(0).standard_normal((2, 3, 6, 5)).astype(np.float32)
PLAIN = "g (float[2,3,6,5] x) => (float[2,3,6,5] y) {{ y = {domain}.{name} (x) }}"
OUTER = """
<domain: "theirs", opset_import: ["" : 18, "theirs" : 1]>
Outer (x) => (y)
{
  y = theirs.Inner (x)
}
"""


def file(name: str, e_lambda: float, folder: Path) -> Path:
    """SimAM as a function of that name whose λ is a default, in one more function for `Outer`."""
    body = BODY.replace("e_lambda: float = 0.0001", f"e_lambda: float = {e_lambda}")
    if name == "SimAM":
        model = parse(PLAIN.format(domain="simam", name=name), body)
    else:
        body = body.replace('domain: "simam"', 'domain: "theirs"').replace("SimAM <", "Inner <")
        model = parse(PLAIN.format(domain="theirs", name=name), body, *([OUTER] if name == "Outer" else []))
        model.opset_import[1].domain = "theirs"
    return save(model, folder / "m.onnx")


@pytest.mark.parametrize("name", ["SimAM", "Inner", "Outer"])
@pytest.mark.parametrize("e_lambda", [1e-4, 0.25])
def test_blocks_are_found_with_the_default(name: str, e_lambda: float, tmp_path: Path) -> None:
    path = file(name, e_lambda, tmp_path)
    found = find(onnx_file.load(path))
    assert [block.e_lambda for block in found.blocks] == [pytest.approx(e_lambda)], found.near_misses
    fuse_file(path, tmp_path / "fused.onnx")
    (node,) = [n for n in [*onnx.load(tmp_path / "fused.onnx").graph.node, *_inner(tmp_path)] if n.op_type == "SimAM"]
    assert onnx.helper.get_node_attr_value(node, "e_lambda") == pytest.approx(e_lambda)


def _inner(folder: Path) -> list[onnx.NodeProto]:
    return [n for f in onnx.load(folder / "fused.onnx").functions if f.domain == "theirs" for n in f.node]


@pytest.mark.parametrize("runtime", ["onnx_reference", "ort", "openvino"])
@pytest.mark.parametrize("e_lambda", [1e-4, 0.25])
def test_runtimes_compute_with_the_default(runtime: str, e_lambda: float, tmp_path: Path) -> None:
    body = {"kernel": "off"} if runtime == "ort" else {}  # the kernel has a default of its own
    with open_session(file("SimAM", e_lambda, tmp_path), runtime, **body) as session:
        y = session.run({"x": X})["y"]
    assert (np.abs(y - reference(X, e_lambda)) <= tolerance(X, X.dtype, e_lambda)).all()
