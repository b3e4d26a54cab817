"""The parsed network of TensorRT-RTX, run on a CPU: forms, precisions, and the words of refusals."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from helpers.graphs import parse as parsed_text
from helpers.graphs import save
from helpers.plugin import built_plugin

import simam_deploy as sd
from export_models import digits
from simam_deploy.compare.outputs import OutputRow
from simam_deploy.errors import InputError, RuntimeUnavailable
from simam_deploy.formula import OPS, apply_epilogue, as_maps, reference
from simam_deploy.native import Compiled
from simam_deploy.processes.limited import Limits
from simam_deploy.runtimes import open_session, trt_network, trt_parse

pytestmark = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")

FORMS = ["function", "primitive", "instance_norm"]
ORACLE = {"fp16": 2.0, "bf16": 3.0, "int8": 1.01, "int8+fp16": 1.1}
"""Error over that of the oracle, at most: here 1.24, 1.53, 1 and 1. TensorRT rounds the weights of a
BatchNormalization to the type of the file once more, after it has divided them by the deviation; and sums run in
another order."""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits.onnx"
    sd.export(*digits.build(), path, check=False, dynamic=["batch"])
    return path


@pytest.fixture(scope="module")
def images() -> dict[str, np.ndarray]:
    return {"x": digits.test_set()[0][:16]}


def worst(rows: list[OutputRow], session: str) -> float:
    return max(row.max_abs_error for row in rows if row.session.endswith(session))


@pytest.mark.parametrize("epilogue", [False, True], ids=["simam", "epilogue"])
def test_every_form_is_within_the_limits_of_float32(network: Path, epilogue: bool, tmp_path: Path) -> None:
    source = tmp_path / "digits.onnx"
    sd.fuse(network, source, epilogue=epilogue)
    report = sd.verify(source, forms=FORMS, runtimes=["trt_network"], gates=True)
    assert report.passed, report
    assert {row.session for row in report.rows} == {f"{form} · trt_network" for form in FORMS}
    assert len({row.case for row in report.rows}) > 5
    assert len({row.block for row in report.gates if row.session.startswith("function")}) == 3


def test_an_epsilon_that_the_parser_changes_is_seen(
    network: Path, images: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """λ four times as large, in one of three blocks."""

    def changed(path: Path, library: Path | None) -> trt_parse.ParsedNetwork:
        made = trt_parse.parse(path, library)
        layer = next(layer for layer in made.layers if layer.kind == "NORMALIZATION")
        layer.settings["epsilon"] *= 4
        return made

    monkeypatch.setattr(trt_network, "parse", changed)
    report = sd.verify(network, forms=["instance_norm"], runtimes=["trt_network"], inputs=images)
    assert not report.passed


@pytest.mark.parametrize("to", ORACLE)
def test_lower_precision_is_that_of_the_oracle(
    network: Path, images: dict[str, np.ndarray], to: str, tmp_path: Path
) -> None:
    low = tmp_path / "low.onnx"
    sd.convert(network, low, to=to, target="tensorrt", inputs={"x": digits.training_set()[0][:64]})
    report = sd.verify(network, low, runtimes=["trt_network", "onnx_half"], inputs=images)
    assert report.passed, report
    rows = [row for row in report.rows if row.session.startswith("low")]
    found, oracle = worst(rows, "trt_network"), worst(rows, "onnx_half")
    assert oracle / ORACLE[to] < found < ORACLE[to] * oracle
    gates = {row.block for row in report.gates if row.session == "low · trt_network"}
    assert len(gates) == (0 if to == "int8" else 3)
    assert not any("trt_network: on a CPU" in note for note in report.notes)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_a_layer_rounds_once_and_sums_in_float32(dtype: type, tmp_path: Path) -> None:
    """A sum in 16 bits is off by far more than one rounding."""
    name = np.dtype(dtype).name
    path = save(
        parsed_text(
            f"g ({name}[2,300] x) => ({name}[2] y) <int64[1] k = {{1}}> {{ y = ReduceSum <keepdims = 0> (x, k) }}"
        ),
        tmp_path / "m.onnx",
    )
    x = np.full((2, 300), 0.126, dtype)
    with open_session(path, "trt_network") as session:
        y = session.run({"x": x})["y"]
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, x.astype(np.float32).sum(1).astype(dtype))
    with open_session(path, "trt_network", dtype="float64") as session:
        assert session.outputs[0].dtype == np.float64
        np.testing.assert_array_equal(session.run({"x": x})["y"], x.astype(np.float64).sum(1))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_each_result_has_the_type_of_its_layer(dtype: type, tmp_path: Path) -> None:
    name = np.dtype(dtype).name.replace("float32", "float")
    text = f"g ({name}[50] x, {name}[1] b) => ({name}[50] y) {{ z = Add (x, b) y = Sub (z, b) }}"
    path = save(parsed_text(text), tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal(50).astype(dtype)
    b = np.array([1000], dtype)
    with open_session(path, "trt_network") as session:
        np.testing.assert_array_equal(session.run({"x": x, "b": b})["y"], (x + b) - b)
    assert ((x + b) - b != x).any()
    with open_session(path, "trt_network", dtype="float64") as session:
        np.testing.assert_allclose(session.run({"x": x, "b": b})["y"], x.astype(np.float64), atol=1e-12)


def test_inputs_and_outputs_go_by_the_names_of_the_file(tmp_path: Path) -> None:
    """TensorRT renames an input that is an output too."""
    model = parsed_text("g (float[2] a, float[2] idle, float[2] b) => (float[2] b, float[2] y) { y = Sub (a, b) }")
    a, b = np.array([[3, 4], [1, 1]], np.float32)
    with open_session(save(model, tmp_path / "m.onnx"), "trt_network") as session:
        got = session.run({"a": a, "idle": a, "b": b})
    np.testing.assert_array_equal(got["y"], [2, 3])
    np.testing.assert_array_equal(got["b"], b)


def test_a_file_that_the_parser_refuses_is_refused_in_its_words(tmp_path: Path) -> None:
    path = save(parsed_text("g (float[2,3] x) => (int64[2,a] y) { y = NonZero (x) }"), tmp_path / "m.onnx")
    with pytest.raises(RuntimeUnavailable, match=r"cannot run .*: TensorRT-RTX 1\.\S+ cannot parse it:\n.*NonZero"):
        open_session(path, "trt_network")


def test_the_end_of_the_parser_is_an_error_in_words(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt_parse, "LIMITS", replace(trt_parse.LIMITS, wall_s=0.01))
    with pytest.raises(RuntimeUnavailable, match=r"in the parser of TensorRT-RTX, it took more than 0.01 s"):
        open_session(network, "trt_network")
    monkeypatch.setattr(trt_parse, "LIMITS", Limits(cpu_s=60, wall_s=60, memory=2**26))
    with pytest.raises(RuntimeUnavailable, match=r"in the parser of TensorRT-RTX, .*GiB of memory"):
        open_session(network, "trt_network")


def test_without_tensorrt(network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt_rtx.py").write_text("raise ImportError('none here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(
        RuntimeUnavailable, match=r"imported: none here\npip install \"simam-deploy\[tensorrt-rtx\]\""
    ):
        open_session(network, "trt_network")


def test_another_type_is_refused(network: Path) -> None:
    with pytest.raises(InputError, match="as in the file or in float64; got dtype='float16'"):
        open_session(network, "trt_network", dtype="float16")


@pytest.mark.parametrize("epilogue", [False, True], ids=["simam", "epilogue"])
def test_nodes_of_the_plugin_go_by_the_formula(network: Path, epilogue: bool, tmp_path: Path) -> None:
    """Within the limits of float32, with λ as the parsed plugin has it, and a layer for each block."""
    library = built_plugin()
    file = tmp_path / "plugin.onnx"
    sd.fuse(network, file, form="custom_op", epilogue=epilogue)
    report = sd.verify(network, file, forms=["custom_op"], runtimes=["trt_network"], gates=True)
    assert report.passed, report
    layers = [layer for layer in trt_parse.parse(file, library).layers if layer.kind == "PLUGIN_V3"]
    assert [layer.settings["e_lambda"] for layer in layers] == pytest.approx([1e-4] * 3, rel=1e-7)
    ops = ["SimAMAffineRelu", "SimAMAffineRelu", "SimAMAffineAddRelu"] if epilogue else ["SimAM"] * 3
    assert [layer.settings["plugin"] for layer in layers] == ops
    with open_session(file, "trt_network") as session:
        assert session.notes == [f"plugin: {library}, as nodes have no fallback definition"]


@pytest.mark.parametrize("to", ["fp16", "bf16"])
def test_a_plugin_in_16_bits_is_like_the_oracle(
    network: Path, images: dict[str, np.ndarray], to: str, tmp_path: Path
) -> None:
    built_plugin()
    low, plugin = tmp_path / "low.onnx", tmp_path / "plugin.onnx"
    sd.convert(network, low, to=to, target="tensorrt", inputs={"x": digits.training_set()[0][:64]})
    sd.fuse(low, plugin, form="custom_op")
    rows = {}
    for file, runtime in ((plugin, "trt_network"), (low, "onnx_half")):
        report = sd.verify(network, file, runtimes=[runtime], inputs=images)
        assert all(row.passed for row in (*report.rows, *report.gates)), report
        rows[runtime] = worst(report.rows, f"{file.stem} · {runtime}")
    assert rows["onnx_half"] / ORACLE[to] < rows["trt_network"] < ORACLE[to] * rows["onnx_half"]


def test_a_wrong_lambda_of_a_plugin_is_seen(
    network: Path, images: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times as large, in one of three blocks."""
    built_plugin()

    def changed(path: Path, library: Path | None) -> trt_parse.ParsedNetwork:
        made = trt_parse.parse(path, library)
        next(layer for layer in made.layers if layer.kind == "PLUGIN_V3").settings["e_lambda"] *= 4
        return made

    monkeypatch.setattr(trt_network, "parse", changed)
    assert not sd.verify(network, forms=["custom_op"], runtimes=["trt_network"], inputs=images).passed


