"""What each runtime does on its own: nodes without a fallback definition, providers, options, no framework."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.graphs import BODY, TWO_OUTPUTS, WEIGHT, beside, check, parse, save, simam

from simam_deploy import open_session
from simam_deploy.errors import InputError, RuntimeUnavailable
from simam_deploy.formula import reference
from simam_deploy.rewrite.fuse import fuse_file
from simam_deploy.runtimes import FRAMEWORKS, OPTIONS, RUNTIMES, installed
from simam_deploy.runtimes.onnx_model import without_fallback
from simam_deploy.runtimes.openvino import _import_openvino

ONNX_RUNTIMES = ["onnx_reference", "ort", "openvino", *{"trt_network"}.intersection(installed())]
every = pytest.mark.parametrize("runtime", ONNX_RUNTIMES)


@pytest.fixture
def function_file(tmp_path: Path) -> Path:
    return save(simam(), tmp_path / "function.onnx")


@pytest.fixture
def custom_op_file(tmp_path: Path) -> Path:
    return save(simam(form="custom_op"), tmp_path / "custom_op.onnx")


# nodes without a fallback definition


@pytest.mark.usefixtures("no_library")
@pytest.mark.parametrize("runtime", ["ort", "openvino"])
def test_custom_op_needs_a_kernel(runtime: str, custom_op_file: Path) -> None:
    words = (
        "simam.SimAM .form custom_op, 1 nodes, the first at 'y'. has no fallback definition .* use --form function"
    )
    with pytest.raises(RuntimeUnavailable, match=words):
        open_session(custom_op_file, runtime)


def test_a_fallback_definition_in_another_opset_than_the_file(tmp_path: Path) -> None:
    """ONNX Runtime and the evaluator take it."""
    model = simam()
    model.functions[0].opset_import[0].version += 2
    path = save(model, tmp_path / "m.onnx")
    for runtime in ("ort", "onnx_reference"):
        with open_session(path, runtime) as session:
            check(session, np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32))
    words = "fallback definitions of simam cannot be inlined: .*opset.*; write them in the opset of the file: .* fuse"
    with pytest.raises(RuntimeUnavailable, match=words):
        open_session(path, "openvino")
    fuse_file(path, tmp_path / "fused.onnx")
    with open_session(tmp_path / "fused.onnx", "openvino") as session:
        check(session, np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32))


def test_reference_computes_a_custom_op_by_the_formula(custom_op_file: Path, function_file: Path) -> None:
    with open_session(custom_op_file, "onnx_reference") as session:
        assert session.notes == [
            "simam.SimAM has no fallback definition in the file: computed with formula.reference"
        ]
        check(session, np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32))
    with open_session(function_file, "onnx_reference") as session:
        assert session.notes == []


def test_reference_computes_a_custom_op_inside_if_and_function(tmp_path: Path) -> None:
    block = '<domain: "simam", opset_import: ["" : 18, "simam" : 1]> Block (x) => (y) { y = simam.SimAM (x) }'
    inner = "g () => (float[N,C,H,W] y) { y = simam.Block (x) }"
    graph = f"g (bool c, float[N,C,H,W] x) => (float[N,C,H,W] y) {{ y = If (c) <then_branch = {inner}, else_branch = "
    model = parse(graph + inner + "> }", block)
    assert [node.op_type for node in without_fallback(model)] == ["SimAM"]
    x = np.random.default_rng(0).standard_normal((1, 2, 3, 4)).astype(np.float32)
    with open_session(save(model, tmp_path / "m.onnx"), "onnx_reference") as session:
        np.testing.assert_allclose(session.run({"c": np.array(True), "x": x})["y"], reference(x), rtol=1e-7)


NORM = "BatchNormalization <epsilon: float = 0.01> (x, s, b, m, v)"


@pytest.mark.parametrize("dtype", [None, "float64"])
@pytest.mark.parametrize("opset", [7, 8, 9, 11, 13, 14, 18])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 5, 7)], ids=str)
def test_reference_normalises_with_the_given_statistics(
    shape: tuple[int, ...], opset: int, dtype: str | None, tmp_path: Path
) -> None:
    """Of a BatchNormalization with one output, in the main graph, in a branch and in a function."""
    sizes = ",".join(map(str, shape))
    of = ", ".join(f"float[3] {name}" for name in "sbmv")
    branch = f"t () => (float[{sizes}] q) {{ q = {NORM} }}"
    function = f'<domain: "simam", opset_import: ["": {opset}]> Norm (x, s, b, m, v) => (y) {{ y = {NORM} }}'
    graph = f"""g (bool c, float[{sizes}] x, {of}) => (float[{sizes}] y, float[{sizes}] z, float[{sizes}] w) {{
        y = {NORM}
        z = If (c) <then_branch = {branch}, else_branch = {branch}>
        w = simam.Norm (x, s, b, m, v) }}"""
    rng = np.random.default_rng(0)
    x, (s, b, m, v) = rng.standard_normal(shape).astype(np.float32), rng.random((4, 3)).astype(np.float32)
    with open_session(
        save(parse(graph, function, opset=opset), tmp_path / "m.onnx"), "onnx_reference", dtype=dtype
    ) as session:
        got = session.run({"c": np.array(True), "x": x, "s": s, "b": b, "m": m, "v": v})
    by_channel = np.moveaxis(x.astype(np.float64), 1, -1)
    want = np.moveaxis(s * (by_channel - m) / np.sqrt(v.astype(np.float64) + np.float32(0.01)) + b, -1, 1)
    for array in got.values():
        assert array.dtype == (dtype or np.float32)
        np.testing.assert_allclose(array, want, rtol=0, atol=1e-14 if dtype else 2e-6)


def test_reference_normalises_each_place_with_statistics_of_its_own(tmp_path: Path) -> None:
    """As with spatial=0, which opset 9 no longer has."""
    of = ", ".join(f"float[3,2] {name}" for name in "sbmv")
    norm = NORM.replace(" <", " <spatial: int = 0, ")
    graph = f"g (float[2,3,2] x, {of}) => (float[2,3,2] y) {{ y = {norm} }}"
    rng = np.random.default_rng(0)
    x, (s, b, m, v) = rng.standard_normal((2, 3, 2)).astype(np.float32), rng.random((4, 3, 2)).astype(np.float32)
    with open_session(save(parse(graph, opset=7), tmp_path / "m.onnx"), "onnx_reference") as session:
        got = session.run({"x": x, "s": s, "b": b, "m": m, "v": v})["y"]
    np.testing.assert_allclose(got, s * (x - m) / np.sqrt(v + 0.01) + b, rtol=0, atol=2e-6)


def test_reference_uses_the_fallback_definition_where_there_is_one(tmp_path: Path) -> None:
    twice = '<domain: "simam", opset_import: ["" : 18]> SimAM <e_lambda: float = 1.0> (x) => (y) { y = Add (x, x) }'
    model = simam(form="custom_op")
    model.functions.extend(parse("g (float x) => (float y) { y = Identity (x) }", twice).functions)
    with open_session(save(model, tmp_path / "m.onnx"), "onnx_reference") as session:
        x = np.ones((1, 3, 2, 2), np.float32)
        np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x * WEIGHT)


# each on its own


@pytest.mark.parametrize(("provider", "words"), [("CUDAExecutionProvider", "ort-gpu"), ("cuda", "CPUExecution")])
def test_ort_does_not_fall_back(provider: str, words: str, function_file: Path) -> None:
    import onnxruntime

    if provider in onnxruntime.get_available_providers():
        pytest.skip("a build with CUDA")
    with pytest.raises(RuntimeUnavailable, match=rf"asked for {provider}, but it is not in this build[\s\S]*{words}"):
        open_session(function_file, provider=provider)


def test_ort_asks_the_session_not_the_list(function_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    cpu = ["CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda path, options, providers: real(path, options, cpu))
    with pytest.raises(RuntimeUnavailable, match=r"asked for CUDAExecution.*, but the session got CPUExecution"):
        open_session(function_file, provider="CUDAExecutionProvider")


def test_ort_gets_the_options(function_file: Path) -> None:
    with open_session(function_file, threads=2) as session:
        assert session.label == "ort[CPUExecutionProvider]"
        options = session._session.get_session_options()
        assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
        assert options.get_session_config_entry("session.force_spinning_stop") == "1"
        assert session._session._enable_fallback is False


def test_openvino_inlines_and_gets_the_options(function_file: Path, tmp_path: Path) -> None:
    with open_session(function_file, "openvino", threads=1) as session:
        assert session.label == "openvino[CPU]"
        assert session.notes == [
            "1 simam node(s) replaced by their fallback definitions, as OpenVINO knows no functions"
        ]
        compiled = session._request.get_compiled_model()
        assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
        assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    with open_session(save(parse(TWO_OUTPUTS), tmp_path / "m.onnx"), "openvino") as session:
        assert session.notes == []


def test_openvino_copies_weights_where_links_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("cross-device link")

    monkeypatch.setattr("os.link", refuse)
    with open_session(beside(tmp_path / "model"), "openvino") as session:
        check(session, np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32))


def test_openvino_is_imported_without_reporting_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def look(name: str, *_: str) -> None:
        seen[name] = sys.modules.get("openvino_telemetry", "importable")

    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    monkeypatch.setattr("simam_deploy.runtimes.openvino.framework", look)
    _import_openvino()
    assert seen == {"openvino": None}
    assert "openvino_telemetry" not in sys.modules


# asking


@pytest.mark.parametrize(
    ("runtime", "module", "line"),
    [
        ("ort", "onnxruntime", r'pip install "simam-deploy\[ort\]"'),
        ("openvino", "openvino", r'pip install "simam-deploy\[openvino\]"'),
        ("eager", "torch", r'pip install "simam-deploy\[torch\]"'),
    ],
)
def test_missing_framework(
    runtime: str, module: str, line: str, function_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RuntimeUnavailable, match=rf"runtime '{runtime}' needs the module {module}[\s\S]*{line}"):
        open_session(function_file, runtime)


def test_missing_gpu_package_names_its_own_extra(function_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeUnavailable, match=r"simam-deploy\[ort-gpu\]"):
        open_session(function_file, provider="CUDAExecutionProvider")


@pytest.mark.parametrize(
    ("runtime", "options", "words"),
    [
        ("tflite", {}, "'tflite' is not one of eager, onnx_reference, ort, openvino"),
        ("openvino", {"provider": "CPU"}, "'openvino' has no option provider .* these have: ort"),
        ("ort", {"dtype": "float64"}, "'ort' has no option dtype .* these have: eager, onnx_reference"),
        ("onnx_reference", {"threads": 2}, "no option threads .* these have: eager, ort, openvino"),
        ("ort", {"threads": -1}, "threads must be 0 .* got -1"),
        ("onnx_reference", {"dtype": "float16"}, "as in the file or in float64; got dtype='float16'"),
    ],
)
def test_options_are_never_ignored(runtime: str, options: dict, words: str, function_file: Path) -> None:
    with pytest.raises(InputError, match=words):
        open_session(function_file, runtime, **options)


@every
def test_a_module_is_not_a_path(runtime: str) -> None:
    with pytest.raises(InputError, match=f"'{runtime}' opens the path of an ONNX file; got SimAM"):
        open_session(pytest.importorskip("simam_deploy.pytorch.module").SimAM(), runtime)


def test_installed_looks_without_importing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert "openvino" not in installed()
    assert "onnx_reference" in installed()


def test_every_option_belongs_to_a_runtime() -> None:
    assert set(FRAMEWORKS) == set(RUNTIMES)
    assert {runtime for having in OPTIONS.values() for runtime in having} <= set(RUNTIMES)


def test_fallback_definition_has_every_node_of_ours() -> None:
    assert without_fallback(simam()) == []
    assert BODY.count("=>") == 1


def test_openvino_leaves_no_folder_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = beside(tmp_path / "model")
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with open_session(path, "openvino"):
        assert len(list(folder.glob("simam-deploy-*"))) == 1
    assert list(folder.iterdir()) == []
    model = onnx.load(path, load_external_data=False)
    model.graph.node[0].op_type = "NoSuchOperator"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(RuntimeUnavailable, match="NoSuchOperator"):
        open_session(path, "openvino")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_the_reference_gathers_along_axes_of_any_size(axis: int, tmp_path: Path) -> None:
    """onnx's own takes 64 at most; a detector gathers among thousands of boxes."""
    text = f"""<ir_version: 9, opset_import: ["": 18]> g (float[100,90] x, int64[70,80] i) => (float[70,80] y) {{
        y = GatherElements<axis = {axis}>(x, i)
    }}"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    rng = np.random.default_rng(0)
    feeds = {"x": rng.standard_normal((100, 90)).astype(np.float32), "i": rng.integers(-90, 90, (70, 80))}
    with open_session(tmp_path / "m.onnx", "onnx_reference") as one, open_session(tmp_path / "m.onnx", "ort") as two:
        np.testing.assert_array_equal(one.run(feeds)["y"], two.run(feeds)["y"])
