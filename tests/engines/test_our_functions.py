"""Fallback definitions, before a parser reads the file: in place of their calls, or left out."""

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.graphs import BODY, parse

from simam_deploy.engines.our_functions import settle
from simam_deploy.graph.traverse import nodes

TWO = """g (float[1,3,8,8] x) => (float[1,3,8,8] z) {
    [first] y = simam.SimAM <e_lambda: float = 0.5> (x)
    [second] z = simam.SimAM (y)
}"""
"""With the λ of a call, and that of the definition. The values have the names of those inside."""
INSIDE = """g (float[1,3,8,8] x) => (float[1,3,8,8] y) {
    sum = ReduceSum <keepdims: int = 0> (x)
    nought = Constant <value_float: float = 0.0> ()
    above = Greater (sum, nought)
    [branch] t = If (above) <
        then_branch = a () => (float[1,3,8,8] p) { [inside] p = simam.SimAM <e_lambda: float = 0.5> (x) },
        else_branch = b () => (float[1,3,8,8] q) { q = Neg (x) }
    >
    y = own.Twice (t)
}"""
TWICE = """
<domain: "own", opset_import: ["" : 18, "simam" : 1]>
Twice (v) => (w) { [called] c = simam.SimAM (v)  w = Add (c, c) }
"""


def model(graph: str, *functions: str) -> onnx.ModelProto:
    made = parse(graph, BODY, *functions)
    made.opset_import.add(domain="own", version=1)
    return made


def run(of: onnx.ModelProto) -> np.ndarray:
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(of.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x + 1})[0])


@pytest.mark.parametrize(
    ("graphs", "calls"),
    [
        ((TWO,), ["first", "second"]),
        ((INSIDE, TWICE), ["inside", "called"]),
    ],
)
def test_the_definition_takes_the_place_of_each_call(graphs: tuple[str, ...], calls: list[str]) -> None:
    source, settled = model(*graphs), model(*graphs)
    assert settle(settled, plugin=False) == calls
    assert [function.name for function in settled.functions] == ["Twice"] * (TWICE in graphs)
    assert not any(node.domain == "simam" for node in nodes(settled))
    onnx.checker.check_model(settled, full_check=True)
    np.testing.assert_array_equal(run(settled), run(source))


def test_calls_of_one_name_get_values_of_their_own() -> None:
    """ONNX Runtime refuses such a file, a parser of TensorRT takes it."""
    settled = model(TWO.replace("second", "first"))
    assert settle(settled, plugin=False) == ["first", "first"]
    made = [name for node in settled.graph.node for name in node.output]
    assert len(set(made)) == len(made)
    onnx.checker.check_model(settled, full_check=True)


def test_new_names_begin_with_that_of_the_call() -> None:
    settled = model(TWO)
    settle(settled, plugin=False)
    names = [node.name or node.output[0] for node in settled.graph.node]
    assert len(set(names)) == len(names)
    assert {name.partition("/")[0] for name in names} == {"first", "second"}


def test_new_names_avoid_those_of_the_graph() -> None:
    source = model(TWO)
    for node in source.graph.node[1:]:
        node.input[0] = "first/mean"
    source.graph.node[0].output[0] = "first/mean"
    settled = onnx.ModelProto()
    settled.CopyFrom(source)
    settle(settled, plugin=False)
    assert "first_/mean" in {node.name for node in settled.graph.node}
    np.testing.assert_array_equal(run(settled), run(source))


def test_a_definition_in_another_opset_stays() -> None:
    source = parse(TWO, BODY.replace('"" : 18', '"" : 17').replace("start: int = 2, end: int = 4", "start: int = 2"))
    assert settle(source, plugin=False) == []
    assert [function.name for function in source.functions] == ["SimAM"]


def test_for_plugins_the_calls_stay_and_say_all() -> None:
    source = model(TWO)
    assert settle(source, plugin=True) == []
    assert not source.functions
    held = [{a.name: onnx.helper.get_attribute_value(a) for a in node.attribute} for node in source.graph.node]
    plugin = {"plugin_namespace": b"simam", "plugin_version": b"1"}
    assert held == [{"e_lambda": np.float32(e_lambda), **plugin} for e_lambda in (0.5, 1e-4)]