@pytest.mark.parametrize("sizes", ["9", "4,5", "2,3,4"])
@pytest.mark.parametrize("op", OPS)
def test_a_plugin_of_any_rank(op: str, sizes: str, tmp_path: Path) -> None:
    """In float64 as the reference evaluator."""
    built_plugin()
    given = ", a, b" * OPS[op].affine + ", r" * OPS[op].residual
    kind = f"float[2,3,{sizes}]"
    weights = "float[3] a = {1, -2, 3}, float[3] b = {0.5, 1, 0}"
    node = f"y = simam.{op} <e_lambda: float = 0.1> (x{given})"
    text = f"g ({kind} x, {kind} r) => ({kind} y) <{weights}> {{ {node} }}"
    path = save(parsed_text(text), tmp_path / "m.onnx")
    shape = (2, 3, *map(int, sizes.split(",")))
    x, r = np.random.default_rng(0).standard_normal((2, *shape))
    with open_session(path, "trt_network", dtype="float64") as session:
        got = session.run({"x": x, "r": r})["y"]
    want = reference(as_maps(x), float(np.float32(0.1)))
    if OPS[op].affine:
        want = apply_epilogue(
            want, [1, -2, 3], [0.5, 1, 0], as_maps(r) if OPS[op].residual else 0.0, activation=OPS[op].activation
        )
    np.testing.assert_allclose(got, want.reshape(shape), atol=1e-7)


