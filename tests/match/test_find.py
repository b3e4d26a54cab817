"""What is found in an ONNX model, what is a near miss, and what is said about it."""

from pathlib import Path

import onnx_ir as ir
import pytest
from helpers.onnx_models import CHAIN, model
from helpers.spellings import SPELLINGS

from simam_deploy.block import Block
from simam_deploy.graph import onnx_file
from simam_deploy.match.find import find
from simam_deploy.rewrite.forms import FORMS, alone


def only_block(found_in: ir.Model) -> Block:
    found = find(found_in)
    assert len(found.blocks) == 1, found.near_misses
    assert not found.near_misses
    return found.blocks[0]


def reasons(searched: ir.Model) -> str:
    found = find(searched)
    assert not found.blocks
    return "; ".join(reason for miss in found.near_misses for reason in miss.reasons)


@pytest.mark.parametrize("e_lambda", [1e-4, 0.1, 3e-7])
def test_a_block_is_found_with_all_about_it(e_lambda: float) -> None:
    block = only_block(model(lam=e_lambda))
    assert (block.x.name, block.y.name, block.node) == ("x", "y", "Mul_11")
    assert block.shape == (2, 3, 5, 7)
    assert block.map_size == 35
    assert block.dtype == ir.DataType.FLOAT
    assert block.e_lambda == pytest.approx(e_lambda, rel=1e-6)
    assert block.form == "primitive"
    assert len(block.inside) == 11


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("e_lambda", [1e-4, 0.1])
def test_every_form_is_found_as_itself(form: str, e_lambda: float) -> None:
    block = only_block(alone(form, (2, 3, 5, 7), e_lambda))
    assert block.form == form
    assert block.e_lambda == pytest.approx(e_lambda, rel=1e-6)


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 20, 23])
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), ("n", 3, "h", "w"), (1, "c", 1, 2)], ids=str)
def test_the_primitive_form_is_found_at_every_opset(opset: int, shape: tuple[int | str, ...]) -> None:
    assert only_block(alone("primitive", shape, opset=opset)).shape == shape


@pytest.mark.parametrize("name", [*SPELLINGS, "negative axes"])
def test_spellings(name: str) -> None:
    chain = CHAIN
    for line, other in SPELLINGS.get(name, {}).items():
        assert line in chain
        chain = chain.replace(line, other)
    found = only_block(model(chain, hw="-1, -2" if name == "negative axes" else "2, 3"))
    assert found.e_lambda == pytest.approx(1e-4)


def test_sizes_measured_on_a_far_input_are_followed_by_shape_inference() -> None:
    """torch.export computes M - 1 from the sizes of the graph's input, far from x."""
    far = """i_shape = Shape <start: int = 2> (image)
    one = Constant <value_int = 1> ()
    two = Constant <value_int = 2> ()
    less = Sub (i_shape, one)
    halved = Div (less, two)
    more = Add (halved, one)
    m = ReduceProd <keepdims: int = 0> (more)
    n_int = Sub (m, one)
    m_1 = Cast <to: int = 1> (n_int)
    x = MaxPool <kernel_shape: ints = [1, 1], strides: ints = [2, 2]> (image)"""
    chain = CHAIN.replace("Div (s, n)", "Div (s, m_1)")
    shape = '2, 3, "h", "w"'.replace('"', "")
    assert only_block(model(chain, shape=shape, before=far))
    wrong = far.replace("more = Add (halved, one)", "more = Identity (halved)")
    assert "M - 1 =" in reasons(model(chain, shape=shape, before=wrong))
    right_at_even_sizes = far.replace("Div (less, two)", "Div (i_shape, two)").replace(
        "Add (halved, one)", "Identity (halved)"
    )
    assert "M - 1 =" in reasons(model(chain, shape=shape, before=right_at_even_sizes))


MISSES = {
    "population variance": (CHAIN, {"n": 35}, r"population variance"),
    "another constant": (CHAIN, {"four": 2}, r"divides \(x - mean\)² by 2 "),
    "no half": (CHAIN, {"half": 0}, r"adds 0 in front of the sigmoid"),
    "channels too": (CHAIN, {"hw": "1, 2, 3"}, r"over H and W alone"),
    "λ of zero": (CHAIN, {"lam": 0}, r"must be positive"),
    "gate of something else": (CHAIN.replace("Mul (x, g)", "Mul (c, g)"), {}, "'c' by the gate of 'x'"),
    "twice the gate": (CHAIN.replace("y = Mul (x, g)", "f = Add (g, g)\n y = Mul (x, f)"), {}, r"not a gate"),
    "learned scale": (CHAIN.replace("(d, q)", "(d2, q)").replace("e =", "d2 = Mul (d, four)\n e ="), {}, r"divides"),
    "1x1 map": (CHAIN, {"shape": "2, 3, 1, 1"}, r"1x1, where SimAM is 0/0"),
    "2-D": (CHAIN, {"shape": "2, 35", "hw": "1"}, r"x is 2-D; SimAM takes \(N, C, H, W\)"),
    "rows of a volume": (CHAIN, {"shape": "2, 3, 4, 5, 7", "hw": "3, 4"}, r"over H and W alone"),
}


