"""`verify --gates` where there is no gate to judge: that is no pass in silence."""

from pathlib import Path

import onnx
import pytest
from helpers.command_line import Run
from helpers.onnx_models import PART
from onnx import parser

PLAIN = """<ir_version: 8, opset_import: ["": 18]>
g (float[2,3,4,4] x) => (float[2,3,4,4] y) { y = Sigmoid (x) }"""
VERIFY = "verify {} --gates --runtimes onnx_reference --inputs plain"


@pytest.fixture
def plain(folder: Path) -> str:
    onnx.save(parser.parse_model(PLAIN), folder / "plain.onnx")
    return "plain.onnx"


def test_no_block_in_any_file_is_2(plain: str, run: Run) -> None:
    status, out, err = run(VERIFY.format(plain))
    assert (status, out) == (2, "")
    assert err.startswith("error: --gates finds no gate to judge:\n  no gate, as no SimAM block was found")


def test_no_block_that_can_be_seen_is_2(folder: Path, run: Run) -> None:
    """It is in a function of somebody's."""
    model = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 18, "m": 1]>
        g (float[2,3,5,7] x) => (float[2,3,5,7] y) {{ y = m.part (x) }}
        {PART}"""
    )
    onnx.save(model, folder / "mine.onnx")
    status, _, err = run(VERIFY.format("mine.onnx"))
    assert status == 2
    assert "\n  the gate at y, inside an If, a Loop or a function\n" in err


def test_a_file_without_a_block_among_others_is_named(folder: Path, run: Run) -> None:
    same = onnx.load(folder / "fixed.onnx")
    for node in same.graph.node:
        node.name = ""
    (gate,) = (node for node in same.graph.node if node.op_type == "Sigmoid")
    gate.op_type = "Softmax"
    onnx.save(same, folder / "other.onnx")
    status, out, _ = run(VERIFY.format("fixed.onnx other.onnx"))
    assert status == 1
    assert "left out: other: no gate, as no SimAM block was found" in out
