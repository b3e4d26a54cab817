"""Engines are really built where tensorrt_rtx is installed; what is refused, is refused in words."""

import hashlib
import json
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.half_nets import naive
from helpers.small_onnx import CALL, HEAD, names, save
from onnx import numpy_helper, parser

from simam_deploy.artifacts import manifest
from simam_deploy.compare import inspection
from simam_deploy.engines import run_worker
from simam_deploy.engines.builder import build_engine
from simam_deploy.engines.shape_ranges import ShapeRange
from simam_deploy.errors import BuildError, InputError, ModelFileError, OutputError, RuntimeUnavailable

needs_builder = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
RANGE = ["x:1x3x16x16,1x3x32x32,8x3x64x64"]


# ---- engines


@needs_builder
def test_one_engine_for_two_kinds_of_gpu_with_its_manifest(dynamic: Path) -> None:
    stages: list[str] = []
    out = dynamic.with_name("model.engine")
    report = build_engine(dynamic, out, targets=["SM89", "sm86"], shapes=RANGE, on_progress=stages.append)
    assert [stage for stage in stages if ": " not in stage] == ["parse", "build sm86, sm89", "write"]
    assert names(out.parent) == ["model.engine", "model.engine.json", "model.onnx"]
    assert report.targets == ("sm86", "sm89")
    assert report.size_bytes == out.stat().st_size > 10_000
    assert report.layers > 10
    assert not [line for line in report.log if line.startswith("ERROR")]
    told = json.loads(out.with_name("model.engine.json").read_text())
    assert told["source"] == {"file": "model.onnx", "sha256": hashlib.sha256(dynamic.read_bytes()).hexdigest()}
    assert told["engine"] == {"file": "model.engine", "bytes": report.size_bytes, "layers": report.layers}
    assert told["precision"] == "fp32"
    assert told["targets"] == ["sm86", "sm89"]
    assert told["profiles"] == {"x": {"min": [1, 3, 16, 16], "opt": [1, 3, 32, 32], "max": [8, 3, 64, 64]}}
    assert told["strongly_typed"] is True
    assert told["versions"]["tensorrt_rtx"] == report.version


@needs_builder
def test_float64_becomes_float32_with_a_note(tmp_path: Path) -> None:
    model = save(tmp_path, "wide (double[1, 4] x) => (double[1, 4] y) { y = Relu(x) }")
    report = build_engine(model, tmp_path / "wide.engine", targets=["sm86"])
    assert report.types == {"ACTIVATION FLOAT": 1}
    assert "float32 in the engine, as TensorRT has no float64: x, y" in report.notes


@needs_builder
def test_float16_that_overflows_is_told(tmp_path: Path) -> None:
    onnx.save(naive(16), tmp_path / "half.onnx")
    said = build_engine(tmp_path / "half.onnx", tmp_path / "half.engine", targets=["sm86"]).notes
    assert [note for note in said if note.startswith("1 block: SimAM is computed in float16, which overflows")]
    assert "computed in float16" in inspection.inspect(tmp_path / "half.onnx").half


@needs_builder
def test_targets_are_sorted_and_named_once(static: Path) -> None:
    """The bytes of files with dynamic sizes may differ: see docs/howto/tensorrt_rtx.md."""
    out = static.with_name("model.engine")
    assert build_engine(static, out, targets=["SM89", "sm86", "sm86"]).targets == ("sm86", "sm89")
    expected = out.read_bytes()
    assert build_engine(static, out, targets=["sm86", "sm89"]).targets == ("sm86", "sm89")
    assert out.read_bytes() == expected
    assert build_engine(static, out, targets=["sm86"]).targets == ("sm86",)


@needs_builder
def test_a_static_model_needs_no_shape_and_may_have_one(static: Path) -> None:
    out = static.with_name("model.engine")
    assert build_engine(static, out, targets=["sm75"]).profiles == {}
    assert build_engine(static, out, targets=["sm75"], shapes=["x:1x3x8x8"]).profiles == {}


@needs_builder
def test_the_size_of_the_example(dynamic: Path) -> None:
    model = onnx.load(dynamic)
    model.metadata_props.add(key=manifest.EXAMPLE, value='{"x": [1, 3, 8, 9]}')
    onnx.save(model, dynamic)
    report = build_engine(dynamic, dynamic.with_name("model.engine"), targets=["sm86"])
    assert report.profiles == {"x": ShapeRange(*[(1, 3, 8, 9)] * 3)}
    assert any(note.startswith("built for x:1x3x8x9, the size that the model was exported") for note in report.notes)


