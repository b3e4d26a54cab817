"""M - 1 computed with remainders of sizes, as for an input that is padded to a multiple: judged at each remainder."""

import math
from pathlib import Path

import onnx_ir as ir
import pytest
import torch
from helpers.modules import simam_module
from helpers.onnx_models import CHAIN, model
from torch import nn
from torch.nn import functional as F

import simam_deploy.graph.shapes
from simam_deploy.block import Found
from simam_deploy.graph.shapes import choices
from simam_deploy.match.find import find
from simam_deploy.to_onnx import export

NUMBER = """
    x = Relu (image)
    h1 = Shape <start: int = 2, end: int = 3> (image)
    w1 = Shape <start: int = 3, end: int = 4> (image)
    h = Squeeze (h1)
    w = Squeeze (w1)
    r = Mod (h, by)
    {m}
    less = Sub (m, one)
    number = Cast <to: int = 1> (less)
"""
PUT_TOGETHER = "q0 = Div (h, by)  q1 = Mul (q0, by)  h2 = Add (q1, r)  m = Mul (h2, w)"
AT_TWO_REMAINDERS = "hw0 = Mul (h, w)  r7 = Sub (r, seven)  no = Mul (r, r7)  m = Add (hw0, no)"
"""Right where the height is 64, 71, 128 or 224: all sizes that every network is tried at."""


def computed(m: str, by: int = 32, shape: str = "N, 3, H, W") -> Found:
    chain = CHAIN.replace("Div (s, n)", "Div (s, number)")
    ints = f"int64 by = {{{by}}}, int64 one = {{1}}, int64 seven = {{7}},"
    return find(model(chain, shape=shape, before=NUMBER.format(m=m), weights=ints))


@pytest.mark.parametrize("by", [2, 7, 32, 64])
def test_a_number_that_is_right_at_each_remainder(by: int) -> None:
    (block,) = computed(PUT_TOGETHER, by).blocks
    assert block.e_lambda == pytest.approx(1e-4)


def test_a_number_that_is_right_at_some_remainders_only() -> None:
    found = computed(AT_TWO_REMAINDERS)
    assert not found.blocks
    assert "M - 1" in found.near_misses[0].reasons[0]


PADDED = """
    h1 = Shape <start: int = 2, end: int = 3> (image)
    w1 = Shape <start: int = 3, end: int = 4> (image)
    down = Neg (h1)
    right = Neg (w1)
    ph = Mod (down, by)
    pw = Mod (right, by)
    pads = Concat <axis: int = 0> (zeros, ph, pw)
    x = Pad (image, pads)
    h = Add (h1, ph)
    w = Add (w1, pw)
    hw0 = Mul (h, w)
    r = Mod (h1, by)
    r7 = Sub (r, seven)
    no = Mul (r, r7)
    r1 = Sub (r, one)
    no1 = Mul (no, r1)
    r2 = Sub (r1, one)
    no2 = Mul (no1, r2)
    wrong = Mul (no2, factor)
    m = Add (hw0, wrong)
    less = Sub (m, one)
    plane = Squeeze (less)
    number = Cast <to: int = 1> (plane)
"""


@pytest.mark.parametrize(("factor", "blocks"), [(0, 1), (1, 0)])
def test_two_numbers_for_one_size_of_x(factor: int, blocks: int) -> None:
    """Many sizes of the image give x one size: each with its number is judged. Those that are met first are right."""
    ints = f"int64 by = {{32}}, int64 one = {{1}}, int64 seven = {{7}}, int64 factor = {{{factor}}},"
    ints += "int64[6] zeros = {0, 0, 0, 0, 0, 0},"
    chain = CHAIN.replace("Div (s, n)", "Div (s, number)")
    text = model(chain, shape="N, 3, H, W", before=PADDED, weights=ints, after="r0 = Relu (y)\n out = Identity (r0)")
    assert len(find(text).blocks) == blocks


def test_only_the_size_that_is_there_counts_where_it_is_fixed() -> None:
    assert len(computed(AT_TWO_REMAINDERS, shape="2, 3, 71, 57").blocks) == 1
    assert not computed(AT_TWO_REMAINDERS, shape="2, 3, 72, 57").blocks


def test_too_many_remainders_are_a_doubt() -> None:
    assert "may give another number at other sizes" in computed(PUT_TOGETHER, 65).near_misses[0].reasons[0]


def test_a_large_network_is_not_gone_through_for_each_remainder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simam_deploy.graph.shapes, "_MOST_STEPS", 600)
    assert len(computed(PUT_TOGETHER, 16).blocks) == 1
    assert "could not be inferred for all input sizes" in computed(PUT_TOGETHER, 32).near_misses[0].reasons[0]


class Padded(nn.Module):
    """As detectors and windowed transformers begin: the input is padded to a multiple."""

    def __init__(self, multiple: int) -> None:
        super().__init__()
        self.multiple = multiple
        self.conv = nn.Conv2d(3, 4, 3, 2, 1)
        self.attention = simam_module()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        right, below = -x.shape[3] % self.multiple, (self.multiple - x.shape[2] % self.multiple) % self.multiple
        gated: torch.Tensor = self.attention(self.conv(F.pad(x, (0, right, 0, below))))
        return gated.mean((2, 3))


@pytest.mark.parametrize(("multiple", "adopt"), [(7, False), (32, True)])
def test_dynamo_computes_the_size_from_the_input(multiple: int, adopt: bool, tmp_path: Path) -> None:
    file = tmp_path / "padded.onnx"
    args = (torch.randn(2, 3, 70, 90),)
    axes = ("batch", "height", "width")
    exported = export(Padded(multiple).eval(), args, file, dynamic=axes, adopt=adopt, runtimes=["ort"])
    assert len(exported.fused.rows) == 1
    assert "Mod" in {node.op_type for node in ir.load(file).graph}


def test_maps_with_depth_are_small() -> None:
    """One of 64x96x64 takes seconds to judge."""
    for names in ("dhw", "ddd"):
        tried = list(choices.sizes([("n", 0), *((name, axis) for axis, name in enumerate(names, 2))]))
        maps = [math.prod(sizes[name] for name in names) for sizes in tried]
        assert len(tried) == (5 if names == "dhw" else 4)
        assert max(maps) < 3 * 10**5
        assert len(set(maps)) == len(maps)
