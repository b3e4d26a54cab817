"""A float32 file in lower precision: what was asked, what was got and why; or a clear error and nothing written."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.half_nets import gate_error, naive, saved, x_of
from onnx import parser

import simam_deploy as sd
from simam_deploy.artifacts import manifest
from simam_deploy.graph import onnx_file
from simam_deploy.graph.number_types import precision
from simam_deploy.precision import convert as convert_module
from simam_deploy.precision import to_low as to_low_module
from simam_deploy.precision.analysis import Analysis
from simam_deploy.precision.low_types import LowType
from simam_deploy.runtimes import open_session

NET = """<ir_version: 9, opset_import: ["" : 18]> g (float[N,2,8,8] x) => (float[N,2,8,8] y)
    <float[2,2,1,1] w = {1, 2, 3, -1}, int64[2] hw = {2, 3}, float two = {2}, float n = {63}, float lam = {LAMBDA},
     float four = {4}, float half = {0.5}, float[2] scale = {1, 2}, float[2] bias = {0, 1}, float[2] mean = {0, 1},
     float[2] var = {1, 4}> {
        [conv] c = Conv(x, w)
        [mu] mu = ReduceMean(c, hw)
        [centre] d0 = Sub(c, mu)
        [square] d = Pow(d0, two)
        [sum] s = ReduceSum(d, hw)
        [variance] v = Div(s, n)
        [regular] t = Add(v, lam)
        [by4] q = Mul(t, four)
        [ratio] e = Div(d, q)
        [energy] z = Add(e, half)
        [gate] g = Sigmoid(z)
        [block] b = Mul(c, g)
        [norm] bn = BatchNormalization(b, scale, bias, mean, var)
        [act] y = Relu(bn)
    }"""


def net(folder: Path, e_lambda: str = "0.0001", change: tuple[str, str] = ("", "")) -> Path:
    return saved(folder, parser.parse_model(NET.replace("LAMBDA", e_lambda).replace(*change)))


def samples(count: int = 4) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(0).standard_normal((count, 2, 8, 8)).astype(np.float32)}


BIG = ("[norm] bn = BatchNormalization(b, scale, bias, mean, var)", "k = Mul(b, kilo)\n bn = Div(k, kilo)")


def beyond_float16(folder: Path) -> Path:
    """A network whose inner values reach 2e5."""
    text = NET.replace("LAMBDA", "0.0001").replace(*BIG).replace("float half", "float kilo = {100000}, float half")
    return saved(folder, parser.parse_model(text))


@pytest.mark.parametrize(("to", "least"), [("fp16", 55), ("bf16", 37), ("int8", 25)])
def test_the_file_is_near_and_its_manifest_says_so(to: str, least: float, tmp_path: Path) -> None:
    source, target = net(tmp_path), tmp_path / "low.onnx"
    done = sd.convert(source, target, to=to, inputs=samples())
    assert done.snr_db > least
    assert precision(onnx_file.load(target)) == to
    assert [block.op for block in sd.find_blocks(target).blocks] == ["SimAMAffineRelu" if to == "int8" else "SimAM"]
    held = manifest.read(target)["precision"]
    assert (held["asked"]["to"], held["snr_db"]) == (to, done.snr_db)
    assert not manifest.disagreements(target)
    assert sd.verify(source, target, inputs=samples()).passed


def test_without_samples_a_note_says_what_was_not_seen(tmp_path: Path) -> None:
    done = sd.convert(net(tmp_path), tmp_path / "low.onnx", to="fp16")
    assert done.snr_db is None
    assert any(note.startswith("without --inputs nothing was run") for note in done.notes)


def test_io_and_nodes_stay_float32_on_request(tmp_path: Path) -> None:
    target = tmp_path / "low.onnx"
    done = sd.convert(net(tmp_path), target, to="fp16", keep_io=True, keep_float=["norm", "y"])
    assert [(row.node, row.op, row.reason) for row in done.kept] == [
        ("norm", "BatchNormalization", "asked for"),
        ("act", "Relu", "asked for"),
    ]
    with open_session(target, "ort") as session:
        assert [str(spec) for spec in (*session.inputs, *session.outputs)] == [
            "x: float32[N, 2, 8, 8]",
            "y: float32[N, 2, 8, 8]",
        ]


def test_parts_that_overflow_on_the_samples_stay_float32(tmp_path: Path) -> None:
    """A value of 2e5 behind SimAM: its maker and its reader stay, the others do not."""
    source = beyond_float16(tmp_path)
    done = sd.convert(source, tmp_path / "low.onnx", to="fp16", inputs=samples())
    assert [(row.op, row.reason.split(" reaches")[0].split(",")[0]) for row in done.kept] == [
        ("Mul", "'k'"),
        ("Div", "'k'"),
    ]
    assert done.snr_db > 55


def test_a_lambda_that_16_bits_cannot_hold_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "low.onnx"
    sd.convert(net(tmp_path, "0.00000001"), target, to="fp16", inputs=samples())
    assert sd.find_blocks(target).blocks[0].e_lambda == 1e-8


def test_large_maps_keep_their_count(tmp_path: Path) -> None:
    source = saved(tmp_path, naive(320, "float32"))
    sd.convert(source, tmp_path / "low.onnx", to="fp16", inputs={"x": x_of(320, 64, 100)})
    with open_session(tmp_path / "low.onnx", "onnx_half") as session:
        x = x_of(320, 64, 100).astype(np.float16)
        assert gate_error(x, session.run({"x": x})["y"]) < 1e-3


def test_every_order_of_the_steps_ends_at_one_file(tmp_path: Path) -> None:
    """fuse, convert, fuse --epilogue; or convert at once, and fuse then."""
    source, fused, low = net(tmp_path), tmp_path / "fused.onnx", tmp_path / "low.onnx"
    sd.fuse(source, fused)
    ends = []
    for start in (source, fused):
        sd.convert(start, low, to="fp16")
        made = sd.fuse(low, tmp_path / "end.onnx", epilogue=True)
        assert [row.op for row in made.rows] == ["SimAMAffineRelu"]
        ends.append((tmp_path / "end.onnx").read_bytes())
        assert sd.verify(source, tmp_path / "end.onnx", inputs=samples()).passed
    sd.fuse(source, fused, epilogue=True)
    sd.convert(fused, low, to="fp16")
    assert sd.find_blocks(low).blocks[0].op == "SimAMAffineRelu"
    assert sd.verify(source, low, inputs=samples()).passed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"to": "int4"}, r"--to takes fp16, bf16, int8, int8\+fp16; got 'int4'"),
        ({"to": "int8"}, "--to int8 needs real samples"),
        ({"to": "fp16", "min_snr": 50}, "are judged on real samples; give --inputs"),
        ({"to": "int8", "target": "gpu", "inputs": samples()}, "--target takes cpu, tensorrt, openvino; got 'gpu'"),
        ({"to": "int8+fp16", "inputs": samples()}, "computes float16 in float32"),
        ({"to": "int8", "method": "mse", "inputs": samples()}, "--method takes minmax, entropy, percentile"),
        ({"to": "fp16", "keep_float": ["nowhere"]}, "--keep-float names 'nowhere', and no node or value"),
        ({"to": "fp16", "inputs": samples(0)}, "holds no samples"),
        ({"to": "fp16", "inputs": {"x": np.zeros((1, 2, 8, 9), np.float32)}}, r"does not fit 'x'"),
        ({"to": "fp16", "inputs": {"x": np.full((1, 2, 8, 8), np.nan, np.float32)}}, "is nan in sample 0"),
        ({"to": "fp16", "inputs": "nowhere/"}, "is not there"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_written(options: dict, words: str, tmp_path: Path) -> None:
    source = net(tmp_path)
    with pytest.raises(sd.InputError, match=words):
        sd.convert(source, tmp_path / "low.onnx", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    text = '<ir_version: 9, opset_import: ["" : 18]> g (float[1,3,8,8] x) => (float[1,3,8,8] y) { y = Relu(x) }'
    source = saved(tmp_path, parser.parse_model(text))
    with pytest.raises(sd.InputError, match="holds no picture"):
        sd.convert(source, tmp_path / "o.onnx", to="fp16", inputs=tmp_path / "photos")


@pytest.mark.parametrize("to", ["fp16", "bf16", "int8"])
def test_a_file_that_is_low_already_is_refused(to: str, tmp_path: Path) -> None:
    low = tmp_path / "low.onnx"
    sd.convert(net(tmp_path), low, to=to, inputs=samples())
    with pytest.raises(sd.InputError, match=rf"low.onnx is {to} already; convert the float32 file"):
        sd.convert(low, tmp_path / "again.onnx", to="fp16", inputs=samples())
    assert not (tmp_path / "again.onnx").exists()


def test_too_far_from_the_float32_file_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(sd.VerificationError, match=r"was not written: it keeps \d\d\.\d dB, and 100 were asked for"):
        sd.convert(net(tmp_path), tmp_path / "low.onnx", to="fp16", inputs=samples(), min_snr=100)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_one_sample_is_enough(tmp_path: Path) -> None:
    for to in ("fp16", "int8"):
        assert sd.convert(net(tmp_path), tmp_path / "low.onnx", to=to, inputs=samples(1)).snr_db > 20


def test_int8_layers_go_back_until_the_bound_holds(tmp_path: Path) -> None:
    done = sd.convert(net(tmp_path), tmp_path / "low.onnx", to="int8", inputs=samples(), min_snr=60)
    assert [(row.node, row.op) for row in done.kept] == [("conv", "Conv")]
    assert "alone converted it gives" in done.kept[0].reason
    held = json.loads((tmp_path / "low.onnx.json").read_text())["precision"]
    assert held["kept"][0]["node"] == "conv"


def test_int8_and_fp16_for_tensorrt(tmp_path: Path) -> None:
    target = tmp_path / "low.onnx"
    sd.convert(net(tmp_path), target, to="int8+fp16", target="tensorrt", inputs=samples())
    assert precision(onnx_file.load(target)) == "int8+fp16"
    onnx.checker.check_model(target, full_check=True)
    assert sd.verify(net(tmp_path), target, inputs=samples()).passed


def test_int8_and_fp16_keep_what_overflows_and_what_is_named(tmp_path: Path) -> None:
    """As fp16 alone does. The values of 2e5 would be infinite."""
    source = beyond_float16(tmp_path)
    given = {"to": "int8+fp16", "target": "tensorrt", "inputs": samples(), "keep_float": ["conv"]}
    done = sd.convert(source, tmp_path / "low.onnx", **given)
    assert done.snr_db > 30
    held = {row.node: row.reason for row in done.kept}
    assert held["conv"] == "no fp16: asked for"
    (conv,) = (n for n in onnx_file.load(tmp_path / "low.onnx").graph if n.op_type == "Conv")
    assert conv.inputs[1].dtype.name == "FLOAT"


def test_stale_shapes_of_inner_values_are_dropped(tmp_path: Path) -> None:
    """A file may declare those of one batch, and runtimes plan their memory by them."""
    model = parser.parse_model(NET.replace("LAMBDA", "0.0001"))
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("c", 1, (1, 2, 8, 8)))
    sd.convert(saved(tmp_path, model), tmp_path / "low.onnx", to="fp16")
    assert all(
        value.shape is None
        for node in onnx_file.load(tmp_path / "low.onnx").graph
        for value in node.outputs[:1]
        if not value.is_graph_output()
    )


def test_few_samples_are_named(tmp_path: Path) -> None:
    done = sd.convert(net(tmp_path), tmp_path / "low.onnx", to="int8", inputs=samples(1))
    assert any("the ranges come from 1 sample; 100 to 500" in note for note in done.notes)


def test_infinity_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the analysis saw nothing, the comparison does."""
    source = beyond_float16(tmp_path)
    monkeypatch.setattr(Analysis, "unfit", lambda *_: {})
    monkeypatch.setattr(LowType, "misfit", lambda *_: "")
    monkeypatch.setattr(to_low_module, "reasons", lambda *_: {})
    with pytest.raises(sd.VerificationError, match="its outputs hold NaN or infinity on the samples"):
        sd.convert(source, tmp_path / "low.onnx", to="fp16", inputs=samples())
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_verify_takes_a_file_with_such_values_for_good(tmp_path: Path) -> None:
    source = beyond_float16(tmp_path)
    sd.convert(source, tmp_path / "low.onnx", to="fp16", inputs=samples())
    assert sd.verify(source, tmp_path / "low.onnx", inputs=samples()).passed


