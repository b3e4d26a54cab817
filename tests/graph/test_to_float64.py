"""float64 all the way: no constant, cast, function or operator on the way may round to float32."""

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.graphs import WEIGHT, beside, parse, save, simam
from onnx import TensorProto

from simam_deploy import open_session
from simam_deploy.errors import InputError
from simam_deploy.formula import reference, tolerance
from simam_deploy.graph.to_float64 import widen

NARROW = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}


def run(model: onnx.ModelProto, tmp_path: Path, **feeds: np.ndarray) -> np.ndarray:
    with open_session(save(model, tmp_path / "m.onnx"), "onnx_reference", dtype="float64") as session:
        return next(iter(session.run(feeds).values()))


@pytest.mark.parametrize("form", ["function", "custom_op"])
@pytest.mark.parametrize("dtype", ["float", "float16"])
def test_simam_is_the_formula_in_float64(dtype: str, form: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7)) + 100
    y = run(simam(dtype=dtype, form=form), tmp_path, x=x)
    t = x * WEIGHT.astype(np.float64)
    assert y.dtype == np.float64
    assert (np.abs(y - reference(t, 0.25)) <= tolerance(t, np.float64, 0.25)).all()


def test_weights_in_another_file(tmp_path: Path) -> None:
    path = beside(tmp_path / "model")
    held = {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()}
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)
    with open_session(path, "onnx_reference", dtype="float64") as session:
        assert session.label == "onnx_reference[float64]"
        assert str(session.inputs[0]) == "x: float64[N, 3, H, W]"
        y = session.run({"x": x})["y"]
    t = x.astype(np.float64) * WEIGHT
    assert (np.abs(y - reference(t, 0.25)) <= tolerance(t, np.float64, 0.25)).all()
    assert {p: p.read_bytes() for p in held} == held
    with pytest.raises(InputError, match=r"the values of 'w' are in another file; load the model with onnx.load"):
        widen(onnx.load(path, load_external_data=False))


def test_the_model_given_is_not_changed() -> None:
    model = simam(dtype="float16")
    before = model.SerializeToString()
    assert widen(model).SerializeToString() != before
    assert model.SerializeToString() == before


def test_every_place_a_type_can_be(tmp_path: Path) -> None:
    model = parse(
        """g (bool c, float16[3] x, optional(seq(float[3])) o) => (double[3] y)
        <float[3] w = {1, 2, 3}> {
            y = If (c) <
                then_branch = g () => (float[3] a) <float[3] v = {0.5, 0.5, 0.5}> {
                    h = CastLike (w, x)
                    s = Add (x, h)
                    f = Cast <to: int = 1> (s)
                    n = Constant <value_floats: floats = [1.0, 2.0, 3.0]> ()
                    fn = Add (f, n)
                    a = Mul (fn, v)
                },
                else_branch = g () => (float[3] b) {
                    l = Shape (x)
                    z = ConstantOfShape (l)
                    k = Constant <value: tensor = float[3] {0.1, 0.2, 0.3}> ()
                    b = Add (z, k)
                }
            >
        }"""
    )
    del model.graph.value_info[:]
    wide = widen(model)
    assert wide.graph.input[2].type.optional_type.elem_type.sequence_type.elem_type.tensor_type.elem_type == 11
    assert not [t.name for t in wide.graph.initializer if t.data_type in NARROW]
    del model.graph.input[2]
    x = np.array([0.1, 0.2, 0.3])
    np.testing.assert_array_equal(run(model, tmp_path, c=np.array(True), x=x), (x + np.array([2, 4, 6])) * 0.5)
    exact = np.array([0.1, 0.2, 0.3], dtype=np.float32).astype(np.float64)
    np.testing.assert_array_equal(run(model, tmp_path, c=np.array(False), x=x), exact)


def test_a_type_that_is_an_argument_is_refused() -> None:
    to = '<domain: "simam", opset_import: ["" : 18]> To <t: int> (x) => (y) { y = Cast <to: int = @t> (x) }'
    model = parse("g (float[2] x) => (float[2] y) { y = simam.To <t: int = 1> (x) }", to)
    with pytest.raises(InputError, match=r"'y' \(Cast\) takes its type from attribute 't' of a function; inline"):
        widen(model)


def erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf)(x)


def group_norm(x: np.ndarray) -> np.ndarray:
    g = x.reshape(1, 2, -1)
    g = (g - g.mean(-1, keepdims=True)) / np.sqrt(g.var(-1, keepdims=True) + float(np.float32(1e-5)))
    return g.reshape(x.shape)


def layer_norm(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + float(np.float32(1e-5)))


@pytest.mark.parametrize(
    ("node", "truth"),
    [
        ("Erf (x)", erf),
        ("Gelu (x)", lambda x: x * 0.5 * (1 + erf(x / np.sqrt(2)))),
        ("GroupNormalization <num_groups = 2> (x, ones, zeros)", group_norm),
        ("LayerNormalization (x, row)", layer_norm),
        ("HardSwish (x)", lambda x: x * np.clip(x * float(np.float32(1 / 6)) + 0.5, 0, 1)),
        ("LeakyRelu <alpha = 0.1> (x)", lambda x: np.where(x < 0, x * float(np.float32(0.1)), x)),
        ("Softmax (x)", lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
        ("GlobalAveragePool (x)", lambda x: x.mean((2, 3), keepdims=True)),
    ],
)
def test_operators_that_could_round_inside(node: str, truth, tmp_path: Path) -> None:
    weights = "float[4] ones = {1,1,1,1}, float[4] zeros = {0,0,0,0}, float[7] row = {1,1,1,1,1,1,1}"
    model = parse(f"g (float[N,4,5,7] x) => (float[N,4,H,W] y) <{weights}> {{ y = {node} }}", opset=24)
    model.ir_version = 10
    x = np.random.default_rng(0).standard_normal((1, 4, 5, 7))
    np.testing.assert_allclose(run(model, tmp_path, x=x), truth(x), rtol=0, atol=1e-14)
