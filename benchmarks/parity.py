"""Float32 errors in units of PyTorch's own: the measurement behind `verify.tolerance_factor`.

    python -m benchmarks.parity

Every network of export_models in every form on every runtime, on the default inputs. For each network, form and
runtime the table gives the largest error over max(PyTorch's own float32 error, one rounding of the largest output),
and the same for three networks that are slightly wrong.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from benchmarks.record import keep
from export_models import detector, digits, mobilenetv2, resnet18, resnet50
from simam_deploy.cli import render
from simam_deploy.compare.inputs import DEFAULT, cases
from simam_deploy.compare.matrix import gather
from simam_deploy.compare.verify import Report, tolerance_factor, verify
from simam_deploy.pytorch.module import SimAM
from simam_deploy.runtimes import Session, open_session
from simam_deploy.text import Say
from simam_deploy.to_onnx import export


def one_block(side: int) -> tuple[nn.Module, torch.Tensor]:
    """A convolution, a ReLU and one SimAM: PyTorch's error is smallest here, so that of running sums shows most."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), SimAM(), nn.Conv2d(8, 4, 3)).eval()
        return net, torch.randn(1, 3, side, side)


NETWORKS: dict[str, Callable[[], tuple[nn.Module, torch.Tensor]]] = {
    "one block, 16x16": lambda: one_block(16),
    "one block, 64x64": lambda: one_block(64),
    "one block, 256x256": lambda: one_block(256),
    "digits": digits.build,
    "resnet18": resnet18.build,
    "resnet50": resnet50.build,
    "resnet50, end": resnet50.build_end,
    "mobilenetv2": mobilenetv2.build,
    "detector": detector.build,
}


class PopulationVariance(SimAM):
    """A SimAM that divides by M: the commonest mistake, and the one hardest to see."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        d = (x - x.mean(dim=(2, 3), keepdim=True)) ** 2
        v = d.mean(dim=(2, 3), keepdim=True)
        return x * torch.sigmoid(d / (4 * (v + self.e_lambda)) + 0.5)


def one_wrong(model: nn.Module, change: Callable[[SimAM], nn.Module]) -> nn.Module:
    """A copy of `model` whose last SimAM, on its smallest or deepest map, is changed."""
    wrong = copy.deepcopy(model)
    name = [n for n, m in wrong.named_modules() if isinstance(m, SimAM)][-1]
    wrong.set_submodule(name, change(wrong.get_submodule(name)))  # type: ignore[arg-type]
    return wrong


WRONG: dict[str, Callable[[SimAM], nn.Module]] = {
    "population variance in the last block": lambda m: PopulationVariance(e_lambda=m.e_lambda),
    "λ 1 % larger in the last block": lambda m: SimAM(e_lambda=1.01 * m.e_lambda),
    "the last block left out": lambda m: nn.Identity(),
}


def main() -> None:
    """Print the table and keep it."""
    with render.progress() as say:
        rows = [row for name, build in NETWORKS.items() for row in _measure(name, *build(), say)]
    columns = ("network", "session", "worst case", "error / PyTorch's", "of tolerance")
    render.table("float32 errors", columns, rows, right=columns[3:])
    keep("parity", [dict(zip(columns, row, strict=True)) for row in rows])


def _measure(name: str, model: nn.Module, example: torch.Tensor, say: Say) -> list[tuple[object, ...]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        say(f"export {name}")
        export(model, example, path, check=False)
        chosen = gather([path], ["all"], ["onnx_reference", "ort", "openvino"], Path(folder))
        for label, change in WRONG.items():
            chosen.open[label] = _opener(one_wrong(model, change))
        with open_session(path, "onnx_reference") as session:
            given = list(cases(DEFAULT, session.inputs))
        report = verify(
            chosen.open,
            given,
            truth=lambda: open_session(model, "eager", dtype="float64"),
            twin=lambda: open_session(model, "eager"),
            on_progress=lambda what: say(f"{name}: {what}"),
        )
    return [_worst(name, label, report, tolerance_factor(given[0])) for label in chosen.open]


def _opener(model: nn.Module) -> Callable[[], Session]:
    return lambda: open_session(model, "eager")


def _worst(name: str, label: str, report: Report, limit: float) -> tuple[object, ...]:
    row = max((row for row in report.rows if row.session == label), key=lambda row: row.share)
    return (name, label, row.case, row.share * limit, row.share)


if __name__ == "__main__":
    main()
