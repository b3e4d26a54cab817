"""A λ that a converter rounded to 16 bits is named, and restored on request; another λ is refused."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from helpers.half_nets import naive, saved, x_of

import simam_deploy as sd
from simam_deploy.match.find import find
from simam_deploy.rewrite.fuse import fuse
from simam_deploy.rewrite.restore_lambda import before_rounding


@pytest.mark.parametrize("e_lambda", [1e-4, 0.1, 0.5, 1e-3, 1e-5, 0.0625, 1e-8, 3e-4])
def test_a_chosen_number_is_not_taken_for_a_rounded_one(e_lambda: float) -> None:
    assert before_rounding(float(np.float32(e_lambda))) is None


@pytest.mark.parametrize("e_lambda", [1e-4, 0.1, 1e-3, 1e-5, 0.3, 0.025, 1e-6])
def test_a_rounded_number_leads_back(e_lambda: float) -> None:
    assert before_rounding(float(np.float16(e_lambda))) == pytest.approx(e_lambda, rel=1e-9)


def test_what_was_raised_stays_unknown() -> None:
    assert before_rounding(float(np.float16(1e-7))) == float(np.float16(1e-7))


def half(e_lambda: float) -> ir.Model:
    return ir.from_proto(naive(20, e_lambda=e_lambda))


def test_fuse_names_it_and_restores_it() -> None:
    told = fuse(half(0.1))
    words = "block: λ is 0.09997559, which is 0.1 rounded to float16; restore it: simam-deploy fuse --lambda 0.1"
    assert words in told.notes
    assert told.rows[0].e_lambda == pytest.approx(0.0999756, rel=1e-5)
    done = fuse(half(0.1), e_lambda=[0.1])
    assert done.rows[0].e_lambda == 0.1
    assert [block.e_lambda for block in find(done.model).blocks] == [0.1]
    assert not any("rounded" in note for note in done.notes)


def test_one_that_was_raised_is_restored_too() -> None:
    assert "among the smallest numbers of float16" in "".join(fuse(half(1e-7)).notes)
    assert fuse(half(1e-7), e_lambda=[1e-8]).rows[0].e_lambda == 1e-8


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ([0.2], r"--lambda 0.2 is not what was rounded to λ = 0.0999756 of the block at block"),
        ([0.1, 0.1], "--lambda gives λ for 2 blocks, and the file has 1"),
        ([-0.1], "--lambda is a positive number; got -0.1"),
        ([float("nan")], "--lambda is a positive number; got nan"),
    ],
)
def test_another_network_is_refused(wanted: list[float], words: str) -> None:
    with pytest.raises(sd.InputError, match=words):
        fuse(half(0.1), e_lambda=wanted)


def test_the_float32_file_restores_it(tmp_path: Path) -> None:
    plain = saved(tmp_path, naive(20, "float32", e_lambda=0.1))
    low = saved(tmp_path, naive(20, e_lambda=0.1), "low.onnx")
    done = sd.fuse(low, tmp_path / "out.onnx", e_lambda=plain)
    assert done.rows[0].e_lambda == 0.1
    assert sd.verify(plain, tmp_path / "out.onnx", inputs={"x": x_of(20, 1, 0)}).passed
    report = sd.verify(plain, low, inputs={"x": x_of(20, 1, 0)}, runtimes=["onnx_half"])
    assert any("which is 0.1 rounded to float16" in note for note in report.notes)


def test_a_block_that_is_repaired_gets_it_too() -> None:
    """A converter clips M - 1 to 10000 and rounds λ, in one file."""
    model = half(1e-4)
    model.graph.initializers["n"].const_value = ir.tensor(np.array(255, np.float16))
    assert not find(model).blocks
    (row,) = fuse(model, repair=True, e_lambda=[1e-4]).rows
    assert row.e_lambda == 1e-4


def test_a_rounded_multiple_is_seen() -> None:
    """4 (v + λ) is also written as 4 v + 4 λ, and 4e-8 becomes 5.96e-8."""
    e_lambda = float(np.float16(4e-8)) / 4
    assert before_rounding(e_lambda) == pytest.approx(e_lambda)


@pytest.mark.parametrize("share", [3, 10])
def test_no_other_part_of_a_rounded_number_is_seen(share: int) -> None:
    """1.0001659e-5 is a tenth of 1e-4 in float16, and nothing that float16 makes of 1e-5."""
    assert before_rounding(float(np.float16(1e-4)) / share) is None
