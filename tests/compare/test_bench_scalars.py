"""Inputs without axes: a number, the condition of an If."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.command_line import Run
from helpers.graphs import parse

from simam_deploy import open_session
from simam_deploy.compare.bench import bench

SCALE = "g (float[N,3,8,8] x, float s) => (float[N,3,8,8] y) { y = Mul (x, s) }"
CONDITION = """g (float[N,3,8,8] x, bool c) => (float[N,3,8,8] y) {
    y = If (c) <then_branch = a () => (float[N,3,8,8] p) { p = Neg (x) },
                else_branch = b () => (float[N,3,8,8] q) { q = Abs (x) }>
}"""
FIRST = "g (float s, float[N,3,8,8] x) => (float[N,3,8,8] y) { y = Mul (x, s) }"
ALONE = "g (float s) => (float y) { y = Abs (s) }"


@pytest.mark.parametrize("graph", [SCALE, CONDITION, FIRST, ALONE], ids=["scale", "condition", "first", "alone"])
@pytest.mark.parametrize("runtimes", ["ort", "openvino", "ort,openvino,onnx_reference"])
def test_a_file_that_takes_one_is_timed(folder: Path, run: Run, graph: str, runtimes: str) -> None:
    onnx.save(parse(graph), folder / "m.onnx")
    status, out, err = run(f"bench m.onnx --runtimes {runtimes} --seconds 0")
    assert status == 0, err
    assert all(name in out for name in ("copy", *runtimes.split(",")))


def test_arrays_reach_the_sessions_with_their_axes(tmp_path: Path) -> None:
    onnx.save(parse(SCALE), tmp_path / "m.onnx")
    apart = np.zeros((8, 8, 3, 2), np.float32).transpose(3, 2, 0, 1)
    with open_session(tmp_path / "m.onnx", "ort") as session:
        rows = bench([session], [apart, np.float32(2)], seconds=0)
    assert [row.label for row in rows] == ["copy", session.label]


@pytest.mark.parametrize("command", ["bench --seconds 0", "verify --inputs plain"])
def test_the_size_of_one_is_an_empty_text(folder: Path, run: Run, command: str) -> None:
    onnx.save(parse(SCALE), folder / "m.onnx")
    line = f"{command} m.onnx --runtimes ort --shape 1,3,8,8 --shape"
    status, _, err = run(f"{line} ''")
    assert status == 0, err
    assert run(f"{line} 2") == (2, "", "error: input 's' has shape (); (2,) does not fit it\n")
    status, _, err = run(f"{command} m.onnx --runtimes ort --shape '' --shape ''")
    assert (status, err) == (2, "error: input 'x' has shape ('N', 3, 8, 8); () does not fit it\n")
    status, _, err = run(f"{line} 1,")
    assert status == 2
    assert "cannot read the shape 1,3,8,8, 1,; give positive numbers, as 1,3,224,224" in err
