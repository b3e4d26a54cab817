"""A float32 network in 16 bits: no constant is clipped, SimAM keeps float32 inside, and the file loads."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.half_nets import CASES, MAPS, gate_error, naive, x_of
from onnx import parser

from simam_deploy.graph import onnx_file
from simam_deploy.precision.low_types import BF16, FP16, LOW_TYPES
from simam_deploy.precision.to_low import InLow, to_low
from simam_deploy.rewrite.fuse import fuse
from simam_deploy.runtimes import open_session

LIMIT = {"fp16": 1e-3, "bf16": 4e-3}


def parsed(text: str) -> ir.Model:
    return ir.from_proto(parser.parse_model(text))


def written(made: InLow, folder: Path) -> Path:
    path = folder / "low.onnx"
    onnx_file.save(made.model, path)
    onnx.checker.check_model(path, full_check=True)
    return path


@pytest.mark.parametrize("low", LOW_TYPES.values(), ids=LOW_TYPES)
def test_the_gate_is_right_in_every_case(low: object, tmp_path: Path) -> None:
    errors = []
    for m in MAPS:
        fused = fuse(ir.from_proto(naive(m, "float32")), "function").model
        with open_session(written(to_low(fused, low), tmp_path), "onnx_half") as session:
            for _, spread, offset in (case for case in CASES if case[0] == m):
                x = x_of(m, spread, offset).astype(session.inputs[0].dtype)
                errors.append(gate_error(x, session.run({"x": x})["y"]))
    assert len(errors) == 160
    assert max(errors) <= LIMIT[low.name]


def test_a_constant_that_does_not_fit_makes_an_island(tmp_path: Path) -> None:
    """M - 1 = 102399 and λ = 1e-8 stay what they are."""
    made = to_low(ir.from_proto(naive(320, "float32", e_lambda=1e-8)), FP16)
    assert {row.reason for row in made.kept} == {
        "a constant of 102399 is beyond fp16, which ends at 65504",
        "a constant of 1e-08 becomes 0 in fp16",
        "takes 't': a constant of 1e-08 becomes 0 in fp16",
        "takes 'q': a constant of 1e-08 becomes 0 in fp16",
    }
    held = {name: value.const_value.numpy() for name, value in made.model.graph.initializers.items()}
    assert held["n"] == 102399
    assert held["e_lambda"] == np.float32(1e-8)
    assert held["n"].dtype == np.float32
    written(made, tmp_path)


def test_bfloat16_raises_the_opset(tmp_path: Path) -> None:
    made = to_low(fuse(ir.from_proto(naive(20, "float32")), "function").model, BF16)
    assert made.model.opset_imports[""] == 22
    assert made.notes == ["opset raised from 18 to 22, the first for bf16"]
    assert ("simam", "SimAM", "") in made.model.functions


NET = """<ir_version: 9, opset_import: ["" : 18]> g (float[1,2,4,4] x) => (float[1,2,8,8] y, int64[1,2,4,1] i)
    <float[2,2,1,1] w = {1, 2, 3, 4}, float[4] scales = {1, 1, 2, 2}> {
        c = Conv(x, w)
        i = ArgMax<axis = 3>(c)
        y = Resize<mode = "nearest">(c, , scales)
    }"""


def test_inputs_and_outputs_on_request(tmp_path: Path) -> None:
    low, kept = to_low(parsed(NET), FP16), to_low(parsed(NET), FP16, keep_io=True)
    assert [v.dtype.name for v in (*low.model.graph.inputs, *low.model.graph.outputs)] == [
        "FLOAT16",
        "FLOAT16",
        "INT64",
    ]
    assert [v.dtype.name for v in (*kept.model.graph.inputs, *kept.model.graph.outputs)] == [
        "FLOAT",
        "FLOAT",
        "INT64",
    ]
    assert (low.casts, kept.casts) == (0, 2)
    x = np.random.default_rng(0).standard_normal((1, 2, 4, 4)).astype(np.float32)
    with open_session(written(kept, tmp_path), "ort") as session:
        got = session.run({"x": x})
    np.testing.assert_allclose(got["y"][:, :, ::2, ::2], np.einsum("oi,nihw->nohw", [[1, 2], [3, 4]], x), atol=2e-2)


def test_an_input_that_takes_float32_alone_keeps_it() -> None:
    """The scales of a Resize."""
    graph = to_low(parsed(NET), FP16).model.graph
    assert graph.initializers["scales"].dtype == ir.DataType.FLOAT


def test_the_model_of_the_caller_is_unchanged() -> None:
    model = parsed(NET)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    to_low(model, FP16)
    to_low(model, BF16)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_control_flow_keeps_float32_where_it_meets_the_graph(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["" : 18]> g (float[2,2] x, bool c) => (float[2,2] y) {
        a = MatMul(x, x)
        b = If(c) <then_branch = t () => (float[2,2] u) { u = MatMul(a, a) },
                   else_branch = e () => (float[2,2] v) { v = Identity(a) }>
        y = Relu(b)
    }"""
    path = written(to_low(parsed(text), FP16), tmp_path)
    x = np.array([[1, 2], [3, 4]], np.float16)
    with open_session(path, "onnx_half") as session:
        assert session.run({"x": x, "c": np.array(True)})["y"].tolist() == (x @ x @ x @ x).tolist()
        assert session.run({"x": x, "c": np.array(False)})["y"].tolist() == (x @ x).tolist()
    with open_session(path, "ort") as session:
        session.run({"x": x, "c": np.array(True)})


def test_a_node_that_is_named_stays(tmp_path: Path) -> None:
    made = to_low(parsed(NET), FP16, keep=lambda node: "asked for" if node.op_type == "Conv" else "")
    assert [(row.op, row.reason) for row in made.kept] == [("Conv", "asked for")]
    assert made.model.graph.initializers["w"].dtype == ir.DataType.FLOAT
    written(made, tmp_path)