LABELS = """<ir_version: 9, opset_import: ["" : 18]> g (float[N,2] x) => (float[N,2] y)
    <float[2,2] w = {1, 0, 0, 1.0001}> {
        [fc] y = Gemm(x, w)
    }"""
"""1.0001 becomes 1 in 16 bits, and x, x is a tie there: its label changes."""


@pytest.mark.parametrize("to", ["fp16", "bf16"])
@pytest.mark.parametrize(
    ("bound", "words"),
    [({"min_snr": 90}, r"\d\d\.\d dB, below 90"), ({"max_drop": 1}, r"a drop of 1, above 0\.01")],
    ids=["SNR", "labels"],
)
def test_layers_of_16_bits_go_back_until_the_bound_holds(to: str, bound: dict, words: str, tmp_path: Path) -> None:
    source, target = saved(tmp_path, parser.parse_model(LABELS)), tmp_path / "low.onnx"
    x = np.repeat(np.arange(1, 9, dtype=np.float32)[:, None], 2, axis=1)
    given = {"to": to, "inputs": {"x": x}}
    assert sd.convert(source, target, **given).agreement == 0
    done = sd.convert(source, target, **given, **bound)
    (row,) = done.kept
    assert row.node == "fc"
    assert re.search(f"alone converted it gives .* dB; all give {words}", row.reason)
    assert (done.agreement, done.missed) == (1, "")


