"""Integers that a graph takes: indices stay in their axis, pixels go over all that there are."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.command_line import Run
from onnx import numpy_helper, parser

from simam_deploy.compare.input_ranges import NUMBERS, ranges

WEIGHTS = {
    "table": np.zeros((7, 5), np.float32),
    "wide": np.zeros((4, 3, 6, 9), np.float32),
    "small": np.zeros((7, 5), np.int8),
    "scale": np.float32(1),
    "three": np.int64(3),
    "offsets": np.array([0, 2], np.int64),
    "ones": np.float32(1),
    "shape": np.array([-1], np.int64),
    "first": np.array([0], np.int64),
    "depth": np.int64(6),
    "off_on": np.array([0, 1], np.float32),
}


def made(body: str, kind: str = "int64[2, 2]", functions: str = "", result: str = "float") -> onnx.ModelProto:
    """A model that computes y of ids; x is a float[n, 8] that it may use too."""
    head = '<ir_version: 8, opset_import: ["": 17, "m": 1, "com.microsoft": 1]>'
    text = f"{head} net ({kind} ids, float[n, 8] x) => ({result} y) {{ {body} }} {functions}"
    model = parser.parse_model(text)
    used = {name for node in model.graph.node for name in node.input}
    inner = {name for node in model.graph.node for a in node.attribute for n in a.g.node for name in n.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in WEIGHTS.items() if name in used | inner
    )
    return model


FUNCTION = '<domain: "m", opset_import: ["": 17]> Look (data, at) => (y) { y = Gather (data, at) }'
CASES = {
    "gather": ("y = Gather (table, ids)", (0, 6)),
    "gather along the last axis": ("y = Gather <axis = -1> (table, ids)", (0, 4)),
    "gather along an axis": ("y = Gather <axis = 2> (wide, ids)", (0, 5)),
    "gather elements": ("y = GatherElements <axis = 1> (table, ids)", (0, 4)),
    "gather n-d": ("y = GatherND (wide, ids)", (0, 2)),
    "gather n-d of batches": ("y = GatherND <batch_dims = 1> (wide, ids)", (0, 2)),
    "scatter elements": ("y = ScatterElements (table, ids, x)", (0, 6)),
    "one hot": ("y = OneHot (ids, depth, off_on)", (0, 5)),
    "cast": ("a = Cast <to = 6> (ids) y = Gather (table, a)", (0, 6)),
    "reshaped": ("a = Reshape (ids, shape) b = Unsqueeze (a, first) y = Gather (table, b)", (0, 6)),
    "split": ("a, b = Split <axis = 1> (ids) y = Gather (table, b)", (0, 6)),
    "chosen": ("a = Gather (ids, first) y = Gather (table, a)", (0, 6)),
    "added to": ("a = Add (ids, three) y = Gather (table, a)", (-3, 3)),
    "added to, the other way": ("a = Add (three, ids) y = Gather (table, a)", (-3, 3)),
    "taken from": ("a = Sub (ids, three) y = Gather (table, a)", (3, 9)),
    "an offset for each column": ("a = Add (ids, offsets) y = Gather (table, a)", (0, 4)),
    "into two": ("a = Gather (table, ids) b = Gather <axis = 1> (table, ids) y = Add (a, b)", (0, 4)),
    "and a float": ("a = Gather (table, ids) b = Cast <to = 1> (ids) y = Add (a, b)", (0, 6)),
    "into what is computed": ("a = Relu (table) b = Mul (a, scale) y = Gather (b, ids)", (0, 6)),
    "into what was quantised": ("a = DequantizeLinear (small, scale) y = Gather (a, ids)", (0, 6)),
    "into another input": ("y = Gather <axis = 1> (x, ids)", (0, 7)),
    "into an axis without a size": ("y = Gather (x, ids)", (0, 1)),
    "in a function": ("y = m.Look (table, ids)", (0, 6)),
    "embedding of ONNX Runtime": ("y = com.microsoft.EmbedLayerNormalization (ids, , table)", (0, 6)),
    "numbers": ("a = Cast <to = 1> (ids) y = Mul (a, scale)", NUMBERS),
    "a mask": ("a = Cast <to = 1> (ids) y = Sub (ones, a)", (0, 1)),
    "a mask of two uses": ("a = Cast <to = 1> (ids) b = Sub (ones, a) y = Mul (a, b)", NUMBERS),
    "a condition": ("a = Cast <to = 9> (ids) y = Where (a, ones, scale)", NUMBERS),
    "a size": ("a = Reshape (ids, shape) y = ConstantOfShape (a)", None),
    "whole numbers": ("a = Mul (ids, three) y = Cast <to = 1> (a)", None),
}


@pytest.mark.parametrize("case", CASES)
def test_what_an_input_indexes(case: str) -> None:
    body, held = CASES[case]
    assert ranges(made(body, functions=FUNCTION)).get("ids") == held


def test_an_index_in_a_branch() -> None:
    branch = "branch () => (float[2, 2, 5] z) { z = Gather (table, ids) }"
    branches = f"then_branch = {branch}, else_branch = {branch}"
    body = f"a = ReduceSum <keepdims = 0> (x) b = Cast <to = 9> (a) y = If (b) <{branches}>"
    assert ranges(made(body))["ids"] == (0, 6)


def test_pixels_have_no_range_of_the_graph() -> None:
    assert ranges(made("a = Cast <to = 1> (ids) y = Div (a, scale)", "uint8[2, 3]")) == {}
    assert ranges(made("y = Relu (x)", "float[2]")) == {}


def test_a_long_chain_takes_no_time() -> None:
    body = "a0 = Identity (ids) " + " ".join(f"a{i + 1} = Concat <axis = 0> (a{i}, a{i})" for i in range(60))
    assert ranges(made(f"{body} y = Gather (table, a60)"))["ids"] == (0, 6)


# in the commands

CHAIN = """
   c = Conv <pads = [1, 1, 1, 1]> (v, w)
   mean = ReduceMean <axes = [2, 3], keepdims = 1> (c)
   c0 = Sub (c, mean)
   d = Mul (c0, c0)
   s = ReduceSum <keepdims = 1> (d, hw)
   va = Div (s, n)
   t = Add (va, lam)
   q = Mul (t, four)
   e = Div (d, q)
   z = Add (e, half)
   g = Sigmoid (z)
   y = Mul (c, g)