@needs_builder
def test_types_are_those_in_the_graph(tmp_path: Path) -> None:
    """No cast is put in: Add(float, float16) is refused. TensorRT-RTX 1.7 does so with and without the flag."""
    text = "g (float[1,8] x, float16[1,8] h) => (float[1,8] y) { y = Add(x, h) }"
    with pytest.raises(BuildError, match=r"(?s)cannot parse model\.onnx:.*Add.*type"):
        build_engine(save(tmp_path, text), tmp_path / "model.engine", targets=["sm86"])


@needs_builder
def test_weights_in_a_file_of_their_own(tmp_path: Path) -> None:
    model = parser.parse_model(HEAD + "g (float[1,64] x) => (float[1,64] y) { y = MatMul(x, w) }")
    model.graph.initializer.append(numpy_helper.from_array(np.eye(64, dtype=np.float32), "w"))
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="model.weights", size_threshold=0)
    build_engine(path, tmp_path / "model.engine", targets=["sm86"])
    with pytest.raises(OutputError, match="same file as the input"):
        build_engine(path, tmp_path / "model.weights", targets=["sm86"])
    (tmp_path / "model.weights").unlink()
    with pytest.raises(ModelFileError, match=r"keeps its weights in model\.weights, which is missing"):
        build_engine(path, tmp_path / "model.engine", targets=["sm86"])


@needs_builder
def test_a_function_named_like_an_operator_is_refused(tmp_path: Path) -> None:
    """The parser would build one ReLU from it, and say nothing."""
    text = 'g (float[1,8] x) => (float[1,8] y) { y = simam.Relu(x) } <domain: "simam", opset_import: ["" : 18]>'
    text += "Relu (x) => (y) { a = Sigmoid(x) b = Tanh(a) y = Exp(b) }"
    with pytest.raises(BuildError, match=r"a function called Relu; .* would use its own operator .* inline it"):
        build_engine(save(tmp_path, text), tmp_path / "model.engine", targets=["sm86"])


# ---- what the builder refuses


@needs_builder
def test_unknown_target(static: Path) -> None:
    there = r"TensorRT-RTX .* builds for sm75 \(RTX 20, T4\), .*, sm121 \(DGX Spark\)"
    words = rf"unknown target sm99, 8\.6; {there}\n8\.6 may be sm86"
    with pytest.raises(InputError, match=words):
        build_engine(static, static.with_name("e"), targets=["sm86", "sm99", "8.6"])
    with pytest.raises(InputError, match="no target to build for"):
        build_engine(static, static.with_name("e"), targets=[])
    assert names(static.parent) == ["model.onnx"]


@needs_builder
def test_the_parser_refuses_with_all_its_lines(tmp_path: Path) -> None:
    path = save(tmp_path, "g (float[1,8] x) => (float[1,8] y) { [odd] y = Nope(x) }")
    with pytest.raises(BuildError, match=r"(?s)TensorRT-RTX \S+ cannot parse model\.onnx:\n.*odd.*Nope"):
        build_engine(path, tmp_path / "e", targets=["sm86"])
    assert names(tmp_path) == ["model.onnx"]


@needs_builder
def test_the_builder_refuses_with_its_log(tmp_path: Path) -> None:
    """An axis of two sizes: a shape error that only the builder finds."""
    text = 'g (float[1,A] x, float[B,1] z) => (float[C,D] y) { y = Einsum<equation="ab,bc->ac">(x, z) }'
    path = save(tmp_path, text)
    shapes = ["x:1x3,z:5x1"]
    with pytest.raises(BuildError, match=r"built no engine from model\.onnx:\n  ERROR: "):
        build_engine(path, tmp_path / "e", targets=["sm86"], shapes=shapes)


