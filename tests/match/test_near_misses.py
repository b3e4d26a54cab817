"""What is near SimAM and has a name is called by it: another layout, another use of the gate."""

import onnx_ir as ir
import pytest
from helpers.onnx_models import CHAIN, model
from helpers.spellings import SPELLINGS

from simam_deploy.block import NearMiss
from simam_deploy.match.find import find

END = "y = Mul (x, g)"
CONV = {"weights": "float[3, 3, 1, 1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9},"}


def miss(searched: ir.Model) -> NearMiss:
    found = find(searched)
    assert not found.blocks
    (only,) = found.near_misses
    return only


@pytest.mark.parametrize(
    ("shape", "hw"),
    [
        ("2, 5, 7, 3", "1, 2"),
        ("n, 5, 7, c", "1, 2"),
        ("2, 5, 7, 3", "-3, -2"),
        ("2, 35, 4", "1"),
        ("2, 5, 7, 1, 3", "1, 2, 3"),
    ],
)
@pytest.mark.parametrize(
    "spelling", [{}, SPELLINGS["exp"], SPELLINGS["mean of squares"]], ids=["plain", "exp", "mean"]
)
def test_channels_last(shape: str, hw: str, spelling: dict[str, str]) -> None:
    chain = CHAIN
    for line, other in spelling.items():
        chain = chain.replace(line, other)
    found = miss(model(chain, shape=shape, hw=hw))
    assert "SimAM of x with the channels last, (N, H, W, C)" in str(found)
    assert "Transpose on each side" in str(found)


@pytest.mark.parametrize("change", [{"n": 35}, {"half": 0}, {"hw": "1, 2, 3"}, {"hw": "2"}])
def test_another_formula_on_channels_last_is_not_said_to_be(change: dict[str, object]) -> None:
    found = miss(model(**{"shape": "2, 5, 7, 3", "hw": "1, 2", **change}))
    assert "channels last" not in str(found)


ANOTHER = {
    "of an input": ("y = Mul (image, g)", {}, "'image' by the gate of 'x'"),
    "of a convolution of it": ("o = Conv (x, w)\n y = Mul (o, g)", CONV, "'o' by the gate of 'x'"),
    "of a convolution beside": ("o = Conv (image, w)\n y = Mul (g, o)", CONV, "'o' by the gate of 'x'"),
    "of the deviations": ("y = Mul (c, g)", {}, "'c' by the gate of 'x'"),
}


@pytest.mark.parametrize("name", ANOTHER)
def test_a_gate_of_another_value(name: str) -> None:
    end, given, words = ANOTHER[name]
    found = miss(model(CHAIN.replace(END, end), **given))
    assert f"it multiplies {words}" in str(found)
    other = miss(model(CHAIN.replace(END, end), n=35, **given))
    assert "by the gate of" not in str(other), "the gate of a population variance is not SimAM's"


ONE = "one = Constant <value_float = 1.0> ()\n"
RELATED = {
    "one less the gate": (f"{ONE} o = Sub (one, g)\n y = Mul (x, o)", r"x * (1 - gate)"),
    "less what SimAM makes": (f"{ONE} o = Neg (g)\n p = Add (o, one)\n y = Mul (p, x)", r"x * (1 - gate)"),
    "one more than the gate": (f"{ONE} o = Add (one, g)\n y = Mul (x, o)", r"x + x * gate"),
}


@pytest.mark.parametrize("name", RELATED)
def test_x_by_what_is_made_of_the_gate(name: str) -> None:
    end, words = RELATED[name]
    assert f"it is {words}, where SimAM is x * gate" in str(miss(model(CHAIN.replace(END, end))))
    assert "where SimAM is x * gate" not in str(miss(model(CHAIN.replace(END, end), half=0.25)))


@pytest.mark.parametrize("end", ["y = Identity (g)", "y = Relu (g)", "y = Softmax (g)"])
def test_a_gate_that_is_returned(end: str) -> None:
    found = miss(model(CHAIN.replace(END, end)))
    assert (found.node, *found.reasons) == (
        "Sigmoid_10",
        "it is the gate of 'x' alone: nothing is multiplied by it",
    )
    assert not find(model(CHAIN.replace(END, end), n=35)).near_misses


def test_a_sum_with_a_block_is_a_block_and_no_miss() -> None:
    found = find(model(CHAIN.replace(END, "p = Mul (x, g)\n y = Add (x, p)")))
    assert [block.y.name for block in found.blocks] == ["p"]
    assert not found.near_misses
