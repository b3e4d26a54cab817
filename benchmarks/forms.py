"""Speed of each form on each runtime, alone and inside networks: `make bench`.

    python -m benchmarks.forms

One interleaved run per shape or network, two threads; the copy is one read and one write of x. A SimAM alone is
compared with the copy, a network with itself without SimAM.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.record import keep
from export_models import detector, mobilenetv2, resnet18, resnet50
from simam_deploy import text
from simam_deploy.cli import render
from simam_deploy.compare.bench import TimingRow, bench
from simam_deploy.compare.matrix import gather
from simam_deploy.graph import onnx_file
from simam_deploy.pytorch.module import SimAM
from simam_deploy.rewrite.forms import alone
from simam_deploy.runtimes import Session, open_session
from simam_deploy.text import Say
from simam_deploy.to_onnx import export

THREADS = 2
SHAPES = [(1, 256, 80, 80), (8, 256, 56, 56), (1, 64, 224, 224), (1, 2048, 7, 7)]
NETWORKS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "resnet50": (resnet50.build_plain, resnet50.build),
    "resnet50, end": (resnet50.build_plain, resnet50.build_end),
    "resnet18": (resnet18.build_plain, resnet18.build),
    "mobilenetv2": (mobilenetv2.build_plain, mobilenetv2.build),
    "detector": (detector.build_plain, detector.build),
}
FORMS = ["primitive", "function", "instance_norm"]
RUNTIMES = ["ort", "openvino"]


def main() -> None:
    """Print and keep both tables."""
    with render.progress() as say:
        for shape in SHAPES:
            rows = _alone(shape, say)
            render.timing(f"SimAM alone, {text.shape(shape)}, {THREADS} threads", rows)
            keep("forms", [asdict(row) for row in rows], what=text.shape(shape), threads=THREADS)
        for name, (plain, build) in NETWORKS.items():
            rows = _network(name, plain, build, say)
            render.timing(f"{name}, {THREADS} threads; x first: over ONNX Runtime without SimAM", rows)
            keep("forms", [asdict(row) for row in rows], what=name, threads=THREADS)


def _alone(shape: tuple[int, int, int, int], say: Say) -> list[TimingRow]:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sessions = []
        for form in FORMS:
            path = Path(folder, f"{form}.onnx")
            onnx_file.save(alone(form, shape), path)
            sessions += [_open(stack, path, runtime, f"{form} · {runtime}") for runtime in RUNTIMES]
        sessions.append(_open(stack, SimAM(), "eager", "torch eager"))
        return _timed(sessions, x, say, text.shape(shape))


def _network(name: str, plain: Callable[[], Any], build: Callable[[], Any], say: Say) -> list[TimingRow]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        without, example = plain()
        path = Path(folder, "plain.onnx")
        export_plain(without, example, path)
        sessions = [_open(stack, path, runtime, f"without · {runtime}") for runtime in RUNTIMES]
        model, example = build()
        export(model, example, Path(folder, "simam.onnx"), check=False, on_progress=say)
        chosen = gather([Path(folder, "simam.onnx")], FORMS, RUNTIMES, Path(folder), threads=THREADS)
        for label, open_candidate in chosen.open.items():
            sessions.append(stack.enter_context(open_candidate()))
            sessions[-1].label = label
        sessions.append(_open(stack, model, "eager", "torch eager"))
        return _timed(sessions, example.numpy(), say, name)


def export_plain(model: nn.Module, example: torch.Tensor, path: Path) -> None:
    """`export` refuses a network without SimAM, rightly."""
    program = torch.onnx.export(model, (example,), dynamo=True, verbose=False)
    assert program is not None
    program.save(path)


def _open(stack: ExitStack, what: Any, runtime: str, label: str) -> Session:
    session = stack.enter_context(open_session(what, runtime, threads=THREADS))
    session.label = label
    return session


def _timed(sessions: Sequence[Session], x: np.ndarray, say: Say, name: str) -> list[TimingRow]:
    return bench(sessions, [x], seconds=30, on_progress=lambda done: say(f"time {name}: {done:.0%}"))


if __name__ == "__main__":
    main()
