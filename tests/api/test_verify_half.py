"""Files of 16 bits are judged by the oracle, and by the gate of each block on the x that it got."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.half_nets import GATE_LIMIT, gate_error, naive, saved, x_of

import simam_deploy as sd
from simam_deploy.compare.limits import NO_LIMITS, Precision
from simam_deploy.compare.outputs import OutputRow
from simam_deploy.compare.runnable import runtimes_for
from simam_deploy.compare.verify import Report
from simam_deploy.graph import onnx_file
from simam_deploy.graph.number_types import precision
from simam_deploy.precision.low_types import LOW_TYPES
from simam_deploy.precision.to_low import to_low
from simam_deploy.rewrite.fuse import fuse
from simam_deploy.runtimes import open_session


def files(folder: Path, m: int, low: str = "fp16") -> list[Path]:
    """The float32 file, the naive 16-bit file, and ours."""
    plain = naive(m, "float32")
    made = to_low(fuse(ir.from_proto(plain), "function").model, LOW_TYPES[low])
    dtype = {"fp16": "float16", "bf16": "bfloat16"}[low]
    paths = [saved(folder, plain), saved(folder, naive(m, dtype), "naive.onnx"), folder / "ours.onnx"]
    onnx_file.save(made.model, paths[2])
    return paths


def verdicts(report: Report) -> dict[str, bool]:
    rows = [(row.session, row.passed) for row in (*report.rows, *report.gates)]
    return {session: all(passed for other, passed in rows if other == session) for session, _ in rows}


# one for each way to be wrong, and two that are right
CHOSEN = [(20, 1.0, 0), (80, 1.0, 10), (80, 1.0, 100), (80, 4.0, 0), (80, 64.0, 0), (160, 2.0, 1000), (320, 0.5, 0)]


@pytest.mark.parametrize(("m", "spread", "offset"), CHOSEN)
def test_a_collapse_is_seen_and_nothing_else(m: int, spread: float, offset: float, tmp_path: Path) -> None:
    plain, rounded, ours = files(tmp_path, m)
    x = x_of(m, spread, offset)
    with open_session(rounded, "onnx_half") as session:
        half = x.astype(np.float16)
        wrong = gate_error(half, session.run({"x": half})["y"]) > GATE_LIMIT
    report = sd.verify(plain, rounded, ours, inputs={"x": x}, runtimes=["onnx_half"])
    assert verdicts(report) == {"net · onnx_half": True, "naive · onnx_half": not wrong, "ours · onnx_half": True}


@pytest.mark.parametrize(
    ("m", "spread", "offset", "words"),
    [
        (80, 4.0, 0, "its gate is 0.622 everywhere: the sum of squares overflows"),
        (320, 0.5, 0, "its gate is 1 nearly everywhere: M - 1 overflows"),
        (160, 64.0, 0, "NaN or infinity: a square overflows"),
        (80, 1.0, 100, "its gate is wrong"),
    ],
)
def test_the_block_and_the_cause_are_named(m: int, spread: float, offset: float, words: str, tmp_path: Path) -> None:
    plain, rounded, _ = files(tmp_path, m)
    report = sd.verify(plain, rounded, inputs={"x": x_of(m, spread, offset)}, runtimes=["onnx_half"])
    assert f"naive · onnx_half: block: {words} (the arrays)" in report.notes


def test_a_half_file_alone_is_compared_with_itself_in_float64(tmp_path: Path) -> None:
    x = {"x": x_of(80, 4, 0)}
    _, rounded, ours = files(tmp_path, 80)
    assert not sd.verify(rounded, inputs=x).passed
    report = sd.verify(ours, inputs=x)
    assert report.passed
    assert {row.session for row in report.rows} == {"onnx_half", "ort"}
    assert "ort: on a CPU it computes fp16 in float32, so it shows that the file loads" in "\n".join(report.notes)


def test_bfloat16_runs_on_the_oracle_alone(tmp_path: Path) -> None:
    """It has the range of float32: rounded operator by operator, no gate collapses, and all are less exact."""
    plain, rounded, ours = files(tmp_path, 40, "bf16")
    report = sd.verify(plain, rounded, ours, inputs={"x": x_of(40, 0.5, 100)})
    assert {session for session in verdicts(report) if "net" not in session} == {
        "naive · onnx_half",
        "ours · onnx_half",
    }
    assert report.passed
    by_file = {gate.session: gate.max_gate_error for gate in report.gates}
    assert by_file["ours · onnx_half"] < 4e-3 < by_file["naive · onnx_half"]


def test_limits_of_the_user_replace_those_of_the_type(tmp_path: Path) -> None:
    plain, _, ours = files(tmp_path, 20)
    given = {"inputs": {"x": x_of(20, 1, 0)}, "runtimes": ["onnx_half"]}
    (row,) = (r for r in sd.verify(plain, ours, **given).rows if "ours" in r.session)
    assert 60 < row.snr_db < 80
    for limit, least in (("min_snr", row.snr_db), ("atol", row.max_abs_error)):
        loose, tight = (0.9 * least, 1.1 * least) if limit == "min_snr" else (1.1 * least, 0.9 * least)
        assert sd.verify(plain, ours, **given, **{limit: loose}).passed
        assert not sd.verify(plain, ours, **given, **{limit: tight}).passed


def test_labels_that_change_are_a_drop(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["" : 18]> g ({0}[4,2] x) => ({0}[4,2] y) <{0} big = {{1}}> {{
        y = Add(x, big)
    }}"""
    paths = [saved(tmp_path, onnx.parser.parse_model(text.format(t)), f"{t}.onnx") for t in ("float", "float16")]
    x = np.array([[0, 1], [1, 0], [0, 1], [1, 1.0001]], np.float32)  # the last changes: both become 1
    given = {"inputs": {"x": x}, "runtimes": ["onnx_half"]}
    (row,) = (r for r in sd.verify(*paths, **given).rows if "float16" in r.session)
    assert row.agreement == 0.75
    assert sd.verify(*paths, **given, max_drop=25).passed
    assert not sd.verify(*paths, **given, max_drop=24).passed


