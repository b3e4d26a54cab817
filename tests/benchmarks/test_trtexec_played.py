"""The script around trtexec from start to end, with a stand-in for the program."""

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
from benchmarks.tensorrt import models, report, trtexec  # noqa: E402
from simam_deploy.errors import RuntimeUnavailable  # noqa: E402
from simam_deploy.formula import reference  # noqa: E402
from simam_deploy.graph import onnx_file  # noqa: E402
from simam_deploy.graph.to_float64 import widen  # noqa: E402
from simam_deploy.rewrite.forms import alone  # noqa: E402

FAKE = Path(__file__).parents[1] / "helpers/fake_trtexec.py"


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


def test_a_fallback_definition_that_was_expanded_is_no_plugin(play: Callable[..., tuple]) -> None:
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
