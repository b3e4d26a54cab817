"""Types of x in every opset: a fallback definition for the types of all blocks, in the opset of the file."""

from collections.abc import Collection

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.cases import make
from helpers.onnx_models import model
from helpers.opsets import OPSETS, body, data, session, two
from onnx import parser

from simam_deploy import native
from simam_deploy.formula import reference, tolerance
from simam_deploy.rewrite.fuse import fuse


@pytest.mark.parametrize("opset", [9, 12, 14, 15, 18])
@pytest.mark.parametrize(
    "types", [("float", "float"), ("float16", "float16"), ("float", "float16"), ("float16", "float")]
)
def test_the_fallback_definition_is_for_the_types_of_all_blocks(
    opset: int, types: tuple[str, str], library: native.Library
) -> None:
    fused = fuse(two(opset, *types))
    mixed = len(set(types)) > 1
    casts = [operator for operator in body(fused.model) if operator.startswith("Cast")]
    around = [node.op_type for node in fused.model.graph]
    if mixed and opset < 15:
        assert casts == ["Cast"], "of M - 1"
        assert sorted(around) == ["Cast", "Cast", "SimAM", "SimAM"]
    else:
        ends: Collection[str] = ["Cast", "Cast", "CastLike"] if mixed else ["Cast"] * (3 if "float16" in types else 1)
        assert casts == ends
        assert around == ["SimAM", "SimAM"]
    proto = ir.to_proto(fused.model)
    onnx.checker.check_model(proto, full_check=True)
    kinds = [{"float": np.float32, "float16": np.float16}[kind] for kind in types]
    x = make("plain", (2, 3, 5, 7))
    feeds = {name: x.astype(kind) for name, kind in zip(("x", "x2"), kinds, strict=True)}
    for opened in (session(proto), session(proto, library)):
        for y, kind, given in zip(opened.run(None, feeds), kinds, feeds.values(), strict=True):
            assert y.dtype == kind
            assert (np.abs(y - reference(given, 0.1)) <= 2 * tolerance(given, kind, 0.1)).all()
    assert data(fuse(fused.model).model) == data(fused.model)
    assert data(fuse(fuse(fused.model, "primitive").model).model) == data(fused.model)


@pytest.mark.parametrize("opset", [13, 18])
def test_an_epilogue_in_a_file_of_two_types(opset: int, library: native.Library) -> None:
    """Below opset 15 the residual of the 16-bit block is cast too."""
    text = f"""<ir_version: 8, opset_import: ["": {opset}, "simam": 1]>
    g (float[2,3,5,7] x, float16[2,3,5,7] x2) => (float[2,3,5,7] y, float16[2,3,5,7] y2)
    <float[3] scale = {{0.5, -2, 1.25}}, float[3] bias = {{0.1, 0.2, -3}}> {{
        y = simam.SimAMAffineAdd <e_lambda: float = 0.1> (x, scale, bias, x)
        y2 = simam.SimAMAffineAdd <e_lambda: float = 0.1> (x2, scale, bias, x2)
    }}"""
    source = parser.parse_model(text)
    fused = fuse(ir.from_proto(source), epilogue=True)
    assert sum(node.op_type == "Cast" for node in fused.model.graph) == (3 if opset < 15 else 0)
    onnx.checker.check_model(ir.to_proto(fused.model), full_check=True)
    x = make("plain", (2, 3, 5, 7))
    feeds = {"x": x, "x2": x.astype(np.float16)}
    want = session(source, library).run(None, feeds)
    for opened in (session(ir.to_proto(fused.model)), session(ir.to_proto(fused.model), library)):
        for got, y, bound in zip(opened.run(None, feeds), want, (3e-6, 1e-2), strict=True):
            assert got.dtype == y.dtype
            np.testing.assert_allclose(got, y, atol=bound)


@pytest.mark.parametrize("opset", [13, 15])
@pytest.mark.parametrize("beside", ["Neg", "simam.SimAM <e_lambda: float = 0.1>"])
def test_bfloat16(opset: int, beside: str, library: native.Library) -> None:
    text = f"""<ir_version: 8, opset_import: ["": {opset}, "simam": 1]>
    g (float[2,3,5,7] x) => (float[2,3,5,7] y, float[2,3,5,7] z) {{
        b = Cast <to = 16> (x)
        c = simam.SimAM <e_lambda: float = 0.1> (b)
        y = Cast <to = 1> (c)
        z = {beside} (x)
    }}"""
    fused = fuse(ir.from_proto(onnx.shape_inference.infer_shapes(parser.parse_model(text))))
    assert fused.rows[0].dtype == "BFLOAT16"
    onnx.checker.check_model(ir.to_proto(fused.model), full_check=True)
    x = make("plain", (2, 3, 5, 7))
    for opened in (session(ir.to_proto(fused.model)), session(ir.to_proto(fused.model), library)):
        y = opened.run(None, {"x": x})[0]
        assert np.abs(y - reference(x, 0.1)).max() <= 2.0**-8 * 2 * np.abs(x).max()


def test_float32_fallback_definitions_have_no_cast_like_in_any_opset() -> None:
    """Some converters do not know it."""
    for opset in OPSETS:
        assert "CastLike" not in body(fuse(two(opset, "float", "float")).model)


def test_a_file_converted_to_half_afterwards_is_refused_aloud_and_mended_by_fuse() -> None:
    """No runtime computes it in silence with the body for float32."""
    from onnxconverter_common import float16

    source = fuse(model(lam=0.1)).model
    half = float16.convert_float_to_float16(ir.to_proto(source), keep_io_types=True)
    with pytest.raises(Exception, match=r"SimAM.*inconsistent type tensor\(float\)"):
        session(half)
    with pytest.raises(onnx.shape_inference.InferenceError, match=r"inconsistent type tensor\(float\)"):
        onnx.checker.check_model(half, full_check=True)
    mended = fuse(ir.from_proto(half))
    assert [row.dtype for row in mended.rows] == ["FLOAT16"]
    x = {"image": make("plain", (2, 3, 5, 7))}
    (want,) = session(ir.to_proto(source)).run(None, x)
    np.testing.assert_allclose(session(ir.to_proto(mended.model)).run(None, x)[0], want, rtol=2e-3, atol=1e-3)
