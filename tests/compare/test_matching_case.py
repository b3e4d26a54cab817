"""Names that differ in upper and lower case alone are the same ones: matched by name, and it is said."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.command_line import Run
from helpers.graphs import parse, save

from simam_deploy.compare.inputs import cases, specs
from simam_deploy.compare.matching import Names
from simam_deploy.errors import InputError

SAID = "b has the inputs {}; the truth has {}: matched by name, whatever the case of the letters"


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    ("ours", "theirs", "order"),
    [
        ("left right", "Right Left", "Left Right"),
        ("Left right", "left Right", "left Right"),
        ("left right", "Right left", "left Right"),
        ("x", "X", "X"),
        ("a b A", "B A a", "a B A"),
    ],
)
def test_matched_by_name_with_a_note(ours: str, theirs: str, order: str, named: bool) -> None:
    names = Names("inputs", "the truth", ours.split(), named=named)
    said = SAID.format(theirs.replace(" ", ", "), ours.replace(" ", ", "))
    assert names.match("b", theirs.split()) == (order.split(), said)


@pytest.mark.parametrize("theirs", ["Right other", "other Left", "LEFT RIGHT left", "Left left"])
def test_of_which_some_are_the_same_are_refused(theirs: str) -> None:
    words = r"some names are the same and others are not|^b has the inputs .*; the truth has left, right$"
    with pytest.raises(InputError, match=words):
        Names("inputs", "the truth", ["left", "right"]).match("b", theirs.split())


def test_a_module_takes_the_names_of_the_first_file() -> None:
    names = Names("outputs", "the truth", ["output_0", "output_1"], named=False)
    assert names.match("a", ["boxes", "scores"]) == (["boxes", "scores"], "")
    assert names.match("b", ["Scores", "Boxes"])[0] == ["Boxes", "Scores"]


DIFFERENCE = """g (float[N,3] left, float[N,3] right) => (float[N,3] y) { y = Sub (left, right) }"""


def test_arrays_of_an_npz(tmp_path: Path, run: Run) -> None:
    """In the other order: by position they would be exchanged."""
    save(parse(DIFFERENCE), tmp_path / "m.onnx")
    given = {"Right": np.full((2, 3), 5, np.float32), "Left": np.zeros((2, 3), np.float32)}
    np.savez(tmp_path / "in.npz", **given)
    (case,) = cases([str(tmp_path / "in.npz")], specs(tmp_path / "m.onnx"))
    np.testing.assert_array_equal(case.feeds[0], [given["Left"], given["Right"]])
    status, out, _ = run(f"verify {tmp_path}/m.onnx --json --runtimes ort --inputs {tmp_path}/in.npz")
    assert status == 0
    said = json.loads(out)["notes"][0]
    assert "in.npz has the inputs Right, Left; the model has left, right: matched by name" in said


def test_arrays_of_which_some_are_the_same_are_refused(tmp_path: Path, run: Run) -> None:
    save(parse(DIFFERENCE), tmp_path / "m.onnx")
    np.savez(tmp_path / "in.npz", Right=np.zeros((2, 3)), other=np.zeros((2, 3)))
    status, _, err = run(f"verify {tmp_path}/m.onnx --runtimes ort --inputs {tmp_path}/in.npz")
    assert status == 2
    assert "in.npz has the inputs Right, other; the model has left, right: some names are the same" in err
