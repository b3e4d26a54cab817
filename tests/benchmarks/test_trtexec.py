"""`python -m benchmarks.tensorrt` with a stand-in for trtexec, and what reads trtexec's files, on files by hand."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

torch = pytest.importorskip("torch")

from benchmarks.tensorrt import __main__ as script  # noqa: E402
from benchmarks.tensorrt import layers, models, report, trtexec  # noqa: E402
from simam_deploy.errors import BuildError, RuntimeUnavailable  # noqa: E402
from simam_deploy.formula import reference  # noqa: E402
from simam_deploy.graph import onnx_file  # noqa: E402
from simam_deploy.graph.to_float64 import widen  # noqa: E402
from simam_deploy.rewrite.forms import alone  # noqa: E402

FAKE = Path(__file__).parents[1] / "helpers/fake_trtexec.py"
F16 = "Channel major FP16 format where channel % 8 == 0"
F32 = "Row major linear FP32"
Layer = dict[str, object]


def layer(name: str, kind: str, x: str, y: str, nodes: str = "", formats: tuple[str, str] = (F16, F16)) -> Layer:
    """As IEngineInspector writes one. nodes : the ONNX nodes, with spaces between."""
    tensors = [
        [{"Name": each, "Location": "Device", "Dimensions": [4, 64, 112, 112], "Format/Datatype": format}]
        for each, format in zip((x, y), formats, strict=True)
    ]
    metadata = "\x1e".join(f"[ONNX Layer: {node}]" for node in nodes.split())
    return {
        "Name": name, "LayerType": kind, "Inputs": tensors[0], "Outputs": tensors[1], "TacticValue": "0x0",
        "StreamId": 0, "Metadata": metadata,
    }  # fmt: skip


def read(tmp_path: Path, *several: Layer) -> list[layers.Layer]:
    path = tmp_path / "layers.json"
    text = json.dumps({"Layers": several, "Bindings": ["x", "y"]})
    path.write_text(text.replace("\\u001e", "\x1e"))
    return layers.read_layers(path)


CONV = layer("/conv1", "CaskConvolution", "x", "a", "/conv1")
AFTER = layer("/conv2 + /relu", "CaskConvolution", "b", "y", "/conv2 /relu")
PLUGIN = layer("/simam", "PluginV3", "a", "b", "/simam")
COPIES = (
    layer("Reformatting CopyNode for Input Tensor 0 to /simam", "Reformat", "a", "a2", "", (F16, F32)),
    layer("/simam", "PluginV3", "a2", "b2", "/simam", (F32, F32)),
    layer("Reformatting CopyNode for Output Tensor 0 to /simam", "Reformat", "b2", "b", "", (F32, F16)),
)
OTHERS = ["/conv1", "/conv2", "/relu", "/simam2"]


def test_a_plugin(tmp_path: Path) -> None:
    found = layers.block(read(tmp_path, CONV, PLUGIN, AFTER), ["/simam"], OTHERS)
    assert found.by_plugin
    assert (found.words, found.formats, found.reformats) == ("PluginV3", ("FP16 HWC8", "FP16 HWC8"), ())


def test_reformats_beside_it(tmp_path: Path) -> None:
    far = layer("Reformatting CopyNode for Input Tensor 0 to /conv1", "Reformat", "image", "x")
    free = layer("Reformatting CopyNode for Output Tensor 0 to /simam ", "NoOp", "b", "c")
    found = layers.block(read(tmp_path, far, CONV, *COPIES, free, AFTER), ["/simam"], OTHERS)
    assert found.by_plugin
    assert [each.name.split()[3] for each in found.reformats] == ["Input", "Output"]
    assert found.formats == ("FP32 linear", "FP32 linear")
    profile = {"/simam": 5.0, COPIES[0]["Name"]: 2.0, COPIES[2]["Name"]: 3.0}
    assert layers.time_of(found.layers, profile) == 5  # type: ignore[arg-type]
    assert layers.time_of((*found.layers, *found.reformats), profile) == 10  # type: ignore[arg-type]


def test_a_reformat_that_names_no_node_is_found_by_its_tensors(tmp_path: Path) -> None:
    cast = layer("a copy", "Reformat", "a", "a2")
    found = layers.block(read(tmp_path, CONV, cast, COPIES[1]), ["/simam"], OTHERS)
    assert [each.name for each in found.reformats] == ["a copy"]


def test_primitives(tmp_path: Path) -> None:
    nodes = ["/simam", "/simam/mean", "/simam/c", "/simam/sum", "/simam/gate"]
    several = [
        layer("/simam/mean", "Reduce", "a", "m", "/simam/mean", (F32, F32)),
        layer("PWN(/simam/c, /simam/d)", "PointWiseV2", "a", "d", ""),
        layer("/simam/sum", "Reduce", "d", "s", "/simam/sum"),
    ]
    found = layers.block(read(tmp_path, CONV, *several, AFTER), nodes, OTHERS)
    assert not found.by_plugin
    assert found.words == "3: Reduce (2), PointWiseV2"
    assert found.formats == ("FP32 linear", "FP16 HWC8")
    assert layers.time_of(found.layers, {"/simam/mean": 1.0}) is None
    assert layers.time_of([], {}) is None


@pytest.mark.parametrize(
    "whole",
    [
        layer("{ForeignNode[/conv1.../simam/gate]}", "Myelin", "x", "y", ""),
        layer("__myl_Fused", "kgen", "x", "y", "/relu /simam/gate"),
        layer("/simam", "PluginV3", "x", "y", "/simam /conv1"),
    ],
)
def test_layers_with_other_nodes_in_them(tmp_path: Path, whole: Layer) -> None:
    found = layers.block(read(tmp_path, whole), ["/simam", "/simam/gate"], OTHERS)
    assert found.shared
    assert not found.by_plugin
    assert found.words == f"1: {whole['LayerType']} + others"


def test_names_that_begin_alike_are_not_the_same(tmp_path: Path) -> None:
    other = layer("/simam2", "PluginV3", "a", "b", "/simam2")
    deeper = layer("/net/simam", "PluginV3", "b", "c", "/net/simam")
    found = layers.block(read(tmp_path, other, deeper), ["/simam"], [])
    assert (found.words, found.formats, found.by_plugin) == ("not found", ("-", "-"), False)


@pytest.mark.parametrize("found", [{"Layers": ["/conv1", "/simam"]}, {"Layers": []}, ["/conv1"], {}])
def test_no_details(tmp_path: Path, found: object) -> None:
    (path := tmp_path / "layers.json").write_text(json.dumps(found))
    with pytest.raises(BuildError, match=r"no detailed layers: .*--profilingVerbosity=detailed"):
        layers.read_layers(path)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("Row major linear FP32", "FP32 linear"),
        ("Row major linear FP16 format", "FP16 linear"),
        ("Channel major FP16 format where C % 8 == 0 and H Stride % 32 == 0", "FP16 HWC8"),
        ("Thirty-two wide channel vectorized row major Int8 format", "Int8 CHW32"),
        ("N/A due to dynamic shapes", "N/A due to dynamic shapes"),
        ("", "-"),
    ],
)
def test_formats(words: str, wanted: str) -> None:
    assert layers.short(words) == wanted


def test_profile_and_times(tmp_path: Path) -> None:
    rows = '[ { "count" : 10 }\n, { "name" : "a", "timeMs" : 5, "averageMs" : 0.5, "medianMs" : 0.25 }\n'
    (path := tmp_path / "p.json").write_text(f'{rows}, {{ "name" : "a", "medianMs" : 0.5 }} ]')
    assert layers.read_profile(path) == {"a": 750.0}
    path.write_text('[ { "computeMs" : 0.5, "latencyMs" : 9 }, { "computeMs" : 0.25 }, { "computeMs" : 4 } ]')
    assert layers.read_times(path) == 500
    path.write_text("[]")
    with pytest.raises(BuildError, match="measured nothing"):
        layers.read_times(path)
    for text in ("[ {", '{"a": 1}'):
        path.write_text(text)
        with pytest.raises(BuildError, match=r"p\.json is not what trtexec writes"):
            layers.read_profile(path)


def test_an_output(tmp_path: Path) -> None:
    y = np.arange(6, dtype=np.float16)
    y.tofile(tmp_path / "net_y_0.output.2.3.Half.raw")
    y.tofile(tmp_path / "net_y_0.input.2.3.Half.raw")
    np.testing.assert_array_equal(layers.read_output(tmp_path, "net/y:0", y.dtype, (2, 3)), y.reshape(2, 3))
    with pytest.raises(BuildError, match=r"has 12 bytes; float32 of shape"):
        layers.read_output(tmp_path, "net/y:0", np.dtype(np.float32), (2, 3))
    with pytest.raises(BuildError, match=r"no file z\.output.*there is .*net_y_0"):
        layers.read_output(tmp_path, "z", y.dtype, (2, 3))


@pytest.mark.parametrize(
    ("words", "version"),
    [("v100300]", (10, 3, 0)), ("v101303] [b9]", (10, 13, 3)), ("v110100]", (11, 1, 0)), ("v8601]", (8, 6, 1))],
)
def test_versions(words: str, version: tuple[int, ...]) -> None:
    assert trtexec.version_in(f"&&&& RUNNING TensorRT.trtexec [TensorRT {words} # trtexec --help") == version


# All of it, with the stand-in.


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple]:
    """Runs the command with a stand-in of that mood: its exit status, its rows, what it said."""
    fake = tmp_path / "trtexec"
    fake.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" "$@"\n')
    fake.chmod(0o755)
    (plugin := tmp_path / "plugin.so").touch()
    onnx_file.save(alone("function", (1, 4, 6, 6)), tmp_path / "alone.onnx")
    monkeypatch.setattr(models, "own", partial(models.own, shape=(1, 3, 16, 16), width=4))

    def run(mood: str, *more: str, model: str | None = "alone.onnx") -> tuple:
        monkeypatch.setenv("FAKE_TRTEXEC", mood)
        given = [] if model is None else ["--model", str(tmp_path / model)]
        out = tmp_path / "out"
        where = ["--trtexec", str(fake), "--plugin", str(plugin), "--out", str(out)]
        status = script.main([*where, *given, *more])
        said = capsys.readouterr()
        kept = out / script.ROWS
        rows = json.loads(kept.read_text().splitlines()[-1])["rows"] if kept.exists() else []
        return status, rows, said.out + said.err

    return run


@pytest.mark.slow
def test_our_model(play: Callable[..., tuple], tmp_path: Path) -> None:
    status, rows, said = play("", model=None)
    assert status == 0, said
    assert "TensorRT 10.13.3 on NVIDIA Stand-in" in said
    seen = [(row["precision"], row["form"], row["found"]) for row in rows]
    assert seen[:4] == [("fp32", form, "PluginV3") for form in ("custom_op", "function") for _ in range(2)]
    assert [each[:2] for each in seen[4:6]] == [("fp32", "primitive")] * 2
    assert "+ others" in seen[4][2]
    assert [each[0] for each in seen] == ["fp32"] * 6 + ["fp16"] * 6
    assert {row["whole_us"] for row in rows} == {250}
    assert {row["simam_us"] for row in rows if row["form"] != "primitive"} == {10}
    assert all(0 < row["of_bar"] < 1 for row in rows)
    assert all(row["error"] > 1e-5 for row in rows if row["precision"] == "fp16")
    log = (tmp_path / "out/fp16-primitive/trtexec.log").read_text()
    assert log.count("PASSED") == 2
    assert "dynamicPlugins" not in log


def test_a_model_of_yours(play: Callable[..., tuple], tmp_path: Path) -> None:
    status, rows, _ = play("eleven")
    assert status == 0
    assert [(row["precision"], row["block"], row["format_in"]) for row in rows] == [
        ("alone", "simam", "FP32 linear")
    ] * 3
    x = np.fromfile(tmp_path / "out/alone-custom_op/input0.bin", np.float32).reshape(1, 4, 6, 6)
    y = np.fromfile(next((tmp_path / "out/alone-custom_op").glob("y.output*.raw")), np.float32).reshape(x.shape)
    np.testing.assert_allclose(y, reference(x), atol=1e-6)


def test_reformats_are_counted_and_timed(play: Callable[..., tuple]) -> None:
    status, rows, said = play("reformat", "--forms", "custom_op")
    assert status == 0, said
    assert [(row["reformats"], row["simam_us"], row["with_reformats_us"]) for row in rows] == [(2, 10, 30)]
    assert rows[0]["format_in"] == "FP16 HWC8"


def test_a_body_that_was_expanded_is_no_plugin(play: Callable[..., tuple]) -> None:
    status, rows, said = play("body", "--forms", "function")
    assert (status, rows[0]["ok"], rows[0]["found"]) == (1, False, "2: Reduce, PointWiseV2")
    assert "alone function simam: the parser or the builder did not give this block to the plugin" in said


@pytest.mark.parametrize("mood", ["wrong", "nan"])
def test_a_wrong_output(play: Callable[..., tuple], mood: str) -> None:
    status, rows, said = play(mood, "--forms", "primitive")
    assert (status, rows[0]["ok"]) == (1, False)
    assert "the output is wrong" in said


def test_what_fails_is_told_and_the_rest_is_kept(play: Callable[..., tuple]) -> None:
    status, rows, said = play("refuse")
    assert status == 1
    assert [row["ok"] for row in rows] == [False, False, True]
    assert [row["found"] for row in rows][:2] == ["failed"] * 2
    assert "could not build the engine: exit status 1" in said
    assert "trtexec --onnx=model.onnx --saveEngine=model.engine" in said
    assert "| [11/23/2026-05:00:00] [E] Failed to parse onnx file" in said
    assert "Set shape of input" not in said
    assert "the parser did not take the node for a plugin: docs/howto/tensorrt.md" in said


@pytest.mark.parametrize(
    ("mood", "words"),
    [
        ("hang", "could not build the engine: ended after 2 s; --timeout gives it more"),
        ("silent", "exit status 139"),
        ("silent", "| &&&& RUNNING"),
        ("names", "no detailed layers"),
    ],
)
def test_runs_that_come_to_nothing(play: Callable[..., tuple], mood: str, words: str) -> None:
    status, rows, said = play(mood, "--forms", "custom_op", "--timeout", "2" if mood == "hang" else "60")
    assert (status, [row["found"] for row in rows]) == (1, ["failed"])
    assert words in said


@pytest.mark.parametrize(
    ("mood", "words"),
    [("old", "is TensorRT 8.6.1; the plugin needs 10.0 or later"), ("other", "--help says no version of TensorRT")],
)
def test_another_trtexec(play: Callable[..., tuple], mood: str, words: str) -> None:
    status, rows, said = play(mood)
    assert (status, rows) == (2, [])
    assert words in said


def test_what_is_not_there(play: Callable[..., tuple], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, _, said = play("", "--plugin", str(tmp_path / "none.so"))
    assert status == 2
    assert "none.so: no plugin library is there\nbuild it with" in said
    status, rows, _ = play("", "--plugin", str(tmp_path / "none.so"), "--forms", "primitive")
    assert (status, len(rows)) == (0, 1)
    onnx_file.save(alone("function", ("n", 4, 6, 6)), tmp_path / "dynamic.onnx")
    status, _, said = play("", model="dynamic.onnx")
    assert (status, "input 'x' has dynamic axes" in said) == (2, True)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(trtexec, "USUAL", tmp_path / "usual")
    with pytest.raises(RuntimeUnavailable, match=r"no trtexec on PATH and no .*usual.*\n.*--trtexec PATH"):
        trtexec.find(None)
    with pytest.raises(RuntimeUnavailable, match="'elsewhere': no program to run"):
        trtexec.find("elsewhere")


def test_a_folder_that_cannot_be_written(play: Callable[..., tuple], tmp_path: Path) -> None:
    status, _, said = play("", "--out", str(tmp_path / "plugin.so/out"))
    assert status == 2
    assert re.search(
        r"error: .*plugin\.so/out'; everything is kept in .*plugin\.so/out: name another with --out", said
    )


def test_a_program_that_does_not_start(tmp_path: Path) -> None:
    (broken := tmp_path / "trtexec").write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    with pytest.raises(RuntimeUnavailable, match=r"could not ask trtexec its version: .*No such file"):
        trtexec.version_of(broken, tmp_path)


@pytest.mark.slow
def test_our_model_shows_a_sum_in_float16(tmp_path: Path) -> None:
    """In every plane of the first block it overflows, and the gate that this makes is beyond the bar."""
    name, path = list(models.own(tmp_path, lambda _: None, (1, *models.SHAPE[1:]), 4))[1]
    assert name == "fp16"
    whole = onnx.load(path)
    wide = widen(whole)
    wide.graph.output.append(onnx.ValueInfoProto(name=wide.graph.node[0].output[0]))
    image = {wide.graph.input[0].name: np.random.default_rng(0).standard_normal((1, *models.SHAPE[1:]))}
    y, x = ReferenceEvaluator(wide).run(None, image)
    assert (x.var((2, 3)) * x[0, 0].size > np.finfo(np.float16).max).all()
    one = next(function for function in wide.functions if function.name == "SimAM")
    del one.node[:]
    one.node.append(onnx.helper.make_node("Mul", [one.input[0], "gate"], [one.output[0]]))
    one.node.insert(0, onnx.helper.make_node("Constant", [], ["gate"], value_float=1 / (1 + np.exp(-0.5))))
    wide = widen(wide)
    collapsed, _ = ReferenceEvaluator(wide).run(None, image)
    assert report._error(collapsed, y) > 2 * report.BAR * np.finfo(np.float16).eps
