"""Blocks inside If, Loop and model-local functions: found where they are, and written there."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from helpers.onnx_models import CHAIN
from helpers.wrapped import BODY, BY_ATTRIBUTE, GIVEN, HEAD, HELD, IMAGE, MODELS, made
from onnx import parser

from simam_deploy.block import Found
from simam_deploy.compare.matrix import expose
from simam_deploy.formula import reference
from simam_deploy.match.find import find
from simam_deploy.rewrite.fuse import fuse
from simam_deploy.rewrite.fused import Fused

LAMBDAS = {"a function with λ": [0.1, 0.01]}
X = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)


def run(model: ir.Model) -> np.ndarray:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"image": X, "yes": np.array(True), "trips": np.array(3)}
    return session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})[0]


def operators(fused: Fused) -> list[str]:
    scopes = (fused.model.graph, *(f for f in fused.model.functions.values() if f.domain != "simam"))
    return [node.op_type for scope in scopes for node in scope.all_nodes()]


@pytest.mark.parametrize("name", MODELS)
def test_found_once_with_its_size(name: str) -> None:
    found = find(made(name))
    assert [b.e_lambda for b in found.blocks] == [pytest.approx(e) for e in LAMBDAS.get(name, [1e-4])]
    assert all(b.shape == (2, 3, 5, 7) for b in found.blocks)
    assert not found.near_misses


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("form", ["primitive", "function", "instance_norm"])
def test_written_where_it_is(name: str, form: str) -> None:
    model = made(name)
    fused = fuse(model, form)
    proto = ir.to_proto(fused.model)
    onnx.checker.check_model(proto, full_check=True)
    np.testing.assert_allclose(run(fused.model), run(model), rtol=1e-5, atol=1e-6)
    assert ir.to_proto(fuse(fused.model, form).model) == proto
    ours = {"function": "SimAM", "instance_norm": "InstanceNormalization", "primitive": "Sigmoid"}[form]
    kept = 1 if name == "a function that makes more" and form == "primitive" else 0
    assert operators(fused).count(ours) == len(fused.rows) + kept


def test_functions_that_nobody_calls_any_more_go() -> None:
    assert [f.name for f in fuse(made("a function"), "function").model.functions.values()] == ["SimAM"]
    assert not fuse(made("a function"), "primitive").model.functions
    assert {f.name for f in fuse(made("in a function"), "primitive").model.functions.values()} == {"mine"}


def test_what_stays_is_said() -> None:
    (note,) = fuse(made("half in a branch")).notes
    assert note == "y: 'mean' is also used by Sub ''; so that stays, and is computed twice"
    (note,) = fuse(made("a function that makes more")).notes
    assert "'g' is also an output" in note
    assert not fuse(made("in a branch")).notes


def test_gates_inside_cannot_be_tapped_and_are_named() -> None:
    _, taps, left = expose(made("in a branch"))
    assert (taps, left) == ([], ["the gate at y, inside an If, a Loop or a function"])


def near(text: str) -> Found:
    return find(ir.from_proto(parser.parse_model(HEAD + text)))


def test_a_function_that_is_right_for_one_call_only() -> None:
    """Its constant M - 1 = 34 is right for 5x7 and wrong for 10x14."""
    text = f"""net (float[2, 3, 5, 7] image, float[2, 3, 10, 14] other)
    => (float[2, 3, 5, 7] a, float[2, 3, 10, 14] b)
    {{ a = f.mine (image)  b = f.mine (other) }}
    {BODY} mine (x) => (y) {{ {HELD} {CHAIN} }}"""
    found = near(text)
    assert [b.shape for b in found.blocks] == [(2, 3, 5, 7)]
    (miss,) = found.near_misses
    assert "right only where the map has H*W = 35 (as 5x7), and here it has 140" in str(miss)
    assert miss.repaired is not None


def test_a_function_called_with_two_ranks() -> None:
    text = f"""net (float[2, 3, 5, 7] image, float[2, 3, 5, 7, 1] other)
    => (float[2, 3, 5, 7] a, float[2, 3, 5, 7, 1] b)
    {{ a = f.mine (image)  b = f.mine (other) }}
    {BODY} mine (i) => (y) {{ x = Softmax (i) {HELD} {CHAIN} }}"""
    assert "more than one type or rank of x" in str(near(text).near_misses[0])


def test_a_body_by_attribute_cannot_be_judged_once_for_all_calls() -> None:
    text = f"""{IMAGE} {{ a = f.mine <e = 0.1> (image)  out = f.mine <e = 0.01> (a) }}
    {BODY} mine <e> (i) => (y) {{ x = Softmax (i) {BY_ATTRIBUTE} {CHAIN} }}"""
    assert "inline the functions first (onnx.inliner)" in str(near(text).near_misses[0])


def test_a_function_of_a_population_variance_is_named_once() -> None:
    text = f"""{IMAGE} {{ out = f.mine (image) }}
    {BODY} mine (x) => (y) {{ {HELD.replace("34.0", "35.0")} {CHAIN} }}"""
    (miss,) = near(text).near_misses
    assert "population variance" in str(miss)


def test_weights_do_not_make_a_simam() -> None:
    """A scale of numbers that differ, or of very many, is learned."""
    scaled = CHAIN.replace("y = Mul (x, g)", "w = Mul (x, scale)\n y = Mul (w, g)")
    head = f"{IMAGE.replace('3', '4')} {GIVEN[:-1]}, float[1, 4, 1, 1] scale = {{1, 1, 1, 2}}>"
    text = f"{head} {{ x = Relu (image) {scaled} out = Relu (y) }}"
    assert not near(text).blocks
    norm = (
        "a = InstanceNormalization <epsilon: float = 0.0001> (x, gamma, beta)\n a2 = Mul (a, a)\n z = Add (a2, half)"
    )
    gamma = "float[3] gamma = {0.4, 0.5, 0.6}, float[3] beta = {0, 0, 0}, float half = {0.5}"
    text = f"{IMAGE} <{gamma}> {{ x = Relu (image) {norm} g = Sigmoid (z) y = Mul (x, g) out = Relu (y) }}"
    assert not near(text).blocks


def test_the_control_is_the_formula() -> None:
    np.testing.assert_allclose(run(made("a function")), reference(np.maximum(X, 0)), rtol=1e-5, atol=1e-6)


def test_two_types_in_a_body() -> None:
    """x.float() * gate(x.float()) by two casts: y is float where x is float16, as the call says."""
    body = "a = Cast <to: int = 1> (i)\n b = Cast <to: int = 1> (i)\n"
    body += CHAIN.replace("(x,", "(a,").replace("Mul (a, g)", "Mul (b, g)").replace("y = Mul", "y0 = Mul")
    text = f"""net (float16[2, 3, 5, 7] image) => (float[2, 3, 5, 7] out) {{ out = f.mine (image) }}
    {BODY} mine (o) => (y) {{ i = Softmax (o) {HELD} {body} y = Softmax (y0) }}"""
    assert "x and y have two types: FLOAT, FLOAT16" in str(near(text).near_misses[0])
