"""A truth that gives other results for the same inputs is none: its own float32 error would be as random."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.command_line import Run
from helpers.graphs import BODY, parse, save
from torch import Tensor, nn
from torch.nn import functional as F

from simam_deploy.errors import InputError
from simam_deploy.pytorch.module import SimAM
from simam_deploy.to_onnx import export

REFUSED = "gives other results for the same inputs"
X = torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(0))


class After(nn.Module):
    """SimAM, and a function of its result."""

    def __init__(self, after: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.simam = SimAM()
        self.register_buffer("runs", torch.zeros(()))
        self._after = after

    def forward(self, x: Tensor) -> Tensor:
        """x : (N, C, H, W)."""
        return self._after(self, self.simam(x))


def counted(module: nn.Module, y: Tensor) -> Tensor:
    module.runs += 1
    return y + module.runs


RANDOM: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "noise": lambda _, y: y + 1e-3 * torch.randn_like(y),
    "dropout that is always on": lambda _, y: F.dropout(y, 0.5, True),
    "uniform gate": lambda _, y: y * torch.rand_like(y[:, :1, :1, :1]),
}


@pytest.mark.parametrize("kind", RANDOM)
def test_a_random_model_is_not_compared_with_its_file(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=REFUSED):
        export(After(RANDOM[kind]), X, tmp_path / "m.onnx", runtimes=["ort"], inputs=["plain"])
    assert not any(tmp_path.iterdir())


def test_a_random_model_is_exported_without_the_comparison(tmp_path: Path) -> None:
    done = export(After(RANDOM["noise"]), X, tmp_path / "m.onnx", check=False)
    assert len(done.fused.rows) == 1


def test_a_model_that_draws_numbers_which_change_nothing_is_compared(tmp_path: Path) -> None:
    drawn = After(lambda _, y: y + 0 * torch.rand_like(y))
    assert export(drawn, X, tmp_path / "m.onnx", runtimes=["ort"], inputs=["plain"]).parity.passed


def test_a_model_that_counts_its_runs_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="remembers an earlier run"):
        export(After(counted), X, tmp_path / "m.onnx", runtimes=["ort"], inputs=["plain"])


@pytest.mark.parametrize("node", ["RandomNormalLike (s)", "RandomUniformLike <high: float = 0.01> (s)"])
def test_a_random_file_passes_no_verify(node: str, tmp_path: Path, run: Run) -> None:
    nodes = f"s = simam.SimAM <e_lambda: float = 0.25> (x) r = {node} y = Add (s, r)"
    graph = f"g (float[2,3,6,5] x) => (float[2,3,6,5] y) {{ {nodes} }}"
    path = save(parse(graph, BODY), tmp_path / "m.onnx")
    status, _, err = run(f"verify {path} --runtimes ort")
    assert status == 2
    assert REFUSED in err