def test_infinity_fails_though_no_label_changes(tmp_path: Path) -> None:
    """Infinity is the largest number of its row, as 131072 is in float32."""
    text = """<ir_version: 9, opset_import: ["" : 18]> g ({0}[4,2] x) => ({0}[4,2] y) {{ y = Add(x, x) }}"""
    paths = [saved(tmp_path, onnx.parser.parse_model(text.format(t)), f"{t}.onnx") for t in ("float", "float16")]
    given = {"runtimes": ["onnx_half"], "max_drop": 25}
    for size, passed in ((4096, True), (65504, False)):
        x = np.array([[0, size], [size, 0], [0, size], [size, 1]], np.float32)
        report = sd.verify(*paths, inputs={"x": x}, **given)
        (row,) = (r for r in report.rows if "float16" in r.session)
        assert (row.agreement, row.passed) == (1, passed)


def test_a_limit_is_a_number(tmp_path: Path) -> None:
    with pytest.raises(sd.InputError, match="--max-drop is a finite number, 0 or more; got -1"):
        sd.verify(saved(tmp_path, naive(20, "float32")), max_drop=-1)


QUANTISED = """<ir_version: 9, opset_import: ["" : 18]> g (float[1,4] x) => (float[1,4] y)
    <float scale = {0.05}, int8 zero = {0}> {
        q = QuantizeLinear(x, scale, zero)
        y = DequantizeLinear(q, scale, zero)
    }"""


def test_a_quantised_file_needs_its_float_file(tmp_path: Path) -> None:
    made = saved(tmp_path, onnx.parser.parse_model(QUANTISED), "q.onnx")
    with pytest.raises(sd.InputError, match=r"verify FLOAT.onnx q.onnx"):
        sd.verify(made)
    plain = '<ir_version: 9, opset_import: ["" : 18]> g (float[1,4] x) => (float[1,4] y) { y = Identity(x) }'
    source = saved(tmp_path, onnx.parser.parse_model(plain))
    x = {"x": np.array([[0.5, -1.2, 3, 0.04]], np.float32)}
    report = sd.verify(source, made, inputs=x)
    assert report.passed
    assert {row.session for row in report.rows if "q" in row.session} == {"q · ort"}
    x["x"][0] = 0.024  # rounds to 0
    assert not sd.verify(source, made, inputs=x).passed


def test_another_lambda_fails_though_the_outputs_are_near(tmp_path: Path) -> None:
    """On real samples λ may show in nothing else."""
    plain = saved(tmp_path, naive(20, "float32", e_lambda=1e-4))
    other = fuse(ir.from_proto(naive(20, "float32", e_lambda=1e-3)), "function").model
    onnx_file.save(to_low(other, LOW_TYPES["fp16"]).model, tmp_path / "other.onnx")
    report = sd.verify(plain, tmp_path / "other.onnx", inputs={"x": x_of(20, 4, 0)}, runtimes=["onnx_half"])
    assert all(row.passed for row in report.rows)
    assert not report.passed
    assert "other · onnx_half: block: λ is 0.001, and 0.0001 in the first file" in report.notes


