"""MNN and ncnn: each network exported for them, converted by their converters, run by them, compared with PyTorch.

Its page is docs/howto/edge.md. The comparison is that of `export`: `verify` against the module in float64, with the
tolerance of float32 files. It holds, as both are told to compute in float32, and differ in the order of sums alone.

The cases of WRONG are files that rewrite/for_runtime.py refuses. Each has to exceed the tolerance: when one no longer
does, its row in that table may be opened.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.page import grid
from benchmarks.peers import Cases, Figures
from export_models import detector, digits, mobilenetv2, resnet18, resnet50, scenes
from simam_deploy.compare.inputs import DEFAULT, Case
from simam_deploy.compare.inputs import cases as made_cases
from simam_deploy.compare.verify import verify
from simam_deploy.formula import Array
from simam_deploy.pytorch.module import SimAM
from simam_deploy.rewrite.for_runtime import RUNTIMES
from simam_deploy.runtimes import onnx_model, open_session
from simam_deploy.runtimes.session import Session
from simam_deploy.to_onnx import export

DOCS = Path(__file__).parents[2] / "docs/howto/edge.md"
EDGE = ("mnn", "ncnn")
NETWORKS: dict[str, Callable[[], tuple[nn.Module, torch.Tensor]]] = {
    "digits": digits.build,
    "resnet18": resnet18.build,
    "resnet50": resnet50.build,
    "mobilenetv2": mobilenetv2.build,
    "detector": detector.build,
    "scenes": scenes.build,
}


class EdgeSession(Session):
    """An ONNX file, converted for MNN or ncnn once; each run is a process of its own."""

    def __init__(self, path: Path, runtime: str, *options: str) -> None:
        super().__init__(runtime)
        _, model = onnx_model.read(path, runtime)
        self.inputs = onnx_model.input_specs(model, path)
        self.outputs = onnx_model.output_specs(model, path)
        self._path, self._runtime, self._options = path, runtime, options
        _child("convert", runtime, path)

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        with tempfile.TemporaryDirectory(prefix="peers-") as folder:
            given, made = Path(folder, "feed.npz"), Path(folder, "out.npz")
            np.savez(given, **{spec.name: feeds[spec.name] for spec in self.inputs})  # type: ignore[arg-type]
            _child("run", self._runtime, self._path, given, made, *self._options)
            with np.load(made) as held:
                return dict(held)

    def _close(self) -> None:
        """Nothing is held."""


def _child(*arguments: object) -> None:
    line = [sys.executable, "-m", "benchmarks.peers.edge_run", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")


def _one_block() -> tuple[nn.Module, torch.Tensor]:
    return SimAM().eval(), torch.randn(1, 8, 6, 10, generator=torch.Generator().manual_seed(0))


def _network(name: str, runtime: str, folder: Path) -> Figures:
    model, example = NETWORKS[name]()
    return _passing(model, example, runtime, folder)


def _opsets(runtime: str, folder: Path) -> Figures:
    model, example = digits.build()
    oldest, newest = RUNTIMES[runtime].opsets
    rows = [
        _passing(model, example, runtime, folder, opset=opset, exporter=exporter)
        for opset, exporter in ((oldest, "torchscript"), (newest, "dynamo"))
    ]
    return max(rows, key=lambda row: row["worst"]) | {"opsets": [oldest, newest]}


def _sizes(runtime: str, folder: Path) -> Figures:
    model, example = scenes.build()
    return _passing(model, example, runtime, folder, feeds=_larger(example), dynamic=["batch", "height", "width"])


def _larger(example: torch.Tensor) -> Array:
    shape = (2, example.shape[1], *(size // 2 * 3 for size in example.shape[2:]))
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).numpy()


def _function(folder: Path) -> Figures:
    return _wrong(*digits.build(), folder, form="function")


def _primitive(folder: Path) -> Figures:
    return _wrong(*_one_block(), folder, form="primitive")


def _other_size(folder: Path) -> Figures:
    model, example = scenes.build()
    feeds, dynamic = _larger(example)[:1], ["height", "width"]
    return _wrong(model, example, folder, form="primitive", feeds=feeds, dynamic=dynamic)


def _winograd(folder: Path) -> Figures:
    return _passing(*detector.build(), "mnn", folder, run=("--winograd",))


WRONG: dict[str, Callable[[Path], Figures]] = {
    "form `function`, digits": _function,
    "form `primitive`, SimAM alone": _primitive,
    "dynamic sizes, scenes at another than pnnx's": _other_size,
}
"""All of ncnn: MNN's converter refuses by itself what it does not take."""


def cases() -> Cases:
    """Networks, opsets and sizes that have to pass, and those that have to be wrong."""
    return {
        **{names: partial(_network, *names) for names in product(NETWORKS, EDGE)},
        **{("oldest and newest opset, digits", name): partial(_opsets, name) for name in EDGE},
        ("other size, batch 2, scenes", "mnn"): partial(_sizes, "mnn"),
        ("Winograd as MNN chooses, detector", "mnn"): _winograd,
        **{(name, "ncnn"): make for name, make in WRONG.items()},
    }


def _passing(model: nn.Module, example: torch.Tensor, runtime: str, folder: Path, **options: Any) -> Figures:
    found = _worst(model, example, runtime, folder, for_runtime=runtime, **options)
    if not found["worst"] <= 1:
        raise RuntimeError(f"exceeds the tolerance {found['worst']:.3g} times")
    return found


def _wrong(model: nn.Module, example: torch.Tensor, folder: Path, **options: Any) -> Figures:
    found = _worst(model, example, "ncnn", folder, opset=18, **options)
    if found["worst"] <= 1:
        raise RuntimeError(f"is right now ({found['worst']:.3g} of tolerance): open the row of ncnn")
    return found


def _worst(
    model: nn.Module,
    example: torch.Tensor,
    runtime: str,
    folder: Path,
    *,
    run: Sequence[str] = (),
    feeds: Array | None = None,
    **options: Any,
) -> Figures:
    """The largest error of any output, as a share of the tolerance."""
    path = folder / "model.onnx"
    done = export(model, example, path, check=False, **options)
    with EdgeSession(path, runtime, *run) as session:
        given = list(made_cases(DEFAULT, session.inputs)) if feeds is None else [Case("other size", ((feeds,),))]
    report = verify(
        {runtime: lambda: EdgeSession(path, runtime, *run)},
        given,
        truth=lambda: open_session(model, "eager", dtype="float64"),
        twin=lambda: open_session(model, "eager"),
    )
    row = max(report.rows, key=lambda row: np.inf if np.isnan(row.share) else row.share)
    return {"form": done.fused.rows[0].form, "worst": row.share, "inputs": row.case}


def table(run: Mapping[str, Any]) -> list[str]:
    """A row for each network and each thing that is wrong."""
    rows = {row["case"]: row for row in run["rows"]}
    names = dict.fromkeys(name for name, _ in cases())
    cells = [[name, *(_cell(rows, name, runtime) for runtime in EDGE)] for name in names]
    versions = ", ".join(f"{key} {run['versions'][key]}" for key in ("MNN", "ncnn", "pnnx", "torch"))
    return [*grid(["of tolerance", *EDGE], cells), "", f"{versions}, {run['machine']}, {run['date']}."]


def _cell(rows: Mapping[str, Mapping[str, Any]], name: str, runtime: str) -> str:
    if (name, runtime) not in cases():
        return ""
    row = rows.get(f"{name} · {runtime}")
    if row is None or "failure" in row:
        return "not run" if row is None else "fails"
    return f"{row['worst']:.3g}" + (", wrong" if name in WRONG else "")
