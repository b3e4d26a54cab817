"""Blocks whose constants are attributes of nodes, and lie in a file beside the model."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from helpers.onnx_models import CHAIN, model
from onnx import TensorProto, numpy_helper, parser

from simam_deploy.graph import onnx_file
from simam_deploy.graph.traverse import nodes
from simam_deploy.match.find import find
from simam_deploy.rewrite.forms import FORMS
from simam_deploy.rewrite.fuse import fuse, fuse_file

CONSTANTS = """hw = Constant <value = int64[2] {2, 3}> ()
    n = Constant <value = float {34.0}> ()
    lam = Constant <value = float {0.1}> ()
    one = Constant <value = int64[1] {1}> ()
    four = ConstantOfShape <value = float[1] {4.0}> (one)
    half = Constant <value = float {0.5}> ()
"""
HEAD = """<ir_version: 8, opset_import: ["" : 18, "m" : 1]>
    net (float[2, 3, 5, 7] image, bool yes) => (float[2, 3, 5, 7] out)"""
MODELS = {
    "in the graph": f"{HEAD} {{ x = Relu (image) {CONSTANTS} {CHAIN} out = Relu (y) }}",
    "in a branch": f"""{HEAD} {{ x = Relu (image)  out = If (yes) <
        then_branch = t () => (float[2, 3, 5, 7] y) {{ {CONSTANTS} {CHAIN} }},
        else_branch = e () => (float[2, 3, 5, 7] e) {{ e = Relu (x) }}> }}""",
    "in a function": f"""{HEAD} {{ x = Relu (image)  out = m.part (x) }}
        <domain: "m", opset_import: ["" : 18]> part (x) => (o) {{ {CONSTANTS} {CHAIN} o = Relu (y) }}""",
    "a function": f"""{HEAD} {{ x = Relu (image)  y = m.part (x)  out = Relu (y) }}
        <domain: "m", opset_import: ["" : 18]> part (x) => (y) {{ {CONSTANTS} {CHAIN} }}""",
}
X = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)


def moved(proto: onnx.ModelProto, path: Path) -> Path:
    """Write the model; what nodes hold goes to a file beside it."""
    held = b""
    for tensor in (a.t for node in nodes(proto) for a in node.attribute if a.HasField("t")):
        raw = numpy_helper.to_array(tensor).tobytes()
        kept = TensorProto(dims=tensor.dims, data_type=tensor.data_type, data_location=TensorProto.EXTERNAL)
        for key, value in {"location": "constants.bin", "offset": len(held), "length": len(raw)}.items():
            kept.external_data.add(key=key, value=str(value))
        tensor.CopyFrom(kept)
        held += raw
    assert held
    path.with_name("constants.bin").write_bytes(held)
    onnx.save(proto, path)
    return path


def run(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: {"image": X, "yes": np.array(True)}[i.name] for i in session.get_inputs()})[0]


@pytest.mark.parametrize("name", MODELS)
def test_found_and_written_without_that_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    proto = parser.parse_model(MODELS[name])
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, tmp_path / "inline.onnx")
    path = moved(proto, tmp_path / "from/m.onnx")
    (row,) = fuse_file(path, tmp_path / "m.onnx").rows
    assert (row.e_lambda, row.shape) == (0.1, (2, 3, 5, 7))
    np.testing.assert_allclose(run(tmp_path / "m.onnx"), run(tmp_path / "inline.onnx"), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("form", "epilogue"), [("function", True), *((form, False) for form in FORMS if form != "custom_op")]
)
def test_our_own_forms(form: str, epilogue: bool, tmp_path: Path) -> None:
    """The fallback definitions too, of SimAM and of an epilogue."""
    proto = ir.to_proto(fuse(model(), form, epilogue=epilogue).model)
    for node in nodes(proto):
        for attribute in node.attribute:
            if attribute.name == "value_float" and not attribute.ref_attr_name:
                tensor = numpy_helper.from_array(np.array(attribute.f, np.float32))
                attribute.CopyFrom(onnx.helper.make_attribute("value", tensor))
    (block,) = find(onnx_file.load(moved(proto, tmp_path / "m.onnx"))).blocks
    assert block.e_lambda == pytest.approx(1e-4)


def test_a_large_one_is_not_read(tmp_path: Path) -> None:
    proto = parser.parse_model(
        MODELS["a function"].replace("four = ConstantOfShape <value = float[1] {4.0}> (one)", "")
    )
    big = numpy_helper.from_array(np.full((2**22 + 1,), 4, np.float32))
    proto.functions[0].node.insert(0, onnx.helper.make_node("Constant", [], ["four"], value=big))
    found = find(onnx_file.load(moved(proto, tmp_path / "m.onnx")))
    assert not found.blocks
    assert "SimAM has no weights" in str(found.near_misses)
