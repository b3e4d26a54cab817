"""Inputs and outputs of two sessions: matched by name, by position, or not at all."""

import json
from pathlib import Path

import onnx
import pytest
from helpers.command_line import Run
from helpers.exchanged import EXCHANGED, report, save
from onnx import parser

from simam_deploy.compare.matching import Names
from simam_deploy.errors import InputError

BY_POSITION = "b has the outputs {}; the truth has {}: matched by position, as no name is the same"


@pytest.mark.parametrize(
    ("ours", "theirs", "order"),
    [
        ("x y", "x y", "x y"),
        ("x y", "y x", "x y"),
        ("x y z", "z x y", "x y z"),
        ("y y", "y", "y"),
        ("y", "y y", "y"),
        ("y x y", "x y", "y x"),
    ],
)
def test_the_same_names_are_matched_by_name(ours: str, theirs: str, order: str) -> None:
    for named in (True, False):
        names = Names("outputs", "the truth", ours.split(), named=named)
        assert names.match("b", theirs.split()) == (order.split(), "")


def test_names_that_are_all_different_are_matched_by_position_with_a_note() -> None:
    names = Names("outputs", "the truth", ["x", "y"])
    assert names.match("b", ["p", "q"]) == (["p", "q"], BY_POSITION.format("p, q", "x, y"))


@pytest.mark.parametrize("theirs", ["x q", "q y", "y q", "q x", "y z", "x x_1"])
def test_names_of_which_some_are_the_same_are_refused(theirs: str) -> None:
    words = (
        f"b has the outputs {theirs.replace(' ', ', ')}; the truth has x, y: some names are the same .* exchanged\n"
    )
    with pytest.raises(InputError, match=words):
        Names("outputs", "the truth", ["x", "y"]).match("b", theirs.split())


@pytest.mark.parametrize("theirs", ["x", "x y z", "p q r", "x x"])
def test_other_numbers_of_names_are_refused(theirs: str) -> None:
    with pytest.raises(InputError, match=r"^b has the inputs .*; a has x, y$"):
        Names("inputs", "a", ["x", "y"]).match("b", theirs.split())


def test_a_module_takes_the_names_of_the_first_file() -> None:
    names = Names("outputs", "the truth", ["output_0", "output_1"], named=False)
    assert names.match("a", ["boxes", "scores"]) == (["boxes", "scores"], "")
    assert names.match("b", ["scores", "boxes"]) == (["boxes", "scores"], "")
    assert names.match("b", ["output_1", "output_0"]) == (["output_0", "output_1"], "")
    assert names.match("b", ["p", "q"]) == (["p", "q"], BY_POSITION.format("p, q", "boxes, scores"))
    with pytest.raises(InputError, match="the truth has boxes, scores: some names are the same"):
        names.match("b", ["boxes", "q"])
    with pytest.raises(InputError, match="the truth has output_0, output_1: some names are the same"):
        names.match("b", ["output_1", "q"])


def test_names_that_a_module_shares_must_be_in_the_same_places() -> None:
    def module() -> Names:
        return Names("inputs", "the truth", ["x", "mask"], named=False)

    assert module().match("a", ["x", "mask_1"]) == (["x", "mask_1"], "")
    for theirs in (["mask", "y"], ["y", "x"]):
        with pytest.raises(InputError, match="some names are the same"):
            module().match("a", theirs)
    assert Names("inputs", "a", ["x", "m"]).match("the truth", ["x", "n"], named=False) == (["x", "n"], "")


@pytest.mark.parametrize("options", ["", " --gates", " --forms all --gates", " --forms function"])
@pytest.mark.parametrize(
    "other",
    [
        {"outputs": ("scores", "boxes")},
        {"inputs": ("u", "x")},
        {"inputs": ("u", "x"), "outputs": ("scores", "boxes")},
    ],
    ids=["outputs", "inputs", "both"],
)
def test_files_that_list_the_same_names_in_another_order_are_equal(
    tmp_path: Path, run: Run, other: dict, options: str
) -> None:
    files = f"{save(tmp_path / 'a.onnx')} {save(tmp_path / 'b.onnx', **other)}"
    status, out, err = run(f"verify {files} --json --runtimes ort,openvino --inputs plain{options}")
    assert (status, err) == (0, "")
    passed, notes = report(out)
    assert passed
    assert not [note for note in notes if "position" in note]
    assert {row["output"] for row in json.loads(out)["rows"]} == {"boxes", "scores"}


