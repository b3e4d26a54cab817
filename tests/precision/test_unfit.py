"""Constants and sizes that a 16-bit type cannot hold keep what they touch in float32, and no more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from simam_deploy.graph import onnx_file
from simam_deploy.precision.low_types import BF16, FP16, LowType
from simam_deploy.precision.to_low import InLow, to_low
from simam_deploy.runtimes import open_session

MASK = "g (float[1, 4] x, bool[1, 4] m) => (float[1, 4] y)"
IN = "g (float[1, 4] x) => (float[1, 4] y)"


def converted(graph: str, low: LowType = FP16, **options: bool) -> InLow:
    return to_low(
        ir.from_proto(parser.parse_model(f'<ir_version: 10, opset_import: ["" : 22]> {graph}')), low, **options
    )


def run(made: InLow, folder: Path, **feeds: object) -> np.ndarray:
    path = folder / "net.onnx"
    onnx_file.save(made.model, path)
    onnx.checker.check_model(path, full_check=True)
    with open_session(path, "onnx_half") as session:
        types = {spec.name: spec.dtype for spec in session.inputs}
        return session.run({name: np.array(value, types[name]) for name, value in feeds.items()})["y"]


def kept(made: InLow) -> dict[str, str]:
    return {row.op: row.reason for row in made.kept}


ADDED = f"""{MASK} <float big = {{-1e9}}> {{
    f = Cast<to = 1>(m)
    b = Mul(f, big)
    s = Add(x, b)
    y = Softmax(s)
}}"""
"""As exporters mask an attention."""
CHOSEN = f"{MASK} <float big = {{-1e9}}> {{ s = Where(m, big, x) y = Softmax(s) }}"
FILLED = f"""{MASK} <int64[2] n = {{1, 4}}> {{
    big = ConstantOfShape<value: tensor = float[1] {{-1e9}}>(n)
    s = Where(m, big, x)
    y = Softmax(s)
}}"""
LOWEST = CHOSEN.replace("-1e9", "-3.4028235e38")
"""The lowest float32 number, which is beyond bfloat16 too."""


@pytest.mark.parametrize("graph", [ADDED, CHOSEN, FILLED, LOWEST], ids=["added", "chosen", "filled", "lowest"])
@pytest.mark.parametrize("low", [FP16, BF16], ids=["fp16", "bf16"])
def test_a_masked_row_gives_no_nan(graph: str, low: LowType, tmp_path: Path) -> None:
    made = converted(graph, low)
    got = run(made, tmp_path, x=[[1, 2, 3, 4]], m=[[True] * 4])
    np.testing.assert_array_equal(got, [[0.25] * 4])
    part = run(made, tmp_path, x=[[1, 2, 3, 4]], m=[[True, False, True, False]])
    np.testing.assert_allclose(part[0], [0, 1 / (1 + np.e**2), 0, 1 / (1 + np.e**-2)], atol=2 * low.half_ulp)


def test_reasons_name_the_way() -> None:
    beyond = "a constant of 1e+09 is beyond fp16, which ends at 65504"
    assert kept(converted(ADDED)) == {
        "Mul": beyond,
        "Add": f"takes 'b': {beyond}",
        "Softmax": f"takes 's': {beyond}",
    }


def test_a_mask_that_fits_stays_low(tmp_path: Path) -> None:
    made = converted(CHOSEN.replace("-1e9", "-60000"))
    assert not made.kept
    got = run(made, tmp_path, x=[[1, 2, 3, 4]], m=[[True] * 4])
    np.testing.assert_array_equal(got, [[0.25] * 4])


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_infinities_and_nan_fit(value: float) -> None:
    assert not FP16.misfit(np.array([value, 1.0], np.float32))


def test_a_sum_at_the_end_of_the_range_has_no_room(tmp_path: Path) -> None:
    """-65504 fits, and -65504 + -16 is -inf."""
    made = converted(f"{IN} <float big = {{-65504}}> {{ s = Add(x, big) y = Softmax(s) }}")
    np.testing.assert_array_equal(run(made, tmp_path, x=[[-20] * 4]), [[0.25] * 4])
    assert not converted(f"{IN} <float big = {{-30000}}> {{ s = Add(x, big) y = Softmax(s) }}").kept


GUARD = f"""{IN} <float tiny = {{1e-12}}, int64[1] axes = {{1}}> {{
    n = ReduceL2(x, axes)
    c = GUARDED
    y = Div(x, c)
}}"""


@pytest.mark.parametrize("guarded", ["Max(n, tiny)", "Add(n, tiny)", "Clip(n, tiny)"])
def test_a_guard_of_a_division_holds(guarded: str, tmp_path: Path) -> None:
    made = converted(GUARD.replace("GUARDED", guarded))
    assert set(kept(made)) == {guarded.partition("(")[0], "Div"}
    np.testing.assert_array_equal(run(made, tmp_path, x=[[0] * 4]), [[0] * 4])
    np.testing.assert_allclose(run(made, tmp_path, x=[[3, 4, 0, 0]])[0], [0.6, 0.8, 0, 0], rtol=1e-6)


def test_an_epsilon_under_a_root_holds_and_ends_there(tmp_path: Path) -> None:
    """RMSNorm: its gain, and the product behind, are low."""
    made = converted(
        f"""{IN} <float two = {{2}}, float tiny = {{1e-6}}, float[4] gain = {{1, 1, 1, 2}}, int64[1] axes = {{1}},
            float[4, 4] w = {{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}}> {{
            p = Pow(x, two)
            m = ReduceMean(p, axes)
            t = Add(m, tiny)
            s = Sqrt(t)
            r = Reciprocal(s)
            n = Mul(x, r)
            g = Mul(n, gain)
            y = MatMul(g, w)
        }}"""
    )
    assert [row.op for row in made.kept] == ["Add", "Sqrt", "Reciprocal", "Mul"]
    np.testing.assert_array_equal(run(made, tmp_path, x=[[0] * 4]), [[0] * 4])


def test_a_small_gain_keeps_its_product_alone() -> None:
    """A new LayerScale: the network behind it is low."""
    made = converted(
        f"{IN} <float[4] gain = {{1e-6, 1e-6, 1e-6, 1e-6}}> {{ g = Mul(x, gain) s = Add(x, g) y = Relu(s) }}"
    )
    assert kept(made) == {"Mul": "a constant of 1e-06 becomes 1.01328e-06 in fp16"}


NORM = """g (float[1, 2, 1, 1] x) => (float[1, 2, 1, 1] y)
    <float[2] s = {1, 1}, float[2] o = {0, 0}, float[2] v = {1e-12, 1}> {
    y = BatchNormalization<epsilon = EPSILON>(x, s, o, o, v)
}"""


@pytest.mark.parametrize(("epsilon", "reason"), [("1e-5", None), ("1e-12", "a divisor of 1e-12 becomes 0 in fp16")])
def test_a_dead_channel(epsilon: str, reason: str | None, tmp_path: Path) -> None:
    """Beside an epsilon of 1e-5 its variance is nothing; beside 1e-12 it halves the result."""
    made = converted(NORM.replace("EPSILON", epsilon))
    assert kept(made).get("BatchNormalization") == reason
    x = 1e-3 if reason is None else 1e-6
    exact = x / np.sqrt(1e-12 + float(epsilon))
    got = run(made, tmp_path, x=[[[[x]], [[1]]]])
    np.testing.assert_allclose(got.ravel(), [exact, 1], rtol=2e-2)


@pytest.mark.parametrize("operator", ["Div(x, d)", "Mul(x, d)"])
def test_small_numbers_beside_large_ones(operator: str) -> None:
    """As a factor they count as 0; nothing is divided by 0."""
    made = converted(f"{IN} <float[4] d = {{1, 1, 1, 1e-9}}> {{ y = {operator} }}")
    divides = {"Div": "a divisor of 1e-09 becomes 0 in fp16"}
    assert kept(made) == (divides if operator.startswith("Div") else {})


def test_a_scale_of_a_quantiser_is_a_divisor() -> None:
    made = converted(
        f"""{IN} <float[4] d = {{1, 1, 1, 1e-9}}> {{
            q = QuantizeLinear<axis = 1>(x, d)
            y = DequantizeLinear<axis = 1>(q, d)
        }}"""
    )
    assert kept(made) == {"QuantizeLinear": "a divisor of 1e-09 becomes 0 in fp16"}


SIZES = """g (float[1, 2, h, w] x) => (float[1, 2, h2, w2] y, float[1, 2, h, w] z)
    <int64[2] at = {0, 1}, float half = {0.5}> {
    all = Shape(x)
    first = Gather(all, at)
    hw = Shape<start = 2>(x)
    number = ReduceProd<keepdims = 0>(hw)
    m = Cast<to = 1>(number)
    z = Div(x, m)
    f = Cast<to = 1>(hw)
    g = Mul(f, half)
    r = Floor(g)
    n = Cast<to = 7>(r)
    size = Concat<axis = 0>(first, n)
    y = Resize<mode = "nearest">(x, , , size)
}"""


def test_sizes_stay_float32(tmp_path: Path) -> None:
    """H * W = 102400 is beyond float16, and half of 4099 is 2049."""
    made = converted(SIZES)
    assert set(kept(made)) == {"Cast", "Mul", "Floor", "Div"}
    assert set(kept(made).values()) == {"works with numbers that are computed from sizes"}
    path = tmp_path / "net.onnx"
    onnx_file.save(made.model, path)
    with open_session(path, "onnx_half") as session:
        got = session.run({"x": np.full((1, 2, 320, 320), 1024, np.float16)})
        np.testing.assert_allclose(got["z"], 0.01, rtol=1e-6)
        assert session.run({"x": np.zeros((1, 2, 2, 4099), np.float16)})["y"].shape == (1, 2, 1, 2049)


def test_what_is_only_shaped_by_sizes_is_low() -> None:
    """The first state of an LSTM, and an Expand."""
    made = converted(
        """g (float[n, 4] x) => (float[n, 4] y) <float[1, 4] c = {1, 2, 3, 4}> {
            s = Shape(x)
            zeros = ConstantOfShape(s)
            e = Expand(c, s)
            a = Add(x, zeros)
            y = Mul(a, e)
        }"""
    )
    assert kept(made) == {"ConstantOfShape": "ConstantOfShape names the type of its result"}


def test_the_scale_of_an_attention_is_low() -> None:
    """x / sqrt(size of an axis): the root is computed in float32, and all behind it is low."""
    made = converted(
        """g (float[n, d] x) => (float[n, d] y) {
            s = Shape<start = 1>(x)
            f = Cast<to = 1>(s)
            r = Sqrt(f)
            y = Div(x, r)
        }"""
    )
    assert list(kept(made)) == ["Cast", "Sqrt"]


def test_a_blunt_conversion_heeds_none_of_it() -> None:
    for graph in (CHOSEN, GUARD.replace("GUARDED", "Max(n, tiny)"), NORM.replace("EPSILON", "1e-12"), SIZES):
        assert not converted(graph, blunt=True).kept
