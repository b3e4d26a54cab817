"""The questions of a builder to a plugin with the formats of ours, and the page that lists these."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.pixels import NETWORKS
from benchmarks.plugin_formats import ACCEPTED, PAGE, _apart


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
def test_the_builder_configures_every_format_that_is_accepted(tmp_path: Path) -> None:
    NETWORKS["digits"].export(tmp_path / "digits.onnx", lambda _: None)
    seen = _apart(tmp_path / "digits.onnx")
    assert (seen["plugins"], seen["types"], seen["from"], seen["built"]) == (3, ["FLOAT"], {"CONVOLUTION": 3}, True)
    assert set(seen["configured"]) == {f"FLOAT {name}" for name in ACCEPTED["FLOAT"]} < set(seen["asked"])


def test_its_formats_are_those_of_the_page() -> None:
    names = {"float32": "FLOAT", "float16": "HALF", "bfloat16": "BF16", "int8": "INT8"}
    rows = re.findall(r"^\| (float32|float16|bfloat16|int8) \| ([^|]*) \|", PAGE.read_text(), re.MULTILINE)
    assert {names[kind]: tuple(re.findall(r"k(\w+)", told)) for kind, told in rows} == ACCEPTED
