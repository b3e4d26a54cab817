"""A branch on the size that an exporter froze: the check of export tries sizes of other remainders."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simam_deploy import SimAM
from simam_deploy.errors import InputError, VerificationError
from simam_deploy.to_onnx import Exported, export
from simam_deploy.to_onnx.axes import DynamicAxes, odd_sizes
from simam_deploy.to_onnx.torch_export import EXPORTERS

AXES: DynamicAxes = {"x": {0: "batch", 2: "height", 3: "width"}}
FROZEN = r"fails at sizes other than the example's alone.*\n.*forward raise.*--dynamic"


class Net(nn.Module):
    def __init__(self, behind: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.simam, self.behind = SimAM(), behind

    def forward(self, x: Tensor) -> Tensor:
        return self.behind(self.simam(self.conv(x)))


def pooled_even(y: Tensor) -> Tensor:
    if y.shape[-1] % 2:
        y = F.pad(y, (0, 1))
    return F.avg_pool2d(y, (1, 2))


def to_a_multiple(y: Tensor) -> Tensor:
    h, w = y.shape[-2:]
    if h % 8 or w % 8:
        y = F.interpolate(y, size=((h + 7) // 8 * 8, (w + 7) // 8 * 8))
    return y


def halved_unless_of_16(y: Tensor) -> Tensor:
    if y.shape[2] % 4:
        raise ValueError("H must be a multiple of 4")
    return y if y.shape[2] % 16 == 0 else y * 0.5


def halved_for_one(y: Tensor) -> Tensor:
    return y * 0.5 if y.shape[0] == 1 else y


def exported(behind: Callable[[Tensor], Tensor], path: Path, *shape: int, **options: object) -> Exported:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    fixed = {"runtimes": ["ort"], "inputs": ["plain"], "dynamic": "batch,height,width"}
    return export(Net(behind), x, path, **fixed | options)  # type: ignore[arg-type]


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize(
    ("behind", "shape"),
    [
        (pooled_even, (1, 3, 8, 8)),
        (pooled_even, (2, 3, 20, 12)),
        (to_a_multiple, (1, 3, 16, 8)),
        (halved_unless_of_16, (2, 3, 16, 16)),
    ],
    ids=["padded to even", "and another size", "to a multiple", "multiples that the model takes"],
)
def test_a_branch_on_the_size_that_is_frozen_is_not_written(
    tmp_path: Path, exporter: str, behind: Callable[[Tensor], Tensor], shape: tuple[int, ...]
) -> None:
    with pytest.raises((VerificationError, InputError), match=f"(?s){FROZEN}|the exporter fixed one"):
        exported(behind, tmp_path / "m.onnx", *shape, exporter=exporter)
    assert list(tmp_path.iterdir()) == []


def test_a_branch_on_a_batch_of_one_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=f"(?s){FROZEN}") as caught:
        exported(halved_for_one, tmp_path / "m.onnx", 2, 3, 6, 6, exporter="torchscript", dynamic="batch")
    assert caught.value.report is not None
    assert {row.case for row in caught.value.report.rows if not row.passed} == {"odd size"}
    assert "odd size: x (1, 3, 6, 6)" in caught.value.report.notes


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_sizes_that_pass_are_named(tmp_path: Path, exporter: str) -> None:
    parity = exported(lambda y: F.avg_pool2d(y, 2), tmp_path / "m.onnx", 1, 3, 8, 8, exporter=exporter).parity
    assert parity is not None
    assert parity.passed
    assert [row.case for row in parity.rows] == ["example", "plain", "other size", "odd size"]
    assert {"other size: x (2, 3, 16, 24)", "odd size: x (3, 3, 9, 11)"} <= set(parity.notes)


def test_a_size_that_the_model_refuses_is_left_out_and_named(tmp_path: Path) -> None:
    def of_four(y: Tensor) -> Tensor:
        if y.shape[2] % 4:
            raise ValueError("H must be a multiple of 4")
        return y

    options = {"exporter": "torchscript", "dynamic": "height"}
    parity = exported(of_four, tmp_path / "m.onnx", 1, 3, 8, 8, **options).parity
    assert parity is not None
    assert "the model takes no x (1, 3, 9, 8), so the file was not tried at such a size" in parity.notes
    assert "odd multiple of 4: x (1, 3, 12, 8)" in parity.notes

    def of_32(y: Tensor) -> Tensor:
        assert y.shape[2] % 32 == 0
        return y

    parity = exported(of_32, tmp_path / "m.onnx", 1, 3, 32, 8, **options).parity
    assert parity is not None
    assert "the model takes no x (1, 3, 33, 8), so the file was not tried at such a size" in parity.notes
    assert [row.case for row in parity.rows] == ["example", "plain", "other size"]


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((2, 3, 64, 64), [(1, 3, 65, 67), (1, 3, 66, 70), (1, 3, 68, 76), (1, 3, 72, 88), (1, 3, 80, 112)]),
        ((1, 3, 20, 33), [(3, 3, 21, 35), (3, 3, 22, 34), (3, 3, 28, 36), (3, 3, 24, 40), (3, 3, 48, 80)]),
    ],
)
def test_odd_sizes_and_odd_multiples(shape: tuple[int, ...], sizes: list[tuple[int, ...]]) -> None:
    found = list(odd_sizes(AXES, {"x": torch.zeros(shape)}))
    assert [step for step, _ in found] == [1, 2, 4, 8, 16]
    assert [of["x"] for _, of in found] == sizes


def test_inputs_keep_their_ratio_where_it_is_whole() -> None:
    axes: DynamicAxes = {"x": {2: "height"}, "mask": {1: "height_mask"}}
    tensors = {"x": torch.zeros(1, 3, 64, 8), "mask": torch.zeros(1, 16)}
    assert dict(odd_sizes(axes, tensors))[4] == {"x": (1, 3, 68, 8), "mask": (1, 17)}
    assert dict(odd_sizes({"x": {0: "batch"}}, {"x": torch.zeros(4, 2)})) == {1: {"x": (1, 2)}}
