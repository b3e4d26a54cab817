"""Cost of SimAM on a CPU with and without the kernel, alone and in networks: `make bench-cpu`.

    python -m benchmarks.cpu [alone | networks]

One interleaved run per shape and per network, two threads. A SimAM alone is compared with a plain copy, a network
with itself without SimAM in ONNX Runtime.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import bound
from benchmarks.forms import NETWORKS, export_plain
from benchmarks.record import keep
from simam_deploy import native, text
from simam_deploy.cli import render
from simam_deploy.compare.bench import TimingRow, bench
from simam_deploy.errors import RuntimeUnavailable
from simam_deploy.graph import onnx_file
from simam_deploy.ort_cpu import specialise
from simam_deploy.pytorch.module import SimAM
from simam_deploy.rewrite import fuse
from simam_deploy.rewrite.forms import alone
from simam_deploy.runtimes import Session, open_session
from simam_deploy.text import Say
from simam_deploy.to_onnx import export

THREADS = 2
SHAPES = [(1, 256, 80, 80), (8, 256, 56, 56), (1, 64, 224, 224), (8, 64, 112, 112), (1, 2048, 7, 7), (1, 512, 20, 20)]
SECONDS = 20


def main() -> None:
    """Print and keep the tables."""
    what = sys.argv[1:] or ["alone", "networks"]
    with render.progress() as say:
        for shape in SHAPES if "alone" in what else []:
            rows = _alone(shape, say)
            render.timing(f"SimAM alone, {text.shape(shape)}, {THREADS} threads", rows)
            keep("cpu", [asdict(row) for row in rows], what=text.shape(shape), threads=THREADS, **_kernel())
        for name in NETWORKS if "networks" in what else []:
            rows = _network(name, say)
            render.timing(f"{name}, {THREADS} threads; x first: over ONNX Runtime without SimAM", rows)
            keep("cpu", [asdict(row) for row in rows], what=name, threads=THREADS, **_kernel())


def _library() -> native.Library:
    library = native.library()
    if library is None:
        raise RuntimeUnavailable(f"there is no kernel to measure\n{native.why_not()}")
    return library


def _kernel() -> dict[str, Any]:
    return {"kernel": _library().target}


def _alone(shape: tuple[int, int, int, int], say: Say) -> list[TimingRow]:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    eager = SimAM()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        paths = {form: Path(folder, f"{form}.onnx") for form in ("primitive", "instance_norm", "function")}
        for form, path in paths.items():
            onnx_file.save(alone(form, shape), path)
        sessions: list[Session] = [
            bound.copy(shape, THREADS),
            bound.ort("primitive · ort", paths["primitive"], shape, THREADS, None),
            bound.ort("instance_norm · ort", paths["instance_norm"], shape, THREADS, None),
            bound.ort("kernel · ort", paths["function"], shape, THREADS, _library().path),
            bound.openvino("primitive · openvino", paths["primitive"], shape, THREADS),
            bound.on_torch("torch eager", eager, shape, THREADS),
            bound.on_torch("torch.compile", torch.compile(eager), shape, THREADS),
        ]
        for session in sessions:
            stack.enter_context(session)
        return _timed(sessions, x, say, text.shape(shape))


def _network(name: str, say: Say) -> list[TimingRow]:
    plain, build = NETWORKS[name]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        paths = {what: Path(folder, f"{what}.onnx") for what in ("without", "primitive", "kernel", "epilogue", "cpu")}
        without, example = plain()
        export_plain(without, example, paths["without"])
        model, example = build()
        export(model, example, paths["primitive"], form="primitive", check=False, epilogue=False, on_progress=say)
        fuse.fuse_file(paths["primitive"], paths["kernel"], epilogue=False)
        fuse.fuse_file(paths["primitive"], paths["epilogue"], epilogue=True)
        specialise.specialise_file(paths["primitive"], paths["cpu"])
        chosen = [
            ("without · ort", "without", "ort"),
            ("primitive · ort", "primitive", "ort"),
            ("kernel · ort", "kernel", "ort"),
            ("epilogue · ort", "epilogue", "ort"),
            ("specialised · ort", "cpu", "ort"),
            ("without · openvino", "without", "openvino"),
            ("primitive · openvino", "primitive", "openvino"),
        ]
        sessions = []
        for label, what, runtime in chosen:
            session = stack.enter_context(open_session(paths[what], runtime, threads=THREADS))
            session.label = label
            sessions.append(session)
        return _timed(sessions, example.numpy(), say, name)


def _timed(sessions: list[Session], x: np.ndarray, say: Say, name: str) -> list[TimingRow]:
    return bench(sessions, [x], seconds=SECONDS, on_progress=lambda done: say(f"time {name}: {done:.0%}"))


if __name__ == "__main__":
    main()
