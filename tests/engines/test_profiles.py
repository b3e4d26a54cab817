"""Sizes of an engine: those that were asked for, and those that the file tells."""

import json

import pytest
from helpers.graphs import BODY, parse
from helpers.profiled import PAIR, profiles

from simam_deploy.artifacts import manifest
from simam_deploy.engines.shape_ranges import ShapeRange
from simam_deploy.errors import InputError

BLOCK = "g (float[N,3,H,W] x) => (float[N,3,H,W] y) { t = Relu(x) y = simam.SimAM(t) }"


def test_no_input_of_that_name() -> None:
    for wanted in ({"image": (1, 3)}, ["image:1x3"]):
        with pytest.raises(InputError, match="no input is called 'image'; the inputs are x, mask, z"):
            profiles(parse(PAIR), wanted)


def test_an_input_without_a_shape() -> None:
    model = parse("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(
        InputError, match="input 'x' has no shape in the file, so TensorRT would take it for one number"
    ):
        profiles(model)


def test_the_example_of_the_export() -> None:
    kept = {manifest.EXAMPLE: json.dumps({"x": [2, 3, 16, 20]})}
    ranges, notes = profiles(parse(BLOCK, BODY), None, kept)
    assert ranges == {"x": ShapeRange(*[(2, 3, 16, 20)] * 3)}
    assert notes == [
        "built for x:2x3x16x20, the size that the model was exported with; --shapes x:MIN..MAX gives other sizes"
    ]
    asked = {"x": [(1, 3, 8, 8), (4, 3, 8, 8)]}
    assert profiles(parse(BLOCK, BODY), asked, kept) == ({"x": ShapeRange((1, 3, 8, 8), *[(4, 3, 8, 8)] * 2)}, [])


def test_an_example_does_not_change_a_fixed_size() -> None:
    kept = {manifest.EXAMPLE: json.dumps({"x": [2, 4, 16, 20]})}
    assert profiles(parse(BLOCK, BODY), None, kept)[0]["x"].min == (2, 3, 16, 20)


@pytest.mark.parametrize(
    "properties",
    [
        {manifest.EXAMPLE: '{"x": [2, 3, 16]}'},
        {manifest.EXAMPLE: '{"other": [2, 3, 16, 20]}'},
        {"imgsz": "[64, 96]"},
        {"imgsz": "[64, 96", "batch": "1"},
        {"imgsz": "[64, 96, 3]", "batch": "1"},
        {"imgsz": "64", "batch": "1"},
        {"imgsz": "[64, -96]", "batch": "1"},
    ],
)
def test_a_file_that_does_not_tell(properties: dict[str, str]) -> None:
    words = r"input 'x' is Nx3xHxW, and an engine needs sizes; give them with --shapes x:1x3x224x224 or, for a range,"
    with pytest.raises(InputError, match=words):
        profiles(parse(BLOCK, BODY), None, properties)


def test_the_size_that_ultralytics_writes() -> None:
    told = {"imgsz": "[64, 96]", "batch": "1", "stride": "32"}
    ranges, notes = profiles(parse(BLOCK, BODY), None, told)
    assert ranges == {"x": ShapeRange(*[(1, 3, 64, 96)] * 3)}
    assert notes[0].startswith("built for x:1x3x64x96, the size that the model was exported with")


def test_axes_of_one_name_share_a_range() -> None:
    kept = {manifest.EXAMPLE: json.dumps({"z": [9, 7], "mask": [9, 9, 9]})}
    ranges, notes = profiles(parse(PAIR), ["x:1x3x4x4..2x3x4x4..4x3x4x5"], kept)
    assert ranges["mask"] == ShapeRange((1, 4, 4), (2, 4, 4), (4, 4, 5))
    assert ranges["z"] == ShapeRange((1, 7), (2, 7), (4, 7))
    assert notes[0].startswith("built for mask:1x4x4..2x4x4..4x4x5, as the axes of that name in 'x';")
    assert notes[1].startswith(
        "built for z:1x7..2x7..4x7, as the axes of that name in 'x' and the size that the model was exported with;"
    )
    assert list(ranges) == ["x", "mask", "z"]
