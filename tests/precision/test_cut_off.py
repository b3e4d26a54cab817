"""Layers whose result is mostly cut off stay in float32."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from helpers.half_nets import saved
from onnx import parser

import simam_deploy as sd
from simam_deploy.precision.cut_off import cut_off
from simam_deploy.precision.sensitivity import snr
from simam_deploy.runtimes import open_session
from simam_deploy.runtimes.session import in_types_of

NET = """<ir_version: 9, opset_import: ["" : 18]> g (float[N,3,8,8] x) => (float[N,8,8,8] y)
    <float[8,3,1,1] w = {WEIGHTS}, float[8] bias = {1, 2, 3, 4, 5, 6, 7, 8}, float low = {0}, float six = {6},
     int64[1] axes = {1}> {
        [conv] c = Conv(x, w, bias)
        [add] a = BETWEEN
        [clip] k = CUT
        [second] y = REST
    }"""


def net(between: str = "Identity(c)", cut: str = "Clip(a, low, six)", rest: str = "Identity(k)") -> str:
    weights = np.random.default_rng(0).standard_normal(24)
    text = NET.replace("WEIGHTS", ", ".join(f"{w:.6f}" for w in weights))
    return text.replace("BETWEEN", between).replace("CUT", cut).replace("REST", rest)


def pixels(scale: float = 255) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).integers(0, 256, (4, 3, 8, 8)).astype(np.float32) * np.float32(scale / 255)}


def found(text: str, feed: dict[str, np.ndarray], tmp_path: Path) -> set[str]:
    source = saved(tmp_path, parser.parse_model(text))
    return {row.node for row in sd.convert(source, tmp_path / "low.onnx", to="fp16", inputs=feed).kept}


@pytest.mark.parametrize("cut", ["Clip(a, low, six)", "HardSigmoid(a)", "Sigmoid(a)", "Tanh(a)"])
@pytest.mark.parametrize("between", ["Identity(c)", "Mul(c, six)", "Add(c, six)"])
def test_the_layer_and_what_stands_between_stay(cut: str, between: str, tmp_path: Path) -> None:
    assert found(net(between, cut), pixels(), tmp_path) == {"conv", "add", "clip"}


def test_what_is_left_whole_is_converted(tmp_path: Path) -> None:
    assert found(net(), pixels(1), tmp_path) == set()


@pytest.mark.parametrize("rest", ["Add(k, a)", "Add(k, c)"])
def test_a_value_that_is_used_whole_elsewhere_is_converted(rest: str, tmp_path: Path) -> None:
    assert found(net(rest=rest), pixels(), tmp_path) == set()


def test_without_a_layer_nothing_stays(tmp_path: Path) -> None:
    text = net().replace("Conv(x, w, bias)", "Softplus(x)").replace("float[N,8,8,8] y", "float[N,3,8,8] y")
    assert found(text, pixels(), tmp_path) == set()


def test_it_gains_what_it_says(tmp_path: Path) -> None:
    """4 dB or more for two nodes in float32. `cut_off` alone makes the difference."""
    source = saved(tmp_path, parser.parse_model(net()))
    kept, blunt = tmp_path / "kept.onnx", tmp_path / "blunt.onnx"
    done = sd.convert(source, kept, to="fp16", inputs=pixels())
    assert all("reaches" in row.reason and "Clip leaves 6 of it" in row.reason for row in done.kept)
    sd.convert(source, blunt, to="fp16")
    with open_session(source, "ort") as session:
        exact = [session.run(pixels())]
    got = []
    for path in (kept, blunt):
        with open_session(path, "onnx_half") as session:
            got.append(snr(exact, iter([session.run(in_types_of(session, pixels()))])))
    assert got[0] > got[1] + 4


def test_a_dead_result_is_no_reason() -> None:
    assert cut_off(ir.from_proto(parser.parse_model(net())), {"a": 100.0, "k": 0.0}) == {}