def test_without_the_library_the_plugin_is_named(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Compiled, "find", lambda _: None)
    file = tmp_path / "plugin.onnx"
    sd.fuse(network, file, form="custom_op")
    words = r"trt_network cannot run .*simam.SimAM \(form custom_op, 3 nodes.*no TensorRT plugin: build it with"
    with pytest.raises(RuntimeUnavailable, match=words):
        open_session(file, "trt_network")
    report = sd.verify(network, forms=["function", "custom_op"], runtimes=["trt_network"])
    assert any("trt_network, with the TensorRT plugin" in note for note in report.notes)


def test_a_plugin_with_int8_inside_is_refused_by_name(tmp_path: Path) -> None:
    built_plugin()
    text = """g (float[1,3,8,8] x) => (float[1,3,8,8] y) <float s = {0.1}, int8 z = {0}> {
        q = QuantizeLinear (x, s, z)
        [block] p = simam.SimAM <e_lambda: float = 0.1, plugin_namespace: string = "", x_scale: float = 0.1,
                                 y_scale: float = 0.1> (q)
        y = DequantizeLinear (p, s, z)
    }"""
    path = save(parsed_text(text), tmp_path / "m.onnx")
    with pytest.raises(RuntimeUnavailable, match=r"layer 'block' \(PLUGIN_V3\).*: x_scale is 0\.1"):
        open_session(path, "trt_network")


def test_a_library_that_is_no_plugin_is_refused_in_words(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, library = tmp_path / "plugin.onnx", tmp_path / "none.so"
    sd.fuse(network, file, form="custom_op")
    library.write_text("no library")
    monkeypatch.setenv("SIMAM_TENSORRT_PLUGIN", str(library))
    with pytest.raises(RuntimeUnavailable, match=r"cannot run .*none.so is no library of Linux; SIMAM_TENSORRT_PLUG"):
        open_session(file, "trt_network")