@pytest.mark.parametrize("gates", ["", " --gates"])
@pytest.mark.parametrize(
    "other",
    [
        EXCHANGED,
        {**EXCHANGED, "outputs": ("scores", "boxes")},
        {"x": "u", "u": "x"},
        {"x": "u", "u": "x", "inputs": ("u", "x")},
    ],
    ids=["outputs", "outputs in another order too", "inputs", "inputs in another order too"],
)
def test_exchanged_names_are_no_pass(tmp_path: Path, run: Run, other: dict, gates: str) -> None:
    files = f"{save(tmp_path / 'a.onnx')} {save(tmp_path / 'b.onnx', **other)}"
    status, out, err = run(f"verify {files} --json --runtimes ort --inputs plain{gates}")
    assert (status, err) == (1, "")
    assert {row["session"] for row in json.loads(out)["rows"] if not row["passed"]} == {"b · ort"}


def test_files_of_other_names_are_compared_by_position_and_said(tmp_path: Path, run: Run) -> None:
    other = {"x": "image", "u": "offset", "boxes": "found", "scores": "sure"}
    files = f"{save(tmp_path / 'a.onnx')} {save(tmp_path / 'b.onnx', **other)}"
    status, out, err = run(f"verify {files} --json --runtimes ort --inputs plain --gates")
    assert (status, err) == (0, "")
    end = "matched by position, as no name is the same"
    inputs = f"b · ort has the inputs image, offset; the first file has x, u: {end}"
    outputs = f"b · ort has the outputs found, sure; the truth has boxes, scores: {end}"
    assert report(out) == (True, [inputs, outputs])


@pytest.mark.parametrize(
    "other", [{"boxes": "one"}, {"scores": "one"}, {"u": "one"}, {"boxes": "scores", "scores": "one"}], ids=str
)
def test_files_of_which_some_names_are_the_same_are_refused(tmp_path: Path, run: Run, other: dict) -> None:
    files = f"{save(tmp_path / 'a.onnx')} {save(tmp_path / 'b.onnx', **other)}"
    status, out, err = run(f"verify {files} --runtimes ort --inputs plain")
    assert (status, out) == (2, "")
    assert "some names are the same and others are not, so two may be exchanged" in err


def twice(path: Path, count: int) -> Path:
    model = onnx.load(save(path))
    model.graph.output.extend([model.graph.output[0]] * count)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("options", ["", " --gates", " --forms primitive --gates"])
def test_an_output_that_is_listed_twice_is_compared_once(tmp_path: Path, run: Run, options: str) -> None:
    files = f"{twice(tmp_path / 'a.onnx', 1)} {save(tmp_path / 'b.onnx')} {twice(tmp_path / 'c.onnx', 2)}"
    status, out, err = run(f"verify {files} --json --runtimes onnx_reference,ort --inputs plain{options}")
    assert (status, err) == (0, "")
    assert [row["output"] for row in json.loads(out)["rows"]] == ["boxes", "scores"] * 6


def test_bench_feeds_by_name(tmp_path: Path, run: Run) -> None:
    """Of inputs of two sizes, so that an exchange does not run."""
    sizes = {"x": "2, 3", "u": "3"}

    def add(name: str, order: str, suffix: str = "") -> str:
        inputs = ", ".join(f"float[{sizes[i]}] {i}{suffix}" for i in order)
        text = f"net ({inputs}) => (float[2, 3] y) {{ y = Add (x{suffix}, u{suffix}) }}"
        onnx.save(parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}'), tmp_path / f"{name}.onnx")
        return str(tmp_path / f"{name}.onnx")

    a, b, c, d = add("a", "xu"), add("b", "ux"), add("c", "xu", "_"), add("d", "ux", "_")
    status, out, err = run(f"bench {a} {b} {c} --runtimes ort --seconds 0.01 --json")
    assert (status, err) == (0, "")
    words = "c · ort has the inputs x_, u_; a · ort has x, u: matched by position, as no name is the same"
    assert [row["note"] for row in json.loads(out)["rows"]] == ["", "", "", words]
    status, out, err = run(f"bench {a} {c} --runtimes ort --seconds 0.01")
    assert words in out
    status, out, err = run(f"bench {a} {d} --runtimes ort --seconds 0.01")
    assert status == 2
    assert "u_: expected 1 dimensions, got shape (2, 3)" in err
