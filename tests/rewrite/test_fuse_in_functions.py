"""A block in a function of the file: the node that takes its place has a fallback definition, or is refused."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from helpers.onnx_models import CHAIN, PART
from onnx import parser

from simam_deploy import native
from simam_deploy.errors import FormError
from simam_deploy.graph import onnx_file
from simam_deploy.rewrite.forms import FORMS
from simam_deploy.rewrite.fuse import fuse
from simam_deploy.runtimes import open_session


def calling(part: str, *functions: str) -> ir.Model:
    """image -> m.part -> Tanh -> out, where nothing tells the type of what is between."""
    text = f"""<ir_version: 8, opset_import: ["": 18, "m": 1]>
    net (float[2,3,5,7] image) => (float[2,3,5,7] out) {{
        p = m.{part} (image)
        out = Tanh (p)
    }}"""
    return ir.from_proto(parser.parse_model("".join((text, *functions))))


def test_a_node_without_a_fallback_definition_in_a_function_opens_in_ort(
    tmp_path: Path, library: native.Library
) -> None:
    """ONNX Runtime cannot tell the type of what the function makes: the file does."""
    source = calling("part", PART)
    got = {}
    for form in ("primitive", "custom_op"):
        onnx_file.save(fuse(source, form).model, tmp_path / f"{form}.onnx")
        with open_session(tmp_path / f"{form}.onnx", "ort") as session:
            x = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)
            got[form] = session.run({"image": x})["out"]
            assert form == "primitive" or session.kernel_use({"image": x}).ran == 1
    assert source.graph[0].outputs[0].type is None
    np.testing.assert_allclose(got["custom_op"], got["primitive"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_a_function_that_nothing_called_before_stays(form: str) -> None:
    """It is the user's. One that the block alone called goes."""
    mean = """<domain: "m", opset_import: ["": 18]> mean (a) => (b) {
        axes = Constant <value_ints = [2, 3]> ()
        b = ReduceMean <keepdims: int = 1> (a, axes) }"""
    spare = '<domain: "m", opset_import: ["": 18]> spare (a) => (b) { b = Tanh (a) }'
    own = CHAIN.replace("mean = ReduceMean <keepdims: int = 1> (x, hw)", "mean = m.mean (x)")
    text = f"""<ir_version: 8, opset_import: ["": 18, "m": 1]>
    net (float[2,3,5,7] image) => (float[2,3,5,7] out)
    <int64[2] hw = {{2, 3}}, float n = {{34}}, float lam = {{1e-4}}, float four = {{4}}, float half = {{0.5}}> {{
        x = Relu (image)
        {own}
        out = Tanh (y)
    }}"""
    fused = fuse(ir.from_proto(parser.parse_model("".join((text, mean, spare)))), form)
    assert [name for domain, name, _ in fused.model.functions if domain == "m"] == ["spare"]


def test_a_node_without_a_fallback_definition_in_a_function_in_a_function_is_refused() -> None:
    outer = """<domain: "m", opset_import: ["": 18, "m": 1]>
    outer (x) => (out) {
        p = m.part (x)
        out = Relu (p)
    }"""
    source = calling("outer", PART, outer)
    words = (
        r"SimAM block in the function m::part, which the function outer calls: .*\ninline .*or use --form function"
    )
    with pytest.raises(FormError, match=words):
        fuse(source, "custom_op")
    assert [row.form for row in fuse(source, "function").rows] == ["function"]