def test_a_bound_on_labels_that_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the trials saw nothing, the comparison does."""
    monkeypatch.setattr(convert_module, "fall_back", lambda *_, **__: {})
    source = saved(tmp_path, parser.parse_model(LABELS))
    with pytest.raises(sd.VerificationError, match=r"was not written: 100 % of labels or boxes differ, and 1 % may"):
        sd.convert(source, tmp_path / "o.onnx", to="fp16", inputs={"x": np.ones((2, 2), np.float32)}, max_drop=1)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("to", ["fp16", "int8"])
def test_nan_that_the_float32_file_gives_too_is_no_refusal(to: str, value: float, tmp_path: Path) -> None:
    """Beside a number that is finite."""
    model = parser.parse_model(NET.replace("LAMBDA", "0.0001"))
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["mask"], value_floats=[0.0, value]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("mask", 1, (2,)))
    sd.convert(saved(tmp_path, model), tmp_path / "low.onnx", to=to, inputs=samples())
    assert (tmp_path / "low.onnx").exists()


def test_a_file_of_which_nothing_is_converted_is_called_so(tmp_path: Path) -> None:
    source = saved(tmp_path, parser.parse_model(LABELS))
    huge = {"x": np.full((2, 2), 1e30, np.float32)}
    done = sd.convert(source, tmp_path / "o.onnx", to="fp16", inputs=huge)
    assert any(re.search("nothing in it is fp16, so .* gains nothing.*Gemm fc: .* reaches", n) for n in done.notes)
    done = sd.convert(source, tmp_path / "o.onnx", to="int8", inputs={"x": np.ones((2, 2), np.float32)}, min_snr=200)
    assert any("no layer is in int8, so this file gains nothing" in note for note in done.notes)
    assert done.speed is None


def test_a_network_that_gives_infinity_itself_is_named(tmp_path: Path) -> None:
    source = saved(tmp_path, parser.parse_model(LABELS.replace("1.0001", "3e38")))
    done = sd.convert(source, tmp_path / "o.onnx", to="bf16", inputs={"x": np.full((2, 2), 1e3, np.float32)})
    assert any("itself gives NaN or infinity on the samples, in output y" in note for note in done.notes)


def test_a_file_that_keeps_little_is_named(tmp_path: Path) -> None:
    """A difference of two equal large numbers."""
    text = """<ir_version: 9, opset_import: ["" : 18]> g (float[N,2] x) => (float[N,2] y)
        <float big = {1000}> { a = Add(x, big)  [sub] y = Sub(a, big) }"""
    source = saved(tmp_path, parser.parse_model(text))
    done = sd.convert(source, tmp_path / "o.onnx", to="bf16", inputs={"x": np.full((2, 2), 0.3, np.float32)})
    assert any("dB of the outputs alone: see simam-deploy analyze" in note for note in done.notes)


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        ({"min_snr": float("nan")}, "--min-snr is a finite number"),
        ({"max_drop": -1}, "--max-drop is a finite number, 0 or more; got -1"),
        ({"max_drop": 101}, "--max-drop is in percent, 0 to 100; got 101"),
        ({"method": "entropy"}, "--method is for int8, and --to is fp16"),
    ],
)
def test_bounds_and_options_that_cannot_be(bound: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(sd.InputError, match=words):
        sd.convert(net(tmp_path), tmp_path / "o.onnx", to="fp16", inputs=samples(), **bound)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
