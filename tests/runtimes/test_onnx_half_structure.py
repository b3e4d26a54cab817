"""The oracle of 16-bit arithmetic rounds in every kind of graph, and refuses what it cannot read."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from simam_deploy.errors import InputError, ModelFileError
from simam_deploy.runtimes import open_session

TENTH, THIRD = 0.1, 0.3
"""Numbers whose squares need more digits than float16 has."""


def text(graph: str, functions: str = "", imports: str = "") -> str:
    return f'<ir_version: 10, opset_import: ["" : 18, "f" : 1{imports}]>\n{graph}\n{functions}'


def run(folder: Path, graph: str, functions: str = "", **feeds: object) -> dict[str, np.ndarray]:
    path = folder / "net.onnx"
    onnx.save(parser.parse_model(text(graph, functions)), path)
    with open_session(path, "onnx_half") as session:
        types = {spec.name: spec.dtype for spec in session.inputs}
        return session.run({name: np.array(value, types[name]) for name, value in feeds.items()})


def half(*values: float) -> np.ndarray:
    return np.array(values, np.float16)


X = half(TENTH, THIRD)
SQUARE = X * X
"""NumPy rounds each float16 operation once, as a GPU."""
HEAD = "g (float16[2] x) => (float[2] y)"
"""The output is float32: it shows whether the value behind it was rounded."""

SAME = {
    "a function in a function": (
        f"{HEAD} {{ a = f.outer(x) y = Cast<to = 1>(a) }}",
        """<domain: "f", opset_import: ["" : 18, "f" : 1]> outer (x) => (y) { a = f.inner(x) y = Mul(a, a) }
        <domain: "f", opset_import: ["" : 18]> inner (x) => (y) { y = Mul(x, x) }""",
        SQUARE * SQUARE,
    ),
    "a function with defaults": (
        f"{HEAD} {{ a = f.scaled(x) y = Cast<to = 1>(a) }}",
        """<domain: "f", opset_import: ["" : 18]> scaled<alpha: float = 3.0, to: int = 10> (x) => (y) {
            c = Constant<value_float: float = @alpha>()
            d = Cast<to: int = @to>(c)
            y = Mul(x, d)
        }""",
        X * half(3),
    ),
    "a function of another opset": (
        f"{HEAD} {{ a = f.square(x) y = Cast<to = 1>(a) }}",
        '<domain: "f", opset_import: ["" : 17]> square (x) => (y) { y = Mul(x, x) }',
        SQUARE,
    ),
    "a sequence": (
        f"""{HEAD} {{
            a = Mul(x, x)
            s = SequenceConstruct(a, x)
            at = Constant<value = int64 {{0}}>()
            b = SequenceAt(s, at)
            y = Cast<to = 1>(b)
        }}""",
        "",
        SQUARE,
    ),
    "an optional": (
        f"{HEAD} {{ a = Mul(x, x) o = Optional(a) b = OptionalGetElement(o) y = Cast<to = 1>(b) }}",
        "",
        SQUARE,
    ),
    "a scan": (
        f"""{HEAD} {{
            rows = Unsqueeze(x, axes)
            state, b = Scan<num_scan_inputs = 1,
                body = body (float16[2] s, float16[2] r) => (float16[2] t, float16[2] u)
                {{ t = Identity(s) u = Mul(r, r) }}>(x, rows)
            c = Squeeze(b, axes)
            y = Cast<to = 1>(c)
        }}""".replace("{\n", "<int64[1] axes = {0}> {\n", 1),
        "",
        SQUARE,
    ),
}


@pytest.mark.parametrize("declared", [False, True], ids=["bare", "declared"])
@pytest.mark.parametrize("case", SAME)
def test_results_are_rounded_inside(case: str, declared: bool, tmp_path: Path) -> None:
    graph, functions, expected = SAME[case]
    model = parser.parse_model(text(graph, functions))
    path = tmp_path / "net.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(model) if declared else model, path)
    with open_session(path, "onnx_half") as session:
        got = session.run({"x": X})["y"]
    np.testing.assert_array_equal(got, expected.astype(np.float32))


def test_a_loop_rounds_what_it_carries_and_what_it_collects(tmp_path: Path) -> None:
    graph = """g (float16[2] x, int64 n) => (float[2] y, float[m, 2] s) <bool t = {1}> {
        a, b = Loop(n, t, x) <body = body (int64 i, bool c, float16[2] v) => (bool d, float16[2] w, float16[2] z) {
            d = Identity(c)
            w = Mul(v, v)
            z = Add(w, v)
        }>
        y = Cast<to = 1>(a)
        s = Cast<to = 1>(b)
    }"""
    got = run(tmp_path, graph, x=X, n=2)
    np.testing.assert_array_equal(got["y"], (SQUARE * SQUARE).astype(np.float32))
    np.testing.assert_array_equal(got["s"], np.stack([SQUARE + X, SQUARE * SQUARE + SQUARE]).astype(np.float32))


def test_outputs_of_every_kind(tmp_path: Path) -> None:
    """Used inside, listed twice, an input, an initializer, and the name that the rewriting would take."""
    graph = """g (float16[2] x) => (float16[2] y, float16[2] x, float16[2] y, float16[2] "y/exact", float16[2] w)
        <float16[2] w = {15360, 16384}> { y = Mul(x, w) "y/exact" = Mul(y, x) }"""
    got = run(tmp_path, graph, x=X)
    assert {name: array.dtype.name for name, array in got.items()} == dict.fromkeys(got, "float16")
    expected = {"y": X * half(1, 2), "x": X, "y/exact": X * half(1, 2) * X, "w": half(1, 2)}
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array)


def test_names_of_any_characters_and_weights_that_are_inputs(tmp_path: Path) -> None:
    graph = """g (float16[2] "x x", float16[2] w) => (float16[2] "Ä/ y") <float16[2] w = {15360, 16384}> {
        "/a b" = Mul("x x", w)
        "Ä/ y" = Mul("/a b", "/a b")
    }"""
    doubled = X * half(1, 2)
    np.testing.assert_array_equal(run(tmp_path, graph, **{"x x": X})["Ä/ y"], doubled * doubled)


def test_weights_in_another_file(tmp_path: Path) -> None:
    model = parser.parse_model(
        text("g (float16[1, 64] x) => (float16[1, 64] y) <float16[64, 64] w = {0}> { y = MatMul(x, w) }")
    )
    w = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float16)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(w, "w"))
    path = tmp_path / "net.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    with open_session(path, "onnx_half") as session:
        got = session.run({"x": np.ones((1, 64), np.float16)})["y"]
    np.testing.assert_array_equal(got[0], w.astype(np.float64).sum(0).astype(np.float16))


def test_operators_of_onnx_runtime_are_rounded(tmp_path: Path) -> None:
    graph = """g (float16[2] x) => (float[2] y) { a = com.microsoft.QuickGelu<alpha = 0.0>(x) y = Cast<to = 1>(a) }"""
    model = parser.parse_model(text(graph, imports=', "com.microsoft" : 1'))
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    with open_session(path, "onnx_half") as session:
        got = session.run({"x": half(2.0**-24, THIRD)})["y"]
    assert got.tolist() == [0, float(half(THIRD)[0]) / 2]


def test_a_result_of_unknown_type_is_refused(tmp_path: Path) -> None:
    graph = """g (float16[2] x) => (float16[2] y) { a = com.microsoft.Mystery(x) y = Mul(a, a) }"""
    path = tmp_path / "net.onnx"
    onnx.save(parser.parse_model(text(graph, imports=', "com.microsoft" : 1')), path)
    with pytest.raises(InputError, match=r"the type of its result 'a' is unknown.*value_info"):
        open_session(path, "onnx_half")


def test_a_function_that_means_another_operator_is_refused(tmp_path: Path) -> None:
    """As in ONNX Runtime, which reads it in the opset of the model."""
    function = '<domain: "f", opset_import: ["" : 13]> mean (x) => (y) { y = ReduceMean<axes = [1]>(x) }'
    with pytest.raises(InputError, match=r"(?s)cannot be inlined: Opset mismatch.*convert_version=True"):
        run(tmp_path, "g (float16[1, 2] x) => (float16[1, 1] y) { y = f.mean(x) }", function, x=X[None])


def test_a_branch_that_returns_an_outer_value_is_no_valid_file(tmp_path: Path) -> None:
    graph = """g (float16[2] x, bool c) => (float16[2] y) {
        a = Mul(x, x)
        y = If(c)<then_branch = t () => (float16[2] a) { z = Mul(x, a) },
                  else_branch = e () => (float16[2] v) { v = Mul(x, a) }>
    }"""
    with pytest.raises(ModelFileError, match="Graph output 'a' is not an output of any node"):
        run(tmp_path, graph, x=X, c=True)