"""


def save(path: Path, before: str, kind: str = "uint8", shape: str = "2, 3, 8, 8") -> Path:
    """SimAM behind a convolution of v, which `before` makes of ids."""
    text = f"""<ir_version: 8, opset_import: ["": 17]> net ({kind}[{shape}] ids) => (float[2, 4, 8, 8] y)
    <int64[2] hw = {{2, 3}}, float n = {{63}}, float lam = {{0.0001}}, float four = {{4}}, float half = {{0.5}},
     float full = {{255}}, float one = {{1}}, float zero = {{0}}, float half_of_it = {{127}}>
    {{ {before} {CHAIN} }}"""
    model = parser.parse_model(text)
    rng = np.random.default_rng(0)
    weights = {"w": (4, 3, 3, 3), "table": (6, 3 * 8 * 8)}
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in weights.items()
        if name in used
    )
    onnx.save(model, path)
    return path


WRONG = {
    "clipped to 0 and 1": ("uint8", "a = Cast <to = 1> (ids) b = Clip (a, zero, one) v = Div (b, full)"),
    "clipped at 127": ("uint8", "a = Cast <to = 1> (ids) b = Clip (a, zero, half_of_it) v = Div (b, full)"),
    "taken for int8": ("uint8", "i = Cast <to = 3> (ids) a = Cast <to = 1> (i) v = Div (a, full)"),
    "without its sign": ("int8", "a = Cast <to = 1> (ids) b = Abs (a) v = Div (b, full)"),
    "taken for uint8": ("int16", "i = Cast <to = 2> (ids) a = Cast <to = 1> (i) v = Div (a, full)"),
    "of 32 bits, clipped at 255": ("int32", "a = Cast <to = 1> (ids) b = Clip (a, zero, full) v = Div (b, full)"),
    "of 64 bits, without its sign": ("int64", "a = Cast <to = 1> (ids) b = Abs (a) v = Div (b, full)"),
}


@pytest.mark.parametrize("inputs", ["plain", "adversarial"])
@pytest.mark.parametrize("case", WRONG)
def test_pixels_that_are_clipped_or_wrapped_fail(tmp_path: Path, run: Run, case: str, inputs: str) -> None:
    kind, before = WRONG[case]
    right = save(tmp_path / "right.onnx", "a = Cast <to = 1> (ids) v = Div (a, full)", kind)
    wrong = save(tmp_path / "wrong.onnx", before, kind)
    status, out, err = run(f"verify {right} {wrong} --runtimes onnx_reference --inputs {inputs} --json")
    assert (status, err) == (1, "")
    assert {row["session"] for row in json.loads(out)["rows"] if not row["passed"]} == {"wrong · onnx_reference"}


@pytest.mark.parametrize("kind", ["int64", "int32"])
def test_an_embedding_of_few_tokens_runs(tmp_path: Path, run: Run, kind: str) -> None:
    before = "size = Constant <value_ints = [2, 3, 8, 8]> () a = Gather (table, ids) v = Reshape (a, size)"
    file = save(tmp_path / "m.onnx", before, kind, "2")
    status, _, err = run(f"verify {file} --inputs adversarial,uniform --runtimes ort")
    assert (status, err) == (0, "")
    assert run(f"bench {file} --runtimes ort --seconds 0.01")[0] == 0


def test_integers_that_the_model_does_not_take_are_said(tmp_path: Path, run: Run) -> None:
    """No graph tells that these are indices."""
    constants = "two = Constant <value_int = 2> () size = Constant <value_ints = [2, 3, 8, 8]> ()"
    before = f"{constants} i = Cast <to = 7> (ids) j = Mul (i, two) a = Gather (table, j) v = Reshape (a, size)"
    file = save(tmp_path / "m.onnx", before, "uint8", "2")
    status, out, err = run(f"verify {file} --inputs plain --runtimes ort")
    assert (status, out) == (2, "")
    assert "its integers are from " in err
    assert "if it takes others, give them with --inputs FILE.npz" in err
