"""Constants that are right at one size, or were rounded; bounds; subgraphs that are too large to run."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.onnx_models import CHAIN, model
from onnx import parser

from simam_deploy.block import Found
from simam_deploy.errors import NoBlockError
from simam_deploy.formula import reference, tolerance
from simam_deploy.graph import onnx_file
from simam_deploy.match.find import find
from simam_deploy.rewrite import forms
from simam_deploy.rewrite.fuse import fuse
from simam_deploy.runtimes import open_session

MEAN = CHAIN.replace("s = ReduceSum", "s = ReduceMean").replace("v = Div", "v = Mul")


def why(found: Found) -> str:
    assert not found.blocks
    return "; ".join(reason for miss in found.near_misses for reason in miss.reasons)


def run(what: ir.Model, x: np.ndarray, folder: Path) -> np.ndarray:
    onnx_file.save(what, folder / "run.onnx")
    with open_session(folder / "run.onnx", "ort") as session:
        (out,) = session.run({"image": x}).values()
        return out


@pytest.mark.parametrize(
    ("chain", "n", "m"),
    [(CHAIN, 34, 35), (CHAIN, 6399, 6400), (CHAIN, 3839, 3840), (MEAN, 35 / 34, 35), (MEAN, 3840 / 3839, 3840)],
)
@pytest.mark.parametrize("form", ["primitive", "function"])
def test_a_frozen_n_is_named_with_its_size_and_repaired(
    chain: str, n: float, m: int, form: str, tmp_path: Path
) -> None:
    frozen = model(chain, n=n, shape="2, 3, h, w")
    with pytest.raises(
        NoBlockError, match=rf"right only where the map has H\*W = {m} .* its size is not fixed; fuse --repair"
    ):
        fuse(frozen, form)
    repaired = fuse(frozen, form, repair=True)
    assert repaired.notes == ("Mul_11: M - 1, a constant before, now comes from the shape of x",)
    assert not repaired.near_misses
    rng = np.random.default_rng(0)
    for h, w in ((5, 7), (12, 9)):
        x = np.abs(rng.standard_normal((2, 3, h, w), dtype=np.float32))
        error = np.abs(run(repaired.model, x, tmp_path) - reference(x))
        assert (error <= tolerance(x, np.float32)).all()
        assert (h * w == m) == np.allclose(run(frozen, x, tmp_path), reference(x), rtol=1e-6, atol=1e-6)
    again = fuse(repaired.model, form)
    assert ir.to_proto(again.model) == ir.to_proto(repaired.model)


def test_a_frozen_n_where_the_size_is_fixed_at_another() -> None:
    assert "right only where the map has H*W = 140 (as 10x14), and here it has 35" in why(find(model(n=139)))
    for n in (33, 35, 36, 69, 63):  # of no map of the same form: another formula
        assert "--repair" not in why(find(model(n=n)))


@pytest.mark.parametrize("n", [36, 49, 6400, 3840])
def test_a_frozen_population_variance_is_not_taken_for_a_frozen_n(n: int) -> None:
    """A constant n = 6400 is M of 80x80 rather than M - 1 of 37x173; where both are as square, it may be either."""
    assert "--repair" not in why(find(model(n=n, shape="2, 3, h, w"))) or n in (49,)


def half(source: ir.Model, dtype: ir.DataType) -> ir.Model:
    """Every constant and type in 16 bits, as converters make it."""
    proto = ir.to_proto(source)
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor).astype(dtype.numpy())
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = int(dtype)
    return ir.from_proto(proto)


SIZES = [(5, 7), (45, 45), (46, 46), (80, 80), (57, 101), (104, 104)]
POPULATION = CHAIN.replace("s = ReduceSum", "s = ReduceMean").replace("v = Div (s, n)", "v = Identity (s)")


@pytest.mark.parametrize("dtype", [ir.DataType.FLOAT16, ir.DataType.BFLOAT16])
@pytest.mark.parametrize(("h", "w"), SIZES)
def test_constants_that_a_converter_rounded(h: int, w: int, dtype: ir.DataType) -> None:
    shape = f"2, 3, {h}, {w}"
    (block,) = find(half(model(n=h * w - 1, shape=shape), dtype)).blocks
    assert block.dtype == dtype
    assert block.e_lambda == pytest.approx(1e-4, rel=1e-2)
    (block,) = find(half(model(MEAN, n=h * w / (h * w - 1), shape=shape), dtype)).blocks
    assert "population variance" in why(find(half(model(POPULATION, shape=shape), dtype)))


@pytest.mark.parametrize(("h", "w"), SIZES)
def test_a_population_variance_is_told_where_the_type_can_tell(h: int, w: int) -> None:
    m = h * w
    found = find(half(model(n=m, shape=f"2, 3, {h}, {w}"), ir.DataType.FLOAT16))
    assert bool(found.blocks) == (np.float16(m) == np.float16(m - 1))


def test_a_constant_that_a_converter_clipped(tmp_path: Path) -> None:
    clipped = half(model(n=10000, shape="1, 3, 104, 104"), ir.DataType.FLOAT16)
    assert "M - 1 is 10000 and should be 10815: some float16 converters clip constants so; fuse --repair" in why(
        find(clipped)
    )
    (row,) = fuse(clipped, "primitive", repair=True).rows
    assert row.shape == (1, 3, 104, 104)


@pytest.mark.parametrize(("m", "found"), [(300, True), (200, False)])
def test_infinity_is_the_rounded_constant_where_no_number_is(m: int, found: bool) -> None:
    """float16 ends at 65504: 89999 becomes infinite, and 39999 does not."""
    assert bool(find(half(model(n=np.inf, shape=f"1, 3, {m}, {m}"), ir.DataType.FLOAT16)).blocks) == found


BOUNDED = {
    "reached by a variance": (
        "v = Div (s, n)",
        "w = Div (s, n)\n b = Constant <value_float = 0.0> ()\n v = Max (w, b)",
    ),
    "crossed": ("g = Sigmoid (z)", "b = Constant <value_float = 3.0> ()\n w = Min (z, b)\n g = Sigmoid (w)"),
    "far away": ("v = Div (s, n)", "w = Div (s, n)\n b = Constant <value_float = 1e30> ()\n v = Min (w, b)"),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_bounds(name: str) -> None:
    line, bounded = BOUNDED[name]
    assert line in CHAIN
    assert bool(find(model(CHAIN.replace(line, bounded))).blocks) == (name == "reached by a variance")


def test_sides_of_a_softplus_that_all_show() -> None:
    """Where z > 20 some exporters write z for softplus(z): the same to 2e-9."""
    written = """o = Neg (z)
    most = Constant <value_float = -20.0> ()
    few = Less (o, most)
    ez = Exp (o)
    one = Constant <value_float = 1.0> ()
    p = Add (ez, one)
    l = Log (p)
    sp = Where (few, ez, l)
    ns = Neg (sp)
    g = Exp (ns)"""
    large = model(CHAIN.replace("g = Sigmoid (z)", written), shape="1, 3, 20, 20", n=399)
    assert find(large).blocks
    small = model(CHAIN.replace("g = Sigmoid (z)", written))
    assert "may change values that no probe has" in why(find(small)), "no z of 5x7 values comes to 20"


def test_sliding_windows_are_not_run() -> None:
    mean = 'mean = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], auto_pad = "NOTSET"> (x)'
    chain = CHAIN.replace("mean = ReduceMean <keepdims: int = 1> (x, hw)", mean)
    assert why(find(model(chain))) == "AveragePool has a sliding window; SimAM takes the whole plane"


@pytest.mark.parametrize(("shape", "n"), [("64, 64, 99, 1001", 99 * 1001 - 1), ("1, 512, 1024, 1024", 2**20 - 1)])
def test_large_maps_are_judged_on_few_planes(shape: str, n: int) -> None:
    assert find(model(shape=shape, n=n)).blocks
    assert "population variance" in why(find(model(shape=shape, n=n + 1)))


def test_what_is_too_large_says_so() -> None:
    assert "too large to be checked" in why(find(model(shape="1, 3, 100000, 100000", n=1e10)))
    wide = CHAIN.replace("d = Mul (c, c)", "big = Constant <value_ints = [1, 1, 40000, 1, 1]> ()\n"
                         "t5 = Expand (c, big)\n zero = Constant <value_ints = [0]> ()\n"
                         "t4 = ReduceMean <keepdims: int = 0> (t5, two_axis)\n d = Mul (c, t4)")  # fmt: skip
    said = why(find(model("two_axis = Constant <value_ints = [2]> ()\n" + wide)))
    assert "Expand makes" in said or "cannot be told" in said


@pytest.mark.parametrize("kind", ["string", "int32", "bool"])
def test_x_of_another_kind(kind: str) -> None:
    source = model()
    next(n for n in source.graph if n.op_type == "Relu").outputs[0].type = ir.TensorType(ir.DataType[kind.upper()])
    assert f"x is {kind.upper()}; SimAM takes FLOAT, FLOAT16, BFLOAT16, DOUBLE" in why(find(source))


def another_opset(form: str, *changes: str) -> ir.Model:
    """A file of opset 18 with the body of a block in opset 20, where the operators in it are the same."""
    proto = ir.to_proto(forms.alone(form, (2, 3, 5, 7)))
    (function,) = proto.functions
    next(entry for entry in function.opset_import if not entry.domain).version = 20
    for node in function.node:
        node.op_type = dict(zip(changes[::2], changes[1::2], strict=True)).get(node.op_type, node.op_type)
    return ir.from_proto(proto)


def test_a_body_of_another_opset_is_judged_by_what_it_computes() -> None:
    assert len(find(another_opset("function")).blocks) == 1
    assert "gate is not a function of" in why(find(another_opset("function", "Sigmoid", "Tanh")))


@pytest.mark.parametrize(("batch", "channels", "planes"), [(8, 256, 56), (64, 3, 256)])
def test_a_large_batch_with_numbers_per_channel(batch: int, channels: int, planes: int) -> None:
    (block,) = find(forms.alone("instance_norm", (batch, channels, planes, planes))).blocks
    assert block.e_lambda == pytest.approx(1e-4)


def test_a_constant_for_each_batch_element_hides_nothing() -> None:
    chain = CHAIN.replace("z = Add (e, half)", "f = Mul (e, gates)\n   z = Add (f, half)")
    weights = "float[8, 1, 1, 1] gates = {1, 1, 1, 1, 1, 1, 1, 1.5},"
    assert why(find(model(chain, shape="8, 3, 5, 7", weights=weights)))


def test_the_work_in_a_body_of_another_opset_counts() -> None:
    """It is not run: planes of 600x600 are multiplied with themselves, and the product with 0."""
    squares = "m = MatMul (x, x)\n n0 = Mul (m, zero)\n zz = Add (z, n0)\n g = Sigmoid (zz)"
    constants = "hw = Constant <value_ints = [2, 3]> ()\n" + "".join(
        f"{name} = Constant <value_float = {value}> ()\n"
        for name, value in {"n": 359999.0, "lam": 1e-4, "four": 4.0, "half": 0.5, "zero": 0.0}.items()
    )
    text = f"""<ir_version: 8, opset_import: ["": 18, "m": 1]>
    g (float[1, 2, 600, 600] image) => (float[1, 2, 600, 600] out) {{ out = m.part (image) }}
    <domain: "m", opset_import: ["": 20]> part (x) => (y) {{
        {constants} {CHAIN.replace("g = Sigmoid (z)", squares)}
    }}"""
    assert "it takes too long on x of 1x2x600x600, at MatMul" in why(find(ir.from_proto(parser.parse_model(text))))
