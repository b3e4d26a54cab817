"""Code that names narrower types, computed in float64 all the same."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from simam_deploy import SimAM, open_session
from simam_deploy.pytorch.to_float64 import Widened
from simam_deploy.to_onnx import export

X = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
NARROW = torch.tensor([0.1, 0.2, 0.3])
CASTS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "float": (lambda x: x.float(), "float32"),
    "to": (lambda x: x.to(torch.float32), "float32"),
    "to by name": (lambda x: x.to(dtype=torch.float32, copy=True), "float32"),
    "to another tensor's": (lambda x: x.to(NARROW), "float32"),
    "type": (lambda x: x.type(torch.float32), "float32"),
    "type of tensors": (lambda x: x.type(torch.FloatTensor), "FloatTensor"),
    "type by name": (lambda x: x.type("torch.FloatTensor"), "FloatTensor"),
    "type_as": (lambda x: x.type_as(NARROW), "float32"),
    "half": (lambda x: x.half(), "float16"),
    "bfloat16": (lambda x: x.bfloat16(), "bfloat16"),
    "to 16 bits and back": (lambda x: x.to(torch.float16).float(), "float16, float32"),
}


def assigned(x: Tensor) -> Tensor:
    y = torch.empty(2, 3, dtype=torch.float32)
    y[:, :2] = x[:, :2]
    y[:, 2:] = x[:, 2:]
    return y


SAME: dict[str, Callable[[Tensor], Tensor]] = {
    "zeros": lambda x: x + torch.zeros(3, dtype=torch.float32),
    "zeros_like": lambda x: x + torch.zeros_like(x, dtype=torch.float32),
    "new_zeros": lambda x: torch.cat([x, x.new_zeros(1, 3, dtype=torch.float32)])[:2],
    "cat with float32": lambda x: torch.cat([x, torch.ones(1, 3)])[:2],
    "matmul with float32": lambda x: x @ torch.eye(3),
    "functional": lambda x: nn.functional.linear(x, torch.eye(3), torch.zeros(3)),
    "arange": lambda x: x + 0 * torch.arange(3, dtype=torch.float32),
    "written into": lambda x: torch.zeros(2, 3).copy_(x),
    "set": assigned,
    "integers": lambda x: x[torch.tensor([0, 1], dtype=torch.int64)],
}


@pytest.mark.parametrize("name", CASTS)
def test_a_cast_is_left_out_and_named(name: str) -> None:
    cast, named = CASTS[name]
    with Widened(halves=True) as widened:
        y = cast(X)
    assert y.dtype == torch.float64
    assert torch.equal(y, X)
    assert ", ".join(sorted(widened.left_out)) == named
    assert not torch.equal(cast(X).double(), X)  # it would have rounded


@pytest.mark.parametrize("name", SAME)
def test_what_is_made_in_float32_is_float64(name: str) -> None:
    with Widened(halves=True) as widened:
        y = SAME[name](X)
    assert y.dtype == torch.float64
    assert torch.equal(y, X)
    assert not widened.left_out


def test_without_halves_16_bits_stay_and_show() -> None:
    with Widened() as widened:
        assert X.float().dtype == torch.float64
        assert not widened.narrowed
        assert X.half().dtype == torch.float16
    assert widened.narrowed


def test_integers_and_values_stay() -> None:
    with Widened(halves=True) as widened:
        assert X.to(torch.int32).dtype == torch.int32
        assert X.long().float().dtype == torch.float64
        assert NARROW.add(0).tolist() == NARROW.tolist()  # the value that was rounded to float32
    assert widened.left_out == set()


def test_autocast_leaves_float64_alone_and_is_named() -> None:
    weight = torch.eye(3, dtype=torch.float64)
    with Widened(halves=True) as widened, torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(X @ weight, X)
    assert widened.left_out == {"autocast"}


class Casting(nn.Module):
    """As most code for mixed precision ends; with a cache in float32 that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.simam = nn.Conv2d(3, 4, 3), SimAM()
        self.scale = torch.tensor([0.1, 0.2, 0.3, 0.4]).view(1, 4, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", enabled=False):
            y = self.simam(self.conv(x.float()))
        return y.float(), torch.cat([y * self.scale, torch.zeros(1, 4, *y.shape[2:], dtype=torch.float32)])


def test_a_session_has_a_float64_truth_and_says_how() -> None:
    model = Casting().eval()
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8))
    with open_session(model, "eager", dtype="float64") as session:
        first, second = session.run({"x": x}).values()
        assert first.dtype == second.dtype == np.float64
        assert session.notes[1:] == ["computed without the casts that its forward makes: float32"]
        session.run({"x": x})
        assert len(session.notes) == 2
    weight = model.conv.weight.detach().double()
    conv = nn.functional.conv2d(torch.from_numpy(x), weight, model.conv.bias.detach().double())
    exact = SimAM()(conv).numpy()
    np.testing.assert_array_equal(first, exact)
    assert abs(second[:1] - exact * model.scale.double().numpy()).max() < 1e-15
    with open_session(model, "eager") as session:
        assert session.run({"x": x.astype(np.float32)})["output_0"].dtype == np.float32
        assert not session.notes


@pytest.mark.parametrize("cast", [lambda y: y.float(), lambda y: y.half().float()], ids=["float32", "float16"])
def test_an_export_with_a_cast_is_compared_and_noted(tmp_path: Path, cast: Callable[[Tensor], Tensor]) -> None:
    class Net(Casting):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            return cast(super().forward(x)[0])

    x = torch.randn(1, 3, 8, 8)
    done = export(Net(), x, tmp_path / "m.onnx", exporter="torchscript", runtimes=["ort"], inputs=["plain"])
    assert done.parity is not None
    assert done.parity.passed
    assert any("computed without the casts that its forward makes: float" in note for note in done.parity.notes)
