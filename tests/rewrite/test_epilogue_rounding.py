"""An epilogue folds only where float32 holds its parameters, and a wrong one exceeds the tolerance."""

from collections.abc import Callable

import numpy as np
import pytest
from helpers.epilogues import BEFORE, BN, WEIGHTS, net, ops
from helpers.onnx_models import model

from simam_deploy.block import Epilogue
from simam_deploy.formula import (
    ACTIVATIONS,
    Float64,
    apply_epilogue,
    epilogue_tolerance,
    reference,
)
from simam_deploy.match.epilogue import difference
from simam_deploy.rewrite.fuse import fuse


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_float32_is_within_the_tolerance_and_less_is_not(activation: str) -> None:
    """Of what is behind SimAM alone: y is exact but for its rounding."""
    rng = np.random.default_rng(1)
    y, r = 3 * rng.standard_normal((2, 64, 40, 50)), 50 * rng.standard_normal((2, 64, 40, 50))
    scale, bias = 5 * rng.standard_normal((2, 64))
    y32, r32, s32, b32 = (v.astype(np.float32) for v in (y, r, scale[:, None, None], bias[:, None, None]))
    t = s32 * y32 + b32 + r32
    with np.errstate(over="ignore"):
        got = {"none": t, "relu": np.maximum(t, 0), "silu": t / (1 + np.exp(-t))}[activation]
    assert got.dtype == np.float32
    allowed = epilogue_tolerance(2.0**-24 * np.abs(y), y, scale, bias, r32)
    share = np.abs(got - apply_epilogue(y, scale, bias, r32, activation=activation)) / allowed
    assert 0.1 < share.max() <= 1
    half = apply_epilogue(y, scale.astype(np.float16), bias, r32, activation=activation)
    assert (np.abs(half - apply_epilogue(y, scale, bias, r32, activation=activation)) / allowed).max() > 10


EPILOGUE = Epilogue(np.array([0.5, -2, 3], np.float32), np.array([0.1, 0.2, -3], np.float32), None, "relu")
WRONG: dict[str, Callable[[Float64, Float64], Float64]] = {
    "scale is 1e-6 off": lambda y, r: apply_epilogue(
        y, EPILOGUE.scale * (1 + 1e-6), EPILOGUE.bias, activation="relu"
    ),
    "bias is 1e-6 off": lambda y, r: apply_epilogue(y, EPILOGUE.scale, EPILOGUE.bias * (1 + 1e-6), activation="relu"),
    "another channel": lambda y, r: apply_epilogue(y, EPILOGUE.scale[[0, 2, 1]], EPILOGUE.bias, activation="relu"),
    "no activation": lambda y, r: apply_epilogue(y, EPILOGUE.scale, EPILOGUE.bias),
    "another activation": lambda y, r: apply_epilogue(y, EPILOGUE.scale, EPILOGUE.bias, activation="silu"),
    "a residual": lambda y, r: apply_epilogue(y, EPILOGUE.scale, EPILOGUE.bias, r, activation="relu"),
    "nan": lambda y, r: np.nan * y,
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_shows(name: str) -> None:
    def right(x: Float64, residual: Float64) -> Float64:
        return apply_epilogue(reference(x, 0.1), EPILOGUE.scale, EPILOGUE.bias, activation="relu")

    assert difference(right, EPILOGUE, 0.1, [(2, 3, 3, 5)]) is None
    reason = difference(lambda x, r: WRONG[name](reference(x, 0.1), r), EPILOGUE, 0.1, [(2, 3, 3, 5)])
    assert reason is not None
    assert "differs from SimAMAffineRelu on " in reason


def test_what_cannot_be_rounded_to_float32_stays() -> None:
    """Of a scale of 1e-42 float32 has few digits."""
    fused = fuse(net("a = Mul (y, tiny)\n b_ = Mul (a, tiny)\n out = Relu (b_)"), epilogue=True)
    assert ops(fused.model) == ["SimAM"]
    assert "differs from SimAMAffineRelu" in fused.notes[0]


FINITE = "NaN, inf or too large for float32"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("after", "op", "words"),
    [
        ("a = Mul (y, huge)\n out = Mul (a, huge)", "SimAMAffine", FINITE),
        ("a = Add (y, most)\n out = Add (a, most)", "SimAMAffine", FINITE),
        ("out = Div (y, least)", "SimAM", FINITE),
        ("n0 = Constant <value_float = inf> ()\n out = Mul (y, n0)", "SimAM", FINITE),
        ("n0 = Constant <value_float = nan> ()\n out = Add (y, n0)", "SimAM", FINITE),
        (f"out = {BN.replace('mu', 'large').replace('gamma', 'large')}", "SimAM", FINITE),
    ],
)
def test_what_float32_does_not_hold_stays(after: str, op: str, words: str) -> None:
    weights = "float huge = {1e38}, float most = {3e38}, float least = {1e-44}, float[3] large = {1, 1e38, 1e38},"
    source = model(before=BEFORE, after=after, weights=WEIGHTS + weights, lam=0.1)
    fused = fuse(source, epilogue=True)
    assert ops(fused.model) == [op]
    assert words in "\n".join(fused.notes)
    assert all(np.isfinite(v.const_value.numpy()).all() for v in fused.model.graph.initializers.values())
