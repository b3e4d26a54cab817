"""A model that is run leaves no trace on itself."""

from collections import deque
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from simam_deploy import SimAM, open_session
from simam_deploy.pytorch.adopt import adopted
from simam_deploy.pytorch.module_state import deep_copy, preserved, to_eval
from simam_deploy.to_onnx import export

X = torch.randn(1, 3, 16, 12, generator=torch.Generator().manual_seed(0))


class Keeps(nn.Module):
    """Writes on itself in every way that heads of detectors and counters do."""

    none = None

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.simam = nn.Conv2d(3, 4, 3, padding=1), SimAM()
        self.grid = torch.empty(0)
        self.grids = [torch.empty(0)]
        self.by_size: dict[tuple[int, ...], Tensor] = {}
        self.last: deque[int] = deque([1], maxlen=2)
        self.seen: set[int] = set()
        self.nested = {"inner": [1]}
        self.calls = 0
        self.register_buffer("table", torch.zeros(2))
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.simam(self.conv(x))
        h, w = x.shape[2:]
        if self.none is None or self.grid.shape != (h, w):
            self.grid = torch.ones(h, w).cumsum(0)
            self.none = (h, w)
        self.grids[0] = self.grid * 2
        self.by_size[(h, w)] = self.grid + 1
        self.last.append(2)
        self.seen.add(3)
        self.nested["inner"].append(4)
        self.calls += 1
        self.table = torch.ones(3)
        self.count.add_(1)
        self.new = y
        return y * self.grid + self.grids[0] + self.by_size[(h, w)]


def state(model: nn.Module) -> dict[str, object]:
    """By attribute: the very object, and what it holds."""
    held: dict[str, object] = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            inner = (
                list(value.values()) if isinstance(value, dict) else list(value) if hasattr(value, "append") else ()
            )
            held[f"{name}.{key}"] = (id(value), [id(v) for v in inner], str(value))
    return held


def trains(model: nn.Module) -> None:
    model.train()(X).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_attributes_come_back() -> None:
    model = Keeps()
    before = state(model)
    with preserved(model, values=True), torch.no_grad():
        to_eval(model)(X)
        assert model.calls == 1
        assert not model.training
        assert state(model) != before
    assert state(model) == before
    trains(model)


def test_what_a_mode_changes_comes_back() -> None:
    class Frozen(nn.Linear):
        def train(self, mode: bool = True) -> nn.Module:
            self.weight.requires_grad_(mode)
            return super().train(mode)

    model = Frozen(2, 2)
    with preserved(model, values=True):
        assert not to_eval(model).weight.requires_grad
    assert model.weight.requires_grad
    assert model.training


def test_an_export_leaves_no_trace(tmp_path: Path) -> None:
    model = Keeps()
    before = state(model)
    export(model, X, tmp_path / "m.onnx", exporter="torchscript", runtimes=["ort"])
    assert state(model) == before
    trains(model)


class Grid(nn.Module):
    """A head that keeps its grid, by the shape of all of x, as those of detectors do."""

    shape: torch.Size | None = None

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.simam = nn.Conv2d(3, 4, 3, padding=1), SimAM()
        self.grid = torch.empty(0)
        self.anchor = [torch.empty(0)]

    def forward(self, x: Tensor, *args: Tensor, **kwargs: Tensor) -> tuple[Tensor, list[Tensor]]:
        y = self.simam(self.conv(x))
        if self.shape != y.shape:
            self.grid = torch.ones(y.shape[2], y.shape[3], device=x.device, dtype=torch.float32).cumsum(1)
            self.anchor[0] = self.grid.flatten().expand(1, -1) * 0.5
            self.shape = y.shape
        return (y * self.grid).float(), [y.flatten(2) + self.anchor[0]]


WARM = {
    "new": lambda model: model,
    "run": lambda model: run(model, torch.no_grad()),
    "run in inference mode": lambda model: run(model, torch.inference_mode()),
    "trained": lambda model: (model(X)[0].sum().backward(), model)[1],
}


def run(model: nn.Module, mode: object) -> nn.Module:
    with mode:  # type: ignore[attr-defined]
        model(X)
    return model


@pytest.mark.parametrize(
    ("exporter", "warm"),
    [*(("torchscript", warm) for warm in WARM), ("dynamo", "new"), ("dynamo", "run in inference mode")],
)
def test_a_cache_is_computed_in_the_file_and_stays_the_models(tmp_path: Path, exporter: str, warm: str) -> None:
    """With a cache for the size of the example, the file would hold that grid, and be wrong at others."""
    model = WARM[warm](Grid())
    before = state(model)
    dynamic = ["batch", "height", "width"]
    done = export(model, X, tmp_path / "m.onnx", exporter=exporter, dynamic=dynamic, runtimes=["ort"])
    assert done.parity is not None
    assert done.parity.passed
    assert {row.case for row in done.parity.rows} > {"example", "other size"}
    assert state(model) == before
    if warm != "run in inference mode":
        model.train()(X)[0].sum().backward()
        assert not model.grid.is_inference()


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_parameters_made_in_inference_mode(tmp_path: Path, exporter: str) -> None:
    with torch.inference_mode():
        model, x = Grid().eval(), X + 1
    weight = model.conv.weight
    for inside in (False, True):
        with torch.inference_mode(inside):
            done = export(model, x, tmp_path / "m.onnx", exporter=exporter, runtimes=["ort"])
        assert done.parity is not None
        assert done.parity.passed
    assert model.conv.weight is weight
    assert weight.is_inference()


def test_a_session_leaves_no_trace() -> None:
    model = Keeps().eval()
    grid, calls = model.grid, model.calls
    with open_session(model, "eager") as session:
        session.run({"x": X.numpy()})
    assert (model.grid is grid, model.calls) == (True, calls)
    assert not any(hasattr(model, name) for name in ("new",))
    trains(model)


def test_adopting_leaves_no_trace() -> None:
    model = Keeps()
    before = {k: v for k, v in state(model).items() if ".count" not in k and "_buffers" not in k}
    with adopted(model, X):
        pass
    assert {k: v for k, v in state(model).items() if k in before} == before
    trains(model)


def test_a_copy_of_what_cannot_be_copied_by_torch() -> None:
    model = Grid()
    model(X)[0].sum().backward()
    model.grid = model.conv.weight * 2  # with its history
    copied = deep_copy(model)
    assert torch.equal(copied.grid, model.grid)
    assert copied.grid.is_leaf
    assert copied.conv.weight is not model.conv.weight


def test_the_module_of_a_program_has_its_mode_in_its_graph() -> None:
    module = torch.export.export(nn.Sequential(SimAM()).eval(), (X,)).module()
    assert module.training
    with pytest.raises(NotImplementedError):
        module.eval()
    with preserved(module):
        assert not to_eval(module).training
    assert module.training
