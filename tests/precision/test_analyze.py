"""What 16 bits do to a network is foretold from float32 and real samples, by part and with the cause."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.graphs import BODY, parse
from helpers.half_nets import CASES, GATE_LIMIT, MAPS, gate_error, naive, saved, x_of
from onnx import parser

from simam_deploy.errors import InputError
from simam_deploy.precision.analysis import ISLAND, SAFE, UNSAFE, Analysis
from simam_deploy.precision.analyze import MEND, analyze
from simam_deploy.precision.flat import flat
from simam_deploy.precision.low_types import FP16
from simam_deploy.rewrite.fuse import fuse
from simam_deploy.runtimes import open_session


def analysed(model: onnx.ModelProto, *feeds: dict[str, np.ndarray]) -> Analysis:
    return analyze(flat(ir.from_proto(model))[0], feeds, lows=[FP16])


@pytest.mark.parametrize("m", MAPS)
def test_every_wrong_case_is_foretold_and_no_other(m: int, tmp_path: Path) -> None:
    """By the float32 network; and the 16-bit file is judged the same as it is."""
    channels = 2 if m < 100 else 1
    plain, low = (naive(m, dtype, channels) for dtype in ("float32", "float16"))
    with open_session(saved(tmp_path, low), "onnx_half") as session:
        for _, spread, offset in (case for case in CASES if case[0] == m):
            x = x_of(m, spread, offset, channels)
            half = x.astype(np.float16)
            wrong = gate_error(half, session.run({"x": half})["y"]) > GATE_LIMIT
            for model in (plain, low) if spread in (1, 8, 64) else (plain,):
                (row,) = analysed(model, {"x": x}).rows
                assert (row.verdicts["fp16"].verdict != SAFE) == wrong, (spread, offset, row)
                assert bool(row.verdicts["fp16"].cause) == wrong
                assert (row.node, row.kind) == ("block", "SimAM")


@pytest.mark.parametrize(
    ("m", "spread", "offset", "verdict", "cause"),
    [
        (80, 4.0, 0, ISLAND, "ReduceSum 'node_3' reaches 1.0"),
        (320, 0.5, 0, ISLAND, "a constant of 102399 is beyond fp16, which ends at 65504"),
        (20, 64.0, 1000, ISLAND, "its gate is 0.622 everywhere"),
        (80, 1.0, 1000, UNSAFE, "its gate is wrong"),
    ],
)
def test_the_cause_is_named(m: int, spread: float, offset: float, verdict: str, cause: str) -> None:
    (row,) = analysed(naive(m, "float32"), {"x": x_of(m, spread, offset)}).rows
    found = row.verdicts["fp16"]
    assert found.verdict == verdict
    assert cause in found.cause


def test_a_mean_far_from_0_is_too_coarse_to_store() -> None:
    (row,) = analysed(naive(80, "float32"), {"x": x_of(80, 1, 1000)}).rows
    assert "as a mean is 1" in row.verdicts["fp16"].coarse
    assert "times the spread" in row.verdicts["fp16"].coarse


EPILOGUE = """g (float[1,2,8,8] x) => (float[1,2,8,8] y) <float[2] scale = {1, 1}, float[2] bias = {0, -1.61},
    float[2] mean = {0, 0}, float[2] var = {1, 1}> {
        s = simam.SimAM <e_lambda: float = 0.0001> (x)
        b = BatchNormalization (s, scale, bias, mean, var)
        y = Relu (b)
    }"""
"""Of the second plane, whose values end at 1.623, the ReLU leaves one value of 0.013."""


@pytest.mark.parametrize("epilogue", [False, True])
def test_an_epilogue_that_leaves_little_of_a_plane_is_no_reason_for_float32(epilogue: bool) -> None:
    """The rounding of x is large beside what is left, and small beside the result of SimAM."""
    fused = fuse(ir.from_proto(parse(EPILOGUE, BODY)), "function", epilogue=epilogue)
    (row,) = analyze(flat(fused.model)[0], [{"x": x_of(8, 1, 0, 2)}], lows=[FP16]).rows
    assert row.verdicts["fp16"].moved < FP16.half_ulp
    assert not row.verdicts["fp16"].coarse


def test_facts_of_a_block() -> None:
    x = x_of(20, 2, 3)
    (row,) = analysed(naive(20, "float32"), {"x": x}).rows
    wide = x.astype(np.float64)
    d = (wide - wide.mean(axis=(2, 3), keepdims=True)) ** 2
    assert row.simam.largest_delta == pytest.approx(np.sqrt(d.max()))
    assert row.simam.largest_sum == pytest.approx(d.sum(axis=(2, 3)).max())
    assert row.simam.largest_bound == pytest.approx(400 * d.max())
    assert row.held["fp16"] == {"M - 1": 399.0, "λ": float(np.float16(1e-4))}
    assert row.margins["fp16"].up == pytest.approx(np.log2(65504 / row.largest[1]))
    variance = row.simam.largest_sum / 399
    assert row.margins["fp16"].added == pytest.approx(np.log2(1e-4 / (variance * 2**-11)))


LAYER_NORM = """<ir_version: 9, opset_import: ["" : 18]> g (float[1,4,6,6] x) => (float[1,4,6,6] y)
    <int64[1] axes = {1}, float eps = {0.000001}, float two = {2}> {
        m = ReduceMean(x, axes)
        c = Sub(x, m)
        d = Pow(c, two)
        v = ReduceMean(d, axes)
        t = Add(v, eps)
        s = Sqrt(t)
        n = Div(c, s)
        y = Relu(n)
    }"""


def test_margins_of_a_hand_written_norm() -> None:
    """v + eps: of eps, 2 ** -20 (17 - 11 bits below a v of 2 ** -3), nothing is left."""
    x = np.zeros((1, 4, 6, 6), np.float32)
    x[:, ::2], x[:, 1::2] = 2.0**-1.5, -(2.0**-1.5)
    text = LAYER_NORM.replace("0.000001", f"{2.0**-20:.20f}")
    (row,) = analysed(parser.parse_model(text), {"x": x}).rows
    margins = row.margins["fp16"]
    assert margins.added == pytest.approx(-20 + 3 + 11, abs=0.01)
    assert margins.up == pytest.approx(np.log2(65504), abs=0.01)  # of n, which is 1
    assert margins.down == pytest.approx(14 - 3, abs=0.01)
    assert str(margins) == "16/11/-6"
    assert f"{margins}" in str(analysed(parser.parse_model(text), {"x": x}))


def test_margins_without_limits() -> None:
    text = (
        LAYER_NORM[: LAYER_NORM.index("g (")]
        + "g (float[1,4,6,6] x) => (float[1,4,1,1] y) { y = GlobalAveragePool(x) }"
    )
    (row,) = analysed(parser.parse_model(text), {"x": np.zeros((1, 4, 6, 6), np.float32)}).rows
    assert str(row.margins["fp16"]) == "-/-/-"
    (row,) = analysed(parser.parse_model(text), {"x": np.full((1, 4, 6, 6), 131008, np.float32)}).rows
    assert str(row.margins["fp16"]).startswith("-1/")


def test_a_half_file_that_collapses_is_told_how_to_mend_it() -> None:
    found = analysed(naive(80), {"x": x_of(80, 4, 0)})
    assert MEND in found.notes
    assert MEND not in analysed(naive(80), {"x": x_of(80, 1, 0)}).notes


L2 = """<ir_version: 9, opset_import: ["" : 18]> g (float[2,400] x) => (float[2,400] y)
    <int64[1] axes = {1}, float small = {0.000000000001}> {
        d = Mul(x, x)
        s = ReduceSum(d, axes)
        r = Sqrt(s)
        c = Clip(r, small)
        y = Div(x, c)
    }"""
GRN = """<ir_version: 9, opset_import: ["" : 18]> g (float[1,4,50,50] x) => (float[1,4,50,50] y)
    <int64[2] hw = {2, 3}, int64[1] axes = {1}, float eps = {0.000001}> {
        g = ReduceL2(x, hw)
        m = ReduceMean(g, axes)
        e = Add(m, eps)
        n = Div(g, e)
        y = Mul(x, n)
    }"""


def rng(*shape: int, spread: float = 1.0) -> dict[str, np.ndarray]:
    return {"x": (spread * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)}


@pytest.mark.parametrize(
    ("text", "feed", "verdict", "kind", "cause"),
    [
        (LAYER_NORM, rng(1, 4, 6, 6), SAFE, "ReduceMean", ""),
        (LAYER_NORM, rng(1, 4, 6, 6, spread=1000), ISLAND, "ReduceMean", "Pow"),
        (LAYER_NORM, rng(1, 4, 6, 6, spread=1e-4), ISLAND, "ReduceMean", "a constant of 1e-06 becomes"),
        (L2, rng(2, 400, spread=100), ISLAND, "ReduceSum", "ReduceSum"),
        (L2, rng(2, 400), SAFE, "ReduceSum", ""),
        (GRN, rng(1, 4, 50, 50), SAFE, "ReduceL2+ReduceMean", ""),
        (GRN, rng(1, 4, 50, 50, spread=2000), ISLAND, "ReduceL2+ReduceMean", "ReduceL2"),
    ],
)
def test_other_normalizations_are_one_site_each(
    text: str, feed: dict[str, np.ndarray], verdict: str, kind: str, cause: str
) -> None:
    (row,) = analysed(parser.parse_model(text), feed).rows
    assert row.kind == kind
    assert row.verdicts["fp16"].verdict == verdict
    assert cause in row.verdicts["fp16"].cause


@pytest.mark.parametrize("op", ["InstanceNormalization", "Softmax"])
def test_normalizations_of_onnx_are_safe(op: str) -> None:
    """They round their result alone, whatever they sum inside."""
    more = "" if op == "Softmax" else ", w, b"
    text = f"""<ir_version: 9, opset_import: ["" : 18]> g (float[1,2,40,40] x) => (float[1,2,40,40] y)
        <float[2] w = {{1, 1}}, float[2] b = {{0, 0}}> {{ y = {op}(x{more}) }}"""
    (row,) = analysed(parser.parse_model(text), rng(1, 2, 40, 40, spread=300)).rows
    assert (row.kind, row.verdicts["fp16"].verdict) == (op, SAFE)


def test_values_beyond_the_type_are_listed() -> None:
    text = """<ir_version: 9, opset_import: ["" : 18]> g (float[2] x) => (float[2] y) <float k = {1000}> {
        big = Mul(x, k)
        y = Div(big, k)
    }"""
    found = analysed(parser.parse_model(text), {"x": np.array([1, 200], np.float32)})
    assert found.rows == ()
    assert found.unfit(FP16) == {"big": "'big' reaches 2e+05, beyond fp16, which ends at 65504"}


def test_nodes_for_other_tools() -> None:
    model = naive(80, "float32")
    with pytest.raises(InputError, match=r"10 nodes of block \(SimAM\) have no name in the file"):
        analysed(model, {"x": x_of(80, 4, 0)}).excluded("onnxconverter")
    for node in model.graph.node:
        node.name = f"{node.op_type} {node.output[0]}"
    found = analysed(model, {"x": x_of(80, 4, 0)})
    assert found.excluded("onnxconverter") == [node.name for node in model.graph.node]
    assert analysed(model, {"x": x_of(80, 1, 0)}).excluded("autocast") == []
    with pytest.raises(InputError, match=r"takes autocast, onnxruntime, onnxconverter; got 'trtexec'"):
        found.excluded("trtexec")


def test_no_sample_is_an_error() -> None:
    with pytest.raises(InputError, match="no sample is given"):
        analysed(naive(20, "float32"))


def test_the_worst_of_all_samples_counts() -> None:
    (row,) = analysed(naive(80, "float32"), {"x": x_of(80, 4, 0)}, {"x": x_of(80, 1, 0)}).rows
    assert row.verdicts["fp16"].verdict == ISLAND


@pytest.mark.parametrize(("size", "words"), [(3e4, ""), (4e4, "near fp16"), (7e4, "beyond fp16")])
def test_values_near_the_end_of_the_type_are_unfit(size: float, words: str) -> None:
    """The next input may be larger than all samples."""
    text = '<ir_version: 9, opset_import: ["" : 18]> g (float[1,4] x) => (float[1,4] y) { y = Neg (x) }'
    x = np.array([[size, 0, 1, -2]], np.float32)
    unfit = analysed(parser.parse_model(text), {"x": x}).unfit(FP16)
    assert set(unfit) == ({"x", "y"} if words else set())
    assert all(f"reaches {size:.3g}, {words}, which ends at 65504" in reason for reason in unfit.values())


def test_the_numbers_of_a_block_that_is_not_safe() -> None:
    (line,) = analysed(naive(320, "float32"), {"x": x_of(320, 1, 0)}).facts
    assert line.startswith("block: max|x - μ| ")
    assert line.endswith("fp16: M - 1 = inf, λ = 0.000100017")
    assert analysed(naive(20, "float32"), {"x": x_of(20, 1, 0)}).facts == []


def test_a_bfloat16_file_is_excluded_by_its_own_type() -> None:
    found = analyze(flat(ir.from_proto(naive(20, "bfloat16")))[0], [{"x": x_of(20, 1, 0)}])
    assert [low.name for low in found.lows] == ["bf16"]
    assert found.excluded("autocast") == []


def test_a_sum_to_a_single_number() -> None:
    """Of no axis at all."""
    text = (
        LAYER_NORM[: LAYER_NORM.index("g (")] + "g (float[1,4,6,6] x) => (float y) { y = ReduceSum<keepdims = 0>(x) }"
    )
    (row,) = analysed(parser.parse_model(text), {"x": np.full((1, 4, 6, 6), 1000, np.float32)}).rows
    assert row.verdicts["fp16"].verdict == ISLAND
    assert "reaches 1.44e+05, beyond 65504" in row.verdicts["fp16"].cause