@pytest.mark.parametrize("name", MISSES)
def test_near_misses_say_why(name: str) -> None:
    chain, changes, words = MISSES[name]
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(reasons(model(chain, **changes)))


@pytest.mark.parametrize(("shape", "hw"), [("2, 3, 35", "2"), ("2, 3, 5, 7, 1", "2, 3, 4")])
def test_audio_and_volumes(shape: str, hw: str) -> None:
    block = only_block(model(shape=shape, hw=hw))
    assert block.shape == tuple(int(d) for d in shape.split(","))
    assert block.map_size == 35


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"outputs": "c"}, "'c' is also an output of the graph"),
        ({"after": "out = Add (y, d)"}, "'d' is also used by Add 'Add_12'"),
    ],
)
def test_inner_values_that_others_use_are_named(changes: dict[str, str], words: str) -> None:
    assert only_block(model(**changes)).shared == (words,)


HALVES = CHAIN.replace(
    "t = Add (v, lam)",
    """first = Constant <value_ints = [0]> ()
    fourth = Constant <value_ints = [4]> ()
    last = Constant <value_ints = [99]> ()
    channel = Constant <value_ints = [1]> ()
    big = Constant <value_float = 0.1> ()
    v_left = Slice (v, first, fourth, channel)
    v_right = Slice (v, fourth, last, channel)
    t_left = Add (v_left, lam)
    t_right = Add (v_right, big)
    t = Concat <axis: int = 1> (t_left, t_right)""",
)


def test_channels_that_are_treated_unlike_others_show_at_the_real_size() -> None:
    """λ is another from channel 4 on: three channels would not show it."""
    found = find(model(HALVES, shape="2, 8, 5, 7"))
    assert not found.blocks
    assert len(found.near_misses) == 1
    assert "sizes of x are not fixed" in reasons(model(HALVES, shape="2, c, 5, 7"))


LOOKALIKES = {
    "λ grows with the batch": ("n, 3, 5, 7", "lam_b = Mul (lam, batch)", {"(v, lam)": "(v, lam_b)"}),
    "M - 1 ends at 100": ("2, 3, h, w", "most = Constant <value_float = 100.0> ()\n n_x = Min (m_1, most)", {}),
    "groups of two channels": (
        "n, 6, 5, 7",
        """grouped = Constant <value_ints = [0, 3, -1, 7]> ()
        back = Constant <value_ints = [0, 6, 5, 7]> ()""",
        {
            "mean = ReduceMean <keepdims: int = 1> (x, hw)\n   c = Sub (x, mean)": "r = Reshape (x, grouped)\n"
            "mean = ReduceMean <keepdims: int = 1> (r, hw)\n c_r = Sub (r, mean)\n c = Reshape (c_r, back)"
        },
    ),
    "rounded to float16": (
        "2, 3, 5, 7",
        "",
        {"g = Sigmoid (z)": "z16 = Cast <to: int = 10> (z)\n z32 = Cast <to: int = 1> (z16)\n g = Sigmoid (z32)"},
    ),
}


@pytest.mark.parametrize("name", LOOKALIKES)
def test_what_only_small_probes_take_for_simam(name: str) -> None:
    shape, extra, changes = LOOKALIKES[name]
    sizes = """x_shape = Shape (x)
    x_hw = Gather (x_shape, hw)
    m = ReduceProd <keepdims: int = 0> (x_hw)
    one = Constant <value_int = 1> ()
    m_int = Sub (m, one)
    m_1 = Cast <to: int = 1> (m_int)
    n_x = Identity (m_1)
    x_n = Shape <start: int = 0, end: int = 1> (x)
    two = Constant <value_float = 2.0> ()
    batch_f = Cast <to: int = 1> (x_n)
    batch = Div (batch_f, two)
    """
    chain = CHAIN.replace("(s, n)", "(s, n_x)")
    assert find(model(sizes + chain, shape=shape)).blocks, "the control is SimAM"
    if "n_x =" in extra:
        sizes = sizes.replace("n_x = Identity (m_1)", "")
    for old, new in changes.items():
        assert old in chain
        chain = chain.replace(old, new)
    assert reasons(model(sizes + extra + chain, shape=shape))