def test_branches_that_may_not_have_run_are_named(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["" : 18]> g (float[2] x, bool c) => (float[2] y) {
        [pick] y = If(c) <then_branch = t () => (float[2] u) { u = Add(x, x) },
                          else_branch = e () => (float[2] v) { v = Identity(x) }>
    }"""
    path = saved(tmp_path, onnx.parser.parse_model(text))
    feeds = {"x": np.ones(2, np.float32), "c": np.array(True)}
    notes = sd.verify(path, inputs=feeds, runtimes=["ort"]).notes
    assert "net.onnx branches (If at pick); a branch that no input takes was not compared" in notes


def test_gates_of_int8_with_fp16_are_judged_too(tmp_path: Path) -> None:
    """A quantised file is judged by its SNR, which hides a collapse."""
    plain, rounded = (
        saved(tmp_path, naive(80, "float32")),
        saved(tmp_path, with_steps(naive(80)), "q.onnx"),
    )
    report = sd.verify(plain, rounded, inputs={"x": x_of(80, 4, 0)})
    assert precision(onnx_file.load(rounded)) == "int8+fp16"
    assert [(gate.session, gate.passed) for gate in report.gates] == [("q · onnx_half", False)]


def with_steps(model: onnx.ModelProto) -> onnx.ModelProto:
    """With x rounded to 8 bits in front, in steps of 1/8."""
    elem = model.graph.input[0].type.tensor_type.elem_type
    scale = np.array(0.125).astype(onnx.helper.tensor_dtype_to_np_dtype(elem))
    model.graph.initializer.append(onnx.numpy_helper.from_array(scale, "step"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(128, np.uint8), "zero"))
    for node in model.graph.node:
        node.input[:] = ["rounded" if name == "x" else name for name in node.input]
    rounding = [
        onnx.helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["steps"]),
        onnx.helper.make_node("DequantizeLinear", ["steps", "step", "zero"], ["rounded"]),
    ]
    nodes = [*rounding, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.opset_import[0].version = 19
    return model


def test_a_provider_is_never_left_out() -> None:
    """bfloat16 runs on the oracle by default, and where a provider was asked for, there too."""
    kind = Precision("bf16")
    assert runtimes_for(kind, ["ort"]) == ["onnx_half"]
    assert runtimes_for(kind, ["ort"], "CUDAExecutionProvider") == ["onnx_half", "ort"]


def test_a_look_alike_that_collapses_fails_too(tmp_path: Path) -> None:
    """The population variance is no SimAM, so it has no gate to judge; the reference keeps its sums in float32."""
    paths = []
    for dtype in ("float32", "float16"):
        model = naive(80, dtype)
        (n,) = (tensor for tensor in model.graph.initializer if tensor.name == "n")
        n.CopyFrom(onnx.numpy_helper.from_array(np.array(12800, dtype), "n"))
        paths.append(saved(tmp_path, model, f"{dtype}.onnx"))
    report = sd.verify(*paths, inputs={"x": x_of(80, 4, 0)}, runtimes=["onnx_half"])
    assert not report.gates
    assert [row.passed for row in report.rows] == [True, False]


def test_a_weight_that_is_off_by_half_a_percent_fails(tmp_path: Path) -> None:
    """Ten roundings of float16."""
    text = """<ir_version: 9, opset_import: ["" : 18]> g (float[1,1,4,4] x) => (float[1,1,4,4] y)
        <float[1,1,1,1] w = {WEIGHT}> { y = Conv(x, w) }"""
    plain = saved(tmp_path, onnx.parser.parse_model(text.replace("WEIGHT", "1.5")))
    x = {"x": np.random.default_rng(0).standard_normal((1, 1, 4, 4)).astype(np.float32)}
    for weight, passed in (("1.5", True), ("1.5075", False)):
        made = to_low(ir.from_proto(onnx.parser.parse_model(text.replace("WEIGHT", weight))), LOW_TYPES["fp16"])
        onnx_file.save(made.model, tmp_path / "low.onnx")
        assert sd.verify(plain, tmp_path / "low.onnx", inputs=x, runtimes=["onnx_half"]).passed == passed


@pytest.mark.parametrize(("value", "passed"), [(0.82, True), (0.62, False)])
def test_a_quantised_file_keeps_31_decibels(value: float, passed: bool, tmp_path: Path) -> None:
    """Off by 0.02 each, of steps of 0.05: 32 and 30 dB."""
    made = saved(tmp_path, onnx.parser.parse_model(QUANTISED), "q.onnx")
    plain = '<ir_version: 9, opset_import: ["" : 18]> g (float[1,4] x) => (float[1,4] y) { y = Identity(x) }'
    source = saved(tmp_path, onnx.parser.parse_model(plain))
    x = {"x": np.array([[value, -value, value, value]], np.float32)}
    assert sd.verify(source, made, inputs=x, runtimes=["ort"]).passed == passed


@pytest.mark.parametrize(("layers", "least"), [(0, 31), (1, 31), (10, 21), (100, 11)])
def test_each_integer_layer_may_add_its_noise(layers: int, least: float) -> None:
    for snr_db in (least - 0.5, least + 0.5):
        row = OutputRow("plain", "net · ort", "y", 0.01, 0.0, snr_db, 0, passed=False)
        assert Precision("int8", layers).judged(row, NO_LIMITS).passed == (snr_db > least)
