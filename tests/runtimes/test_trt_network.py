"""The parsed network of TensorRT-RTX, run on a CPU: forms, precisions, and the words of refusals."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from helpers.graphs import parse as parsed_text
from helpers.graphs import save

import simam_deploy as sd
from export_models import digits
from simam_deploy.compare.outputs import OutputRow
from simam_deploy.errors import InputError, RuntimeUnavailable
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

    def changed(path: Path) -> trt_parse.ParsedNetwork:
        made = trt_parse.parse(path)
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
