"""Inputs and outputs of a PyTorch module and of a file: matched by name or by position."""

from pathlib import Path

import numpy as np
import pytest
from helpers.command_line import Run
from helpers.exchanged import EXCHANGED, report, save

MODULES = """
import torch
from torch import nn
from simam_deploy import SimAM

class Net(nn.Module):
    def __init__(self, give):
        super().__init__()
        self.simam, self.give = SimAM(), give
    def forward(self, {inputs}):
        boxes = self.simam(x)
        return self.give(boxes, boxes - u)

def as_tuple(): return Net(lambda b, s: (b, s))
def as_dict(): return Net(lambda b, s: {{"scores": s, "boxes": b}})
def in_order(): return Net(lambda b, s: {{"boxes": b, "scores": s}})
def nested(): return Net(lambda b, s: {{"a": {{"boxes": b}}, "scores": s}})
def listed(): return Net(lambda b, s: {{"a": [b, s]}})
def partly(): return Net(lambda b, s: {{"scores": s, "other": b}})
def moved(): return Net(lambda b, s: {{"other": b, "boxes": s}})
"""


@pytest.mark.parametrize("inputs", ["x, u", "u, x"])
@pytest.mark.parametrize("build", ["as_tuple", "as_dict"])
def test_a_module_and_files_in_any_order(tmp_path: Path, run: Run, build: str, inputs: str) -> None:
    (tmp_path / "nets.py").write_text(MODULES.format(inputs=inputs))
    files = [save(tmp_path / "a.onnx"), save(tmp_path / "b.onnx", outputs=("scores", "boxes"), inputs=("u", "x"))]
    status, out, err = run(
        f"verify {files[0]} {files[1]} --against {tmp_path}/nets.py:{build} --json --runtimes ort --gates"
    )
    assert (status, err) == (0, "")
    assert report(out) == (True, [])
    wrong = save(tmp_path / "c.onnx", outputs=("scores", "boxes"), **EXCHANGED)
    status, out, err = run(
        f"verify {files[0]} {wrong} --against {tmp_path}/nets.py:{build} --json --runtimes ort --inputs plain"
    )
    assert (status, err) == (1, "")


@pytest.mark.parametrize("build", ["partly", "moved"])
def test_a_module_that_shares_a_name_in_another_place_is_refused(tmp_path: Path, run: Run, build: str) -> None:
    (tmp_path / "nets.py").write_text(MODULES.format(inputs="x, u"))
    file = save(tmp_path / "a.onnx")
    status, out, err = run(f"verify {file} --against {tmp_path}/nets.py:{build} --runtimes ort --inputs plain")
    assert (status, out) == (2, "")
    assert "some names are the same and others are not" in err


def test_parameters_of_other_names_are_taken_by_position(tmp_path: Path, run: Run) -> None:
    (tmp_path / "nets.py").write_text(MODULES.format(inputs="x, u"))
    file = save(tmp_path / "a.onnx", x="images", u="offset")
    status, out, err = run(
        f"verify {file} --against {tmp_path}/nets.py:as_tuple --json --runtimes ort --inputs plain"
    )
    assert (status, err) == (0, "")
    assert report(out) == (True, ["the truth has the inputs x, u; the first file has images, offset: " + BY_PLACE])


BY_PLACE = "matched by position, as no name is the same"
SAME_BUT_CASE = "matched by name, whatever the case of the letters"


@pytest.mark.parametrize(
    ("build", "other", "notes"),
    [
        ("as_tuple", {"boxes": "found", "scores": "sure"}, []),
        ("listed", {"boxes": "found", "scores": "sure"}, []),
        ("as_tuple", {"boxes": "output_0"}, []),
        (
            "in_order",
            {"boxes": "found", "scores": "sure"},
            ["outputs found, sure; the truth has boxes, scores: " + BY_PLACE],
        ),
        (
            "nested",
            {"boxes": "found", "scores": "sure"},
            ["outputs found, sure; the truth has a_boxes, scores: " + BY_PLACE],
        ),
        ("in_order", {"scores": "Scores"}, ["outputs boxes, Scores; the truth has boxes, scores: " + SAME_BUT_CASE]),
        ("as_tuple", {"x": "X"}, ["inputs x, u; the first file has X, u: " + SAME_BUT_CASE]),
    ],
)
def test_a_module_and_a_file_go_by_names_as_two_files_do(
    tmp_path: Path, run: Run, build: str, other: dict, notes: list[str]
) -> None:
    (tmp_path / "nets.py").write_text(MODULES.format(inputs="x, u"))
    file = save(tmp_path / "a.onnx", **other)
    status, out, err = run(f"verify {file} --against {tmp_path}/nets.py:{build} --json --runtimes ort --inputs plain")
    assert (status, err) == (0, "")
    passed, said = report(out)
    assert passed
    assert [note.partition(" has the ")[2] for note in said] == notes


@pytest.mark.parametrize(
    ("build", "other"),
    [("in_order", {"boxes": "one"}), ("in_order", {"scores": "one"}), ("as_tuple", {"u": "one"}), ("nested", {})],
    ids=str,
)
def test_a_module_and_a_file_that_share_some_names_are_refused(
    tmp_path: Path, run: Run, build: str, other: dict
) -> None:
    (tmp_path / "nets.py").write_text(MODULES.format(inputs="x, u"))
    file = save(tmp_path / "a.onnx", **other)
    status, out, err = run(f"verify {file} --against {tmp_path}/nets.py:{build} --runtimes ort --inputs plain")
    assert (status, out) == (2, "")
    assert "some names are the same and others are not" in err


NPZ = {
    "by name": (("u", "x"), 0, None),
    "with more": (
        ("u", "x", "labels"),
        0,
        "in.npz: left out, as the model has no inputs of these names: labels",
    ),
    "in order": (None, 0, None),
    "other names": (
        ("image", "offset"),
        0,
        "in.npz has the inputs image, offset; the model has x, u: matched by position",
    ),
    "some names": (
        ("u", "offset"),
        2,
        "in.npz has the inputs u, offset; the model has x, u: some names are the same",
    ),
}


@pytest.mark.parametrize("case", NPZ)
def test_arrays_of_an_npz(tmp_path: Path, run: Run, case: str) -> None:
    names, expected, words = NPZ[case]
    arrays = [np.random.default_rng(i).standard_normal((2, 3, 5, 7)).astype(np.float32) for i in range(3)]
    if names is None:
        np.savez(tmp_path / "in.npz", *arrays[:2])
    else:
        np.savez(tmp_path / "in.npz", **dict(zip(names, arrays, strict=False)))
    files = f"{save(tmp_path / 'a.onnx')} {save(tmp_path / 'b.onnx', inputs=('u', 'x'))}"
    status, out, err = run(f"verify {files} --json --runtimes ort --inputs {tmp_path / 'in.npz'}")
    assert status == expected
    assert words is None or words in out + err
    if words is None:
        assert report(out) == (True, [])
