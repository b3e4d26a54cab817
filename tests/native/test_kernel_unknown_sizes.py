"""The kernel where sizes are not known: ONNX Runtime takes the fixed sizes behind it, and opens the file."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.cases import make
from helpers.graphs import BODY, parse, save
from onnx import helper

from simam_deploy import native, open_session
from simam_deploy.formula import OP_DOMAIN, OPS, reference, tolerance

pytestmark = pytest.mark.usefixtures("library")
BEHIND = {
    "linear": """f = Flatten (a)
        w = ConstantOfShape <value: tensor = float[1] {0.5}> (sizes)
        y = Gemm (f, w)""",
    "view": """s = Constant <value_ints: ints = [1, 2, 6, 2]> ()
        r = Reshape (a, s)
        w = Constant <value: tensor = float[1, 2, 6, 2] {1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}> ()
        y = Add (r, w)""",
    "grid": """w = Constant <value: tensor = float[1, 1, 3, 4] {1,1,1,1,1,1,1,1,1,1,1,1}> ()
        y = Concat <axis: int = 1> (a, w)""",
    "resize": """s = Constant <value_ints: ints = [1, 2, 6, 8]> ()
        r = Resize <mode: string = "nearest"> (a, , , s)
        w = Constant <value_ints: ints = [1, 96]> ()
        y = Reshape (r, w)""",
    "two unlike": """p = MaxPool <kernel_shape: ints = [2, 2]> (a)
        b = simam.SimAM (p)
        s = Constant <value_ints: ints = [1, 36]> ()
        t = Constant <value_ints: ints = [1, 24]> ()
        n = Constant <value_ints: ints = [1, -1]> ()
        u = Reshape (a, t)
        v = Reshape (b, n)
        w = Concat <axis: int = 1> (u, v)
        y = Reshape (w, s)""",
}


def model_of(body: str, x: str) -> onnx.ModelProto:
    text = f"""g (float{x} x) => (float[?, ?] y) {{
        sizes = Constant <value_ints: ints = [24, 3]> ()
        a = simam.SimAM (x)
        {body}
    }}"""
    model = parse(text, BODY)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


@pytest.mark.parametrize("x", ["[1, 2, ?, ?]", "[n, c, h, ?]", "[?, ?, ?, ?]", ""])
@pytest.mark.parametrize("behind", BEHIND)
def test_fixed_sizes_behind_it(behind: str, x: str, tmp_path: Path) -> None:
    model = model_of(BEHIND[behind], x)
    if not x:
        model.graph.input[0].type.tensor_type.ClearField("shape")
    path = save(model, tmp_path / "m.onnx")
    feeds = {"x": make("plain", (1, 2, 3, 4))}
    with open_session(path, "ort", kernel="require") as session, open_session(path, "ort", kernel="off") as body:
        got, wanted = session.run(feeds)["y"], body.run(feeds)["y"]
        assert session.kernel_use(feeds).ran == (2 if behind == "two unlike" else 1)
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", OPS)
def test_what_is_known_of_y(name: str, library: native.Library) -> None:
    """Numbers and names of x; a size without either has a name that no other has."""
    op = OPS[name]
    given = "x" + (", s, s" if op.affine else "") + (", x" if op.residual else "")
    nodes = f"y = simam.{name} ({given}) z = simam.{name} ({given})"
    model = parse(f"g (float[2, ?, ?, w] x, float[c] s) => (float y, float z) {{ {nodes} }}")
    model.opset_import.append(helper.make_opsetid(OP_DOMAIN, 1))
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(library.path))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    y, z = (output.shape for output in session.get_outputs())
    assert (y[0], y[3], z[0], z[3]) == (2, "w", 2, "w")
    assert len({*y[1:3], *z[1:3]}) == 4
    assert not {None, -1} & {*y, *z}


def test_its_numbers_where_no_size_is_known(tmp_path: Path) -> None:
    path = save(model_of("y = Identity (a)", "[?, ?, ?, ?]"), tmp_path / "m.onnx")
    with open_session(path, "ort", kernel="require") as session:
        for shape in ((1, 2, 3, 4), (3, 5, 7, 2), (2, 1, 1, 9)):
            x = make("plain", shape)
            assert (np.abs(session.run({"x": x})["y"] - reference(x)) <= tolerance(x, np.float32)).all()