def test_bounds_that_no_probe_reaches_are_named() -> None:
    chain = CHAIN.replace("s = Reduce", "most = Constant <value_float = 1e20> ()\n dc = Min (d, most)\n s = Reduce")
    chain = chain.replace("ReduceSum <keepdims: int = 1> (d,", "ReduceSum <keepdims: int = 1> (dc,")
    assert "may change values that no probe has" in reasons(model(chain))


def test_other_gates_are_not_even_near() -> None:
    for chain in ("g = Sigmoid (x)\n y = Mul (x, g)", "s = ReduceMean (x, hw)\n g = Sigmoid (s)\n y = Add (x, g)"):
        assert find(model(chain)) == find(model("y = Relu (x)"))


def test_a_wrong_body_is_not_trusted_for_its_name() -> None:
    fused = alone("function", (2, 3, 5, 7))
    (function,) = fused.functions.values()
    half = next(node for node in function if node.name == "half_")
    half.attributes["value"] = ir.AttrTensor("value", ir.tensor(0.25, dtype=ir.DataType.FLOAT))
    assert "adds 0.25 in front" in reasons(fused)


@pytest.mark.parametrize(
    ("operator", "words"),
    [
        ("Clip", "in the body of a function, Clip 'hidden' may change values that no probe has"),
        ("Slice", "in the body of a function, Slice 'hidden' picks out a part of x"),
        ("Erf", "in the body of a function, Erf 'hidden' is not known"),
    ],
)
def test_a_body_holds_nothing_that_no_probe_shows(operator: str, words: str) -> None:
    """A file can bring any body under our name."""
    fused = alone("function", (2, 3, 5, 7))
    (function,) = fused.functions.values()
    centred = next(node for node in function if node.name == "c")
    bounds = [ir.node("Constant", [], {"value_ints": [v]}, name=f"bound{v}") for v in (0, 9)]
    inputs = (
        [centred.outputs[0], *(bound.outputs[0] for bound in bounds)] if operator == "Slice" else [centred.outputs[0]]
    )
    hidden = ir.node(operator, inputs, name="hidden")
    for node in (*bounds, hidden):
        node.outputs[0].name = node.name
    users = [(use.node, use.idx) for use in centred.outputs[0].uses() if use.node is not hidden]
    for user, index in users:
        user.replace_input_with(index, hidden.outputs[0])
    function.insert_after(centred, [*bounds, hidden])
    assert words in reasons(fused)


def test_a_node_without_a_body_must_say_lambda() -> None:
    bare = alone("custom_op", (2, 3, 5, 7))
    bare.graph[0].attributes.clear()
    assert "no attribute e_lambda" in reasons(bare)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
@pytest.mark.parametrize("form", ["primitive", "function", "instance_norm"])
def test_casts_to_and_from_half_belong_to_the_block(half: str, form: str) -> None:
    code = {"float16": 10, "bfloat16": 16}[half]
    before = "w = Cast <to: int = 1> (image)\n x = Relu (w)"
    chain = f"x16 = Cast <to: int = {code}> (x)\n x32 = Cast <to: int = 1> (x16)\n"
    chain += CHAIN.replace("(x,", "(x32,").replace("y = Mul (x32, g)", "y32 = Mul (x32, g)")
    chain += f"\n y16 = Cast <to: int = {code}> (y32)\n y = Cast <to: int = 1> (y16)"
    from simam_deploy.rewrite.fuse import fuse

    source = model(chain, before=before)
    block = only_block(source)
    assert (block.x.name, block.y.name, block.dtype.name) == ("x16", "y16", half.upper())
    again = only_block(fuse(source, form).model)
    assert (again.x.name, again.y.name, again.dtype.name, again.form) == ("x16", "y16", half.upper(), form)


def test_constants_in_a_file_beside(tmp_path: Path) -> None:
    ir.save(model(), tmp_path / "m.onnx", external_data="m.data", size_threshold_bytes=0)
    assert (tmp_path / "m.data").stat().st_size > 0
    assert only_block(onnx_file.load(tmp_path / "m.onnx")).e_lambda == pytest.approx(1e-4)


def test_progress_names_each_candidate() -> None:
    seen: list[str] = []
    find(model(), seen.append)
    assert seen == ["Mul_11"]
