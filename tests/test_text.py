"""Texts of a file reach the terminal escaped: in tables, lines, titles, errors, progress and JSON."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.command_line import Run
from hostile.texts import CHANGES, FILES, NASTY
from rich.console import Console

from simam_deploy import open_session
from simam_deploy.block import NearMiss
from simam_deploy.cli import main, render
from simam_deploy.text import LONGEST, as_table, on_lines, on_one_line


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "line",
    [
        "inspect {}",
        "inspect {} --json",
        "fuse {} -o out.onnx --form primitive",
        "fuse {} -o out.onnx --form instance_norm --json",
        "verify {} --gates --runtimes ort --inputs plain",
        "verify {} --runtimes onnx_reference --forms custom_op,function --inputs plain --json",
        "bench {} --runtimes ort --seconds 0 --forms all --shape 2,3,5,7",
        "build {} -o out --targets sm86",
    ],
)
def test_no_command_lets_them_through(
    line: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """capfd sees what libraries write too."""
    (tmp_path / "m.onnx").write_bytes(FILES[name]())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["simam-deploy", *line.format("m.onnx").split()])
    try:
        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    out, err = capfd.readouterr()
    assert status in (0, 1, 2), err
    assert (out + err).replace("\n", "").isprintable()
    assert "error: all is well" not in [text.strip() for text in (out + err).splitlines()]
    if line.endswith("--json") and status == 0:
        json.loads(out)


def test_the_log_of_onnx_runtime(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It names the node on which a run fails, as it is; the exception does too."""
    node = onnx.helper.make_node("Reshape", ["x", "to"], ["y"], name=NASTY)
    shapes = {"x": (onnx.TensorProto.FLOAT, ["n"]), "to": (onnx.TensorProto.INT64, [1]), "y": (1, ["m"])}
    x, to, y = (onnx.helper.make_tensor_value_info(name, *of) for name, of in shapes.items())
    graph = onnx.helper.make_graph([node], "g", [x, to], [y])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with open_session(tmp_path / "m.onnx", "ort") as session, pytest.raises(Exception, match="Reshape"):
        session.run({"x": np.ones(3, np.float32), "to": np.array([7])})
    assert capfd.readouterr().err == ""


def test_every_field_is_among_them() -> None:
    assert len(FILES) == len(CHANGES) + 1


def test_the_name_of_a_file_is_escaped_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a\x1b[31mb.onnx", "[bold]\u202ec.onnx"):
        (tmp_path / name).write_bytes(FILES["text_in_nodes"]())
        _, out, err = run(f"inspect '{name}'")
        assert (out + err).replace("\n", "").isprintable()
        assert name.encode("unicode_escape").decode() in out


def test_one_line() -> None:
    assert on_one_line("größe λ · 日本") == "größe λ · 日本"
    assert on_one_line("a\x1b[0m\n\t\x9b\u202e\u2028\udc80b") == r"a\x1b[0m\n\t\x9b\u202e\u2028\udc80b"
    assert on_lines("a\x1b\nb\r") == "a\\x1b\nb\\r"
    long = on_one_line("n" * 3_000_000)
    assert len(long) < LONGEST + 100
    assert "... 2,998,000 characters ..." in long


def test_a_near_miss_has_its_own_lines_alone() -> None:
    assert str(NearMiss("a\nb", ("c\nd", "e"))) == "a\\nb:\n  c\\nd\n  e"


def test_a_line_of_a_name_is_indented(capsys: pytest.CaptureFixture[str]) -> None:
    render.lines(["a\nerror: b\n  c"], "title")
    assert capsys.readouterr().out == "title\na\n  error: b\n  c\n"


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where brackets were markup, and one that closes nothing an error."""
    seen = io.StringIO()
    monkeypatch.setattr(render, "err", Console(file=seen, force_terminal=True, width=400, color_system=None))
    with render.progress() as say:
        say(f"check the block at {NASTY}")
    assert r"\x1b]0;owned\x07\x1b[31m\x9b2J" in seen.getvalue()
    assert "owned\x07" not in seen.getvalue()
    assert "[/red][bold]" in seen.getvalue()


def test_a_column_that_tells_rows_apart_is_shortened_last() -> None:
    rows = [("digits.fp16 · onnx_half", "a_long_name_of_some_inputs.npz", "1.5")]
    lines = as_table(("session", "case", "error"), rows, right=["error"], width=45, last=["session"]).splitlines()
    assert lines[1].startswith("digits.fp16 · onnx_half  ")
    assert len(lines[1]) <= 45
    assert (
        as_table(("session", "case"), [rows[0][:2]], width=20, last=["session"]).splitlines()[1]
        == "digi…_half  a_l….npz"
    )