def test_no_builder_here(
    static: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fake = tmp_path_factory.mktemp("fake")
    (fake / "tensorrt_rtx.py").write_text("raise ImportError('libfoo.so: not found')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(fake), os.environ.get("PYTHONPATH", "")]))
    words = r'libfoo\.so: not found.* pip install "simam-deploy\[tensorrt-rtx\]"'
    with pytest.raises(RuntimeUnavailable, match=words):
        build_engine(static, static.with_name("e"), targets=["sm86"])
    assert names(static.parent) == ["model.onnx"]


# ---- what is refused before the builder starts


@pytest.fixture
def no_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_worker, "WORKER", ("/nonexistent/the builder was started",))


@pytest.mark.usefixtures("no_builder")
class TestBefore:
    def test_simam_without_a_fallback_definition(self, tmp_path: Path) -> None:
        path = save(tmp_path, CALL)
        words = r"node 'block' is simam::SimAM, and no fallback .*only our plugin.*fuse \S+\.onnx -o OUT\.onnx --form"
        with pytest.raises(BuildError, match=words):
            build_engine(path, tmp_path / "e", targets=["sm86"], shapes=RANGE, plugin="none")
        assert names(tmp_path) == ["model.onnx"]

    @pytest.mark.parametrize(
        "text",
        [
            "g (float[1,8] x) => (float[1,8] y) { y = foo.Relu(x) }",
            "g (bool c, float[1,8] x) => (float[1,8] y) { y = If (c) <then_branch = a () => (y) { y = foo.Relu(x) },"
            " else_branch = b () => (y) { y = Sigmoid(x) }> }",
            'g (float[1,8] x) => (float[1,8] y) { y = simam.F(x) } <domain: "simam", opset_import: ["" : 18,'
            ' "foo" : 1]> F (x) => (y) { y = foo.Relu(x) }',
        ],
        ids=["graph", "branch", "function"],
    )
    def test_a_node_the_parser_would_mistake(self, tmp_path: Path, text: str) -> None:
        path = save(tmp_path, text)
        with pytest.raises(BuildError, match=r"node 'y' is foo::Relu, and no function .*take it for ONNX's own"):
            build_engine(path, tmp_path / "e", targets=["sm86"])

    def test_a_dynamic_input_without_a_shape(self, dynamic: Path) -> None:
        words = r"input 'x' is Nx3xHxW, and an engine needs sizes; give them with --shapes x:1x3x224x224 or"
        with pytest.raises(InputError, match=words):
            build_engine(dynamic, dynamic.with_name("e"), targets=["sm86"])

    @pytest.mark.parametrize("text", ["x:1x4x32x32", "x:1x3x32", "x:1x2x9x9,1x3x9x9,1x3x9x9"])
    def test_a_shape_that_contradicts_the_file(self, dynamic: Path, text: str) -> None:
        with pytest.raises(InputError, match=r"input 'x' is Nx3xHxW in the file; .* contradicts it"):
            build_engine(dynamic, dynamic.with_name("e"), targets=["sm86"], shapes=[text])

    def test_a_range_upside_down(self, dynamic: Path) -> None:
        shapes = {"x": ShapeRange((1, 3, 9, 9), (1, 3, 8, 8), (1, 3, 9, 9))}
        with pytest.raises(InputError, match=r"1x3x9x9\.\.1x3x8x8\.\.1x3x9x9 is not 1 <= MIN <= OPT <= MAX"):
            build_engine(dynamic, dynamic.with_name("e"), targets=["sm86"], shapes=shapes)

    def test_simam_on_maps_of_one_value(self, dynamic: Path) -> None:
        with pytest.raises(InputError, match=r"x:1x3x1x1, the smallest size: maps of M = 1 value for SimAM"):
            build_engine(dynamic, dynamic.with_name("e"), targets=["sm86"], shapes="x:1x3x1x1..4x3x8x8")

    def test_an_input_that_is_not_there(self, dynamic: Path) -> None:
        with pytest.raises(InputError, match=r"no input is called 'image'; the inputs are x"):
            build_engine(dynamic, dynamic.with_name("e"), targets=["sm86"], shapes=["image:1x3x8x8"])

    @pytest.mark.parametrize(
        ("content", "words"),
        [(None, "there is no file"), (b"\xff\xff", "not an ONNX file"), (b"", "it holds no graph")],
    )
    def test_not_a_model(self, tmp_path: Path, content: bytes | None, words: str) -> None:
        path = tmp_path / "model.onnx"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ModelFileError, match=words):
            build_engine(path, tmp_path / "e", targets=["sm86"])

    def test_the_model_is_never_the_output(self, static: Path) -> None:
        with pytest.raises(OutputError, match="same file as the input"):
            build_engine(static, static, targets=["sm86"])

    def test_no_such_folder(self, static: Path) -> None:
        with pytest.raises(OutputError, match="mkdir -p"):
            build_engine(static, static.with_name("out") / "e", targets=["sm86"])
