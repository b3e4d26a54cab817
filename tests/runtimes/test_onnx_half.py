"""The oracle of 16-bit arithmetic rounds where a GPU rounds, and nowhere else."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.half_nets import CASES, GATE_LIMIT, MAPS, gate_error, naive, saved, x_of
from onnx import parser

from simam_deploy.errors import RuntimeUnavailable
from simam_deploy.runtimes import open_session

BF16 = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16)


def run(folder: Path, text: str, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    path = saved(folder, parser.parse_model(text))
    with open_session(path, "onnx_half") as session:
        return session.run(feeds)


def test_a_sum_overflows_where_float32_would_not(tmp_path: Path) -> None:
    head = '<ir_version: 9, opset_import: ["" : 18]> g (float16[1,70000] x) => (float16[1,1] y)'
    x = np.ones((1, 70000), np.float16)
    assert np.isinf(run(tmp_path, f"{head} {{ y = ReduceSum(x) }}", x=x)["y"])
    assert run(tmp_path, f"{head} {{ y = ReduceMean(x) }}", x=x)["y"] == 1


def test_a_sum_accumulates_in_float32(tmp_path: Path) -> None:
    """In float16, 2048 + 1 is 2048: a sum that accumulates there would stop."""
    head = '<ir_version: 9, opset_import: ["" : 18]> g (float16[1,4096] x) => (float16[1,1] y)'
    got = run(tmp_path, f"{head} {{ y = ReduceSum(x) }}", x=np.ones((1, 4096), np.float16))["y"]
    assert got == 4096
    assert got.dtype == np.float16


@pytest.mark.parametrize(("name", "dtype"), [("float16", np.float16), ("bfloat16", BF16)])
def test_each_operator_rounds_once(name: str, dtype: type, tmp_path: Path) -> None:
    opset = 22
    head = f'<ir_version: 10, opset_import: ["" : {opset}]> g ({name}[64] a, {name}[64] b) => ({name}[64] y)'
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(64).astype(dtype) for _ in range(2))
    wide = [v.astype(np.float32) for v in (a, b)]
    got = run(tmp_path, f"{head} {{ c = Mul(a, b)\n y = Add(c, b) }}", a=a, b=b)["y"]
    product = (wide[0] * wide[1]).astype(dtype).astype(np.float32)
    np.testing.assert_array_equal(got, (product + wide[1]).astype(dtype))
    assert (got != (wide[0] * wide[1] + wide[1]).astype(dtype)).any()


def test_an_island_in_float32_is_not_rounded(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["" : 18]> g (float16[1] x) => (float16[1] y) {
        w = Cast<to = 1>(x)
        s = Mul(w, w)
        r = Sqrt(s)
        y = Cast<to = 10>(r)
    }"""
    x = np.array([1000], np.float16)
    assert run(tmp_path, text, x=x)["y"] == 1000
    assert np.isinf(run(tmp_path, text.replace("to = 1>", "to = 10>"), x=x)["y"])


def test_functions_and_branches_are_rounded(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["" : 18, "f" : 1]> g (float16[2] x, bool c) => (float16[2] y) {
        a = f.square(x)
        y = If(c) <
            then_branch = t () => (float16[2] u) { u = Mul(a, a) },
            else_branch = e () => (float16[2] u) { u = Identity(a) }
        >
    }
    <domain: "f", opset_import: ["" : 18]> square (x) => (y) { y = Mul(x, x) }"""
    x = np.array([3, 300], np.float16)
    assert run(tmp_path, text, x=x, c=np.array(True))["y"].tolist() == [81, np.inf]
    assert run(tmp_path, text, x=x, c=np.array(False))["y"].tolist() == [9, np.inf]


def test_a_float32_file_computes_as_it_is(tmp_path: Path) -> None:
    with open_session(saved(tmp_path, naive(20, "float32")), "onnx_half") as session:
        x = x_of(20, 1, 0)
        assert gate_error(x, session.run({"x": x})["y"]) < 1e-6
        assert session.notes == ["net.onnx holds no float16 or bfloat16, so nothing is rounded"]


@pytest.mark.parametrize(("name", "dtype", "wrong"), [("float16", np.float16, 125), ("bfloat16", BF16, 160)])
def test_simam_collapses_in_16_bits(name: str, dtype: type, wrong: int, tmp_path: Path) -> None:
    """The published spelling, rounded operator by operator."""
    errors = []
    for m in MAPS:
        with open_session(saved(tmp_path, naive(m, name)), "onnx_half") as session:
            for _, spread, offset in (case for case in CASES if case[0] == m):
                x = x_of(m, spread, offset).astype(dtype)
                errors.append(gate_error(x, session.run({"x": x})["y"]))
    assert sum(error > GATE_LIMIT for error in errors) == wrong


def test_a_node_without_definition_is_refused(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["" : 18, "simam" : 1]>
        g (float16[1,2,3,4] x) => (float16[1,2,3,4] y) { y = simam.SimAM<e_lambda: float = 0.1>(x) }"""
    with pytest.raises(RuntimeUnavailable, match="use --form function"):
        open_session(saved(tmp_path, parser.parse_model(text)), "onnx_half")
