"""At which sizes `verify` compares files with dynamic axes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.command_line import Run
from onnx import TensorProto, helper, numpy_helper

from simam_deploy.compare.inputs import Case
from simam_deploy.compare.sizes import agreed, others
from simam_deploy.errors import InputError
from simam_deploy.runtimes.session import TensorSpec

ANY = ["b", 3, "h", "w"]


def write(
    path: Path, shape: list[object] = ANY, *, m: float | None = None, rows: int = -1, step: int = 1, x: str = "x"
) -> None:
    """sigmoid(M - 1) of a map, reshaped to `rows`; m : M - 1 as a constant. step : H and W are a multiple of it."""
    constants = {
        "one": np.float32(1), "end": np.array([2], np.int64), "to": np.array([rows, 3], np.int64),
        "scale": np.float32(1e-4), "m": np.float32(m or 0), "begin": np.array([2], np.int64),
        "whole": np.array([0, 0, -1, step], np.int64),
    }  # fmt: skip
    nodes = [
        *([helper.make_node("Reshape", [x, "whole"], ["strided"])] if step > 1 else []),
        helper.make_node("Shape", [x], ["shape"]),
        helper.make_node("Slice", ["shape", "begin", "end"], ["hw"]),
        helper.make_node("ReduceProd", ["hw"], ["area"], keepdims=0),
        helper.make_node("Cast", ["area"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["float", "one"], ["counted"]),
        helper.make_node("Mul", ["counted" if m is None else "m", "scale"], ["factor"]),
        helper.make_node("GlobalAveragePool", [x], ["mean"]),
        helper.make_node("Mul", ["mean", "factor"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "to"], ["y"]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", 3])]
    if step > 1:
        outputs.append(helper.make_tensor_value_info("strided", TensorProto.FLOAT, [None] * 4))
    constants["end"] = np.array([4], np.int64)
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(x, TensorProto.FLOAT, shape)], outputs,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "good.onnx")
    return tmp_path


def test_a_constant_that_is_right_at_one_size_fails(place: Path, run: Run) -> None:
    write(place / "frozen.onnx", m=64 * 96 - 1)
    status, out, _ = run("verify good.onnx frozen.onnx --runtimes ort --inputs plain")
    assert status == 1
    (line,) = (line for line in out.splitlines() if line.endswith("FAIL"))
    assert "frozen" in line
    assert "other size" in line
    status, out, _ = run("verify good.onnx frozen.onnx --runtimes ort --inputs plain --shape 2,3,64,96")
    assert status == 0
    assert "other size" not in out


def test_a_batch_that_is_frozen_is_an_error_that_names_the_file_and_the_size(place: Path, run: Run) -> None:
    write(place / "frozen.onnx", rows=2)
    status, _, err = run("verify good.onnx frozen.onnx --runtimes ort --inputs plain")
    assert status == 2
    assert "frozen · ort does not run on inputs of shape (1, 3, 71, 57)" in err
    assert "the truth runs at this size" in err
    assert "--shape" in err


def test_the_sizes_are_told(place: Path, run: Run) -> None:
    status, out, _ = run("verify good.onnx --runtimes ort --inputs plain")
    assert status == 0
    assert "sizes: x (2, 3, 64, 96)" in out
    assert "other size: x (1, 3, 71, 57)" in out
    status, out, _ = run("verify good.onnx --runtimes ort --inputs plain --shape 1,3,8,9")
    assert status == 0
    assert "sizes: x (1, 3, 8, 9)" in out


def test_a_size_that_the_truth_does_not_take_is_told_and_the_next_is_tried(place: Path, run: Run) -> None:
    write(place / "strided.onnx", step=32)
    write(place / "frozen.onnx", step=32, m=64 * 96 - 1)
    status, out, _ = run("verify strided.onnx frozen.onnx --runtimes ort --inputs plain")
    assert status == 1
    assert "the truth takes no x (1, 3, 71, 57)" in out
    assert "other size: x (1, 3, 128, 64)" in out
    write(place / "two.onnx", rows=2)
    status, out, _ = run("verify two.onnx --runtimes ort --inputs plain")
    assert status == 0
    assert "the truth takes no x (1, 3, 128, 64)" in out
    assert "other size:" not in out


def test_inputs_from_a_file_are_compared_at_their_size_alone(place: Path, run: Run) -> None:
    np.savez(place / "mine.npz", x=np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32))
    status, out, _ = run("verify good.onnx --runtimes ort --inputs mine.npz")
    assert status == 0
    assert "sizes: x (2, 3, 5, 7)" in out
    assert "no other size was tried" in out


@pytest.mark.parametrize("order", ["good.onnx fixed.onnx", "fixed.onnx good.onnx"])
def test_a_size_that_one_of_the_files_fixes_is_drawn_for_all(place: Path, run: Run, order: str) -> None:
    write(place / "fixed.onnx", [1, 3, 8, 8], x="p")
    status, out, err = run(f"verify {order} --runtimes ort --inputs plain")
    assert status == 0, err
    assert "FAIL" not in out
    assert ("fixed.onnx fixes p (1, 3, 8, 8), so all are compared at that size" in out) == order.startswith("good")
    assert "other size" not in out


def test_an_axis_that_one_file_fixes_leaves_the_others_free(place: Path, run: Run) -> None:
    write(place / "narrow.onnx", ["b", 3, "h", 8])
    status, out, err = run("verify good.onnx narrow.onnx --runtimes ort --inputs plain")
    assert status == 0, err
    assert "sizes: x (2, 3, 64, 8)" in out
    assert "other size: x (1, 3, 71, 8)" in out


def test_sizes_that_no_input_has_are_an_error_that_names_the_file(place: Path, run: Run) -> None:
    write(place / "fixed.onnx", [1, 3, 8, 8])
    write(place / "larger.onnx", [1, 3, 16, 8])
    status, _, err = run("verify good.onnx fixed.onnx larger.onnx --runtimes ort --inputs plain")
    assert status == 2
    assert "fixed.onnx takes x (1, 3, 8, 8)" in err
    assert "larger.onnx takes x (1, 3, 16, 8)" in err
    status, _, err = run("verify good.onnx fixed.onnx --runtimes ort --inputs plain --shape 1,3,4,4")
    assert status == 2
    assert "fixed · ort cannot run with these feeds" in err
    assert "--shape" in err


def spec(*shape: int | str | None) -> TensorSpec:
    return TensorSpec("x", np.dtype(np.float32), shape)


def test_in_python() -> None:
    specs, notes = agreed({"a": [spec("b", 3, "h", "w")], "b": [spec("n", 3, None, 7)], "c": [spec("n", 3)]})
    assert [of.shape for of in specs] == [("b", 3, "h", 7)]
    assert len(notes) == 1
    with pytest.raises(InputError, match=r"a takes x .*4.*\n.*b takes x .*5"):
        agreed({"a": [spec("b", 4)], "b": [spec("b", 5)]})
    assert sizes(others([spec("b", 3, "h", "h")])) == [(1, 3, 71, 71), (1, 3, 128, 128)]
    assert sizes(others([spec("b", 10)])) == [(1, 10)]
    assert others([spec(2, 3, 4, 5)]) == []


def sizes(found: list[Case]) -> list[tuple[int, ...]]:
    return [case.feeds[0][0].shape for case in found]
