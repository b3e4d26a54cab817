"""All of `make gpu` with PyTorch's streams, graphs and events played on the processor: no line of it is run first on
the day that there is a GPU. The kernels are the emulator's; the times mean nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from helpers.gpu_machine import TINY, emulated_machine, run, sanitizer_script  # noqa: E402

from benchmarks.gpu import __main__ as script  # noqa: E402
from benchmarks.gpu import baselines, build, checks, precompile, rows, speed, verdict  # noqa: E402
from benchmarks.gpu.api import Machine  # noqa: E402
from benchmarks.gpu.clock import Clock  # noqa: E402
from simam_deploy.native.cuda_library import Kernels, Params  # noqa: E402

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def machine() -> Machine:
    return emulated_machine()


class Played(Machine):
    """A machine that says it has a GPU."""

    @property
    def emulated(self) -> bool:
        return False


class Deferring:
    """Kernels that are collected while a graph is captured, as a stream would."""

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels
        self.accepts, self.workspace = kernels.accepts, kernels.workspace
        self.collected: list[Params] | None = None

    def launch(self, params: Params, stream: int) -> int:
        assert stream == 77
        if self.collected is None:
            return self._kernels.launch(params, stream)
        self.collected.append(Params.from_buffer_copy(params))
        return 0


class Event:
    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = time.perf_counter()

    def elapsed_time(self, other: Event) -> float:
        return 1e3 * (other.at - self.at)


@pytest.fixture
def played(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Played:
    kernels = Deferring(machine.kernels)

    class Graph:
        def capture_begin(self, **_: object) -> None:
            kernels.collected = []

        def capture_end(self) -> None:
            self.work, kernels.collected = kernels.collected, None

        def replay(self) -> None:
            for params in self.work or []:
                assert kernels.launch(params, 77) == 0

    stream = SimpleNamespace(cuda_stream=77)
    names = {
        "synchronize": lambda: None, "empty_cache": lambda: None, "Stream": lambda: stream, "Event": Event,
        "stream": lambda _: nullcontext(), "current_stream": lambda: stream, "CUDAGraph": Graph,
    }  # fmt: skip
    for name, value in names.items():
        monkeypatch.setattr(torch.cuda, name, value)
    fields = (machine.device, kernels, machine.probe, machine.planner, machine.chip)
    return Played(*fields)  # type: ignore[arg-type]


def test_graphs_and_streams(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "STREAMS", (2, 2))
    done = run(played, "captured in a graph", "eight streams")
    assert [(row["ok"], row["note"]) for row in done] == [(True, "")] * 2
    assert all(row["cases"] > 20 for row in done)


Launch = Callable[[Params, int], int]
WRONG: dict[str, tuple[str, str, Callable[[Deferring], Launch]]] = {
    "runs at once": ("captured in a graph", "capturing it ran it", lambda right: right._kernels.launch),
    "captures nothing": ("captured in a graph", "inf of what", lambda right: lambda *_: 0),
    "refuses": ("captured in a graph", "gives error [1]", lambda right: lambda *_: 1),
    "refuses a stream": ("eight streams", "gives errors {1}", lambda right: lambda *_: 1),
    "does nothing": ("eight streams", "inf of what", lambda right: lambda *_: 0),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_kernel_in_a_graph(what: str, played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "STREAMS", (2, 1))
    name, words, wrong = WRONG[what]
    right = played.kernels
    kernels = SimpleNamespace(
        accepts=right.accepts,
        workspace=right.workspace,
        launch=wrong(right),  # type: ignore[arg-type]
    )
    (row,) = run(replace(played, kernels=kernels), name)  # type: ignore[arg-type]
    assert not row["ok"]
    assert words in row["note"]


IN_PYTORCH = """
import sys
sys.path.insert(0, "tests")
import torch, simam_deploy
from simam_deploy.pytorch import cuda_op
from helpers.gpu_machine import TINY, emulated_machine
from benchmarks.gpu import module
cuda_op.DEVICES = ("cuda", "cpu")
right, factor = simam_deploy.SimAM, float(sys.argv[1])
simam_deploy.SimAM = lambda e_lambda, **more: right(factor * e_lambda, **more)
machine = emulated_machine()
played = type("Played", (type(machine),), {"emulated": False})(*vars(machine).values())
done = list(module.check(played, TINY))
print(len(done), sum(each.ok for each in done), cuda_op._kernels.path == machine.kernels.path)
print(*(f"{each.name}: {each.share} {each.why}" for each in done if not each.ok), sep="\\n")
"""


@pytest.mark.parametrize(("factor", "right"), [(1, 27), (3e3, 3)])
def test_the_module_in_pytorch(factor: float, right: int, machine: Machine) -> None:
    """In a process by itself: the operator is registered once. What is compiled has eager's bits, right or not."""
    command = [sys.executable, "-c", IN_PYTORCH, str(factor)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[0] == f"27 {right} True", done.stdout + done.stderr


def test_what_went_wrong_in_a_capture_is_what_is_said(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    def invalidated(_: object) -> None:
        raise RuntimeError("operation failed due to a previous error during capture")

    monkeypatch.setattr(torch.cuda.CUDAGraph, "capture_end", invalidated)

    def work() -> None:
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        checks.capture(work)
    with pytest.raises(RuntimeError, match="a previous error"):
        checks.capture(lambda: None)


def test_the_whole_command(
    played: Played, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = sanitizer_script(tmp_path, '"memcheck memcheck"')
    monkeypatch.setenv("SANITIZER", str(fake))
    libraries = build.Libraries(Path(), Path(), Path(), Path("program"))
    monkeypatch.setattr(script, "_machine", lambda *_: (played, libraries))
    monkeypatch.setattr(verdict, "FULL", TINY)
    monkeypatch.setattr(speed.Effort, "of", staticmethod(lambda *_: speed.Effort(1 << 12, 2, 2, 1)))
    few = [
        rows.SpeedRow("int8", "s8", "CHW4", (0, 8, 14, 14)),
        rows.SpeedRow("batch 1", "s8", "CHW4", (1, 8, 14, 14)),
    ]
    monkeypatch.setattr(script, "all_rows", lambda: few)
    monkeypatch.setattr(speed, "_of_planes", lambda row, planes: row)
    monkeypatch.setattr(speed, "COMPILE_SECONDS", 1e9)
    kept = tmp_path / "gpu.jsonl"
    assert script.main(["--only", "s8 CHW4", "--keep", str(kept)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"s8 CHW4 +8 .* ok", said)
    assert re.search(r"memcheck +caught +clean +ok", said)
    assert re.search(r"racecheck +not caught +not covered", said)
    assert re.search(r"int8 s8 CHW4 14x14 .*>= 0.60", said)
    assert "1 of 1 checks are right, 8 cases" in said
    (kept_run,) = map(json.loads, kept.read_text().splitlines())
    assert [row["table"] for row in kept_run["rows"]] == ["check"] + ["sanitizer"] * 5 + ["speed"] * 2
    assert (kept_run["device"], kept_run["multiprocessors"]) == ("emulator", 132)

    def breaks(*_: object) -> None:
        raise PermissionError("compute-sanitizer")

    monkeypatch.setattr(script.sanitize, "run_all", breaks)
    assert script.main(["--only", "s8 CHW4", "--keep", str(tmp_path / "other.jsonl")]) == 1
    said = capsys.readouterr().out
    assert re.search(r"sanitize +0 +0 +FAILED +PermissionError: compute-sanitizer", said)
    assert re.search(r"int8 s8 CHW4 14x14 .*>= 0.60", said)

    assert script.main(["tune", "--only", "int8 s8 CHW4", "--keep", str(kept)]) == 0
    said = capsys.readouterr().out
    assert {word for line in said.splitlines() for word in line.split()} >= {"automatic", "split"}


def test_the_primitives_for_onnx_runtime_are_simam(machine: Machine) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    for type in ("f32", "f16"):
        of = rows.Filled(machine, rows.SpeedRow("tiny", type, "NCHW", (2, 3, 5, 7)), 0)
        session = runtime.InferenceSession(baselines._model(of), providers=["CPUExecutionProvider"])
        x = of.as_torch(of.x)
        (y,) = session.run(None, {"x": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), baselines.simam(x.float()).to(x.dtype), rtol=5e-3, atol=1e-3)
        with pytest.raises(baselines.Unavailable, match=r"no CUDA provider|did not load"):
            baselines.onnxruntime([of], 0)


def test_torch_compile_ahead_of_time(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def compiled(sets: list[rows.Filled]) -> None:
        tried.append(sets[0].row.shape)
        raise baselines.Unavailable("no Triton")

    monkeypatch.setattr(baselines, "compiled", compiled)
    monkeypatch.setattr(speed.Effort, "of", staticmethod(lambda *_: speed.Effort(1 << 12, 2, 2, 1)))
    nothing = replace(machine, kernels=precompile.NoKernels())  # type: ignore[arg-type]
    precompile.compile_all(nothing, [rows.SpeedRow("tiny", "f16", "NCHW", (0, 8, n, n)) for n in (7, 14)])
    assert [shape[1:] for shape in tried] == [(8, 7, 7), (8, 14, 14)]


def test_processes_ahead_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = sys.executable
    monkeypatch.setattr(precompile, "SAID", tmp_path / "build/said.txt")
    monkeypatch.setattr(precompile.sys, "executable", "sleep")  # of "-m": it ends at once, with an error
    with precompile.Ahead(2, "") as ahead:
        ahead.wait(Clock(60))
        assert [each.poll() is None for each in ahead._running] == [False, False]
    assert "2 of 2 processes failed" in capsys.readouterr().err
    assert "sleep" in (tmp_path / "build/said-1.txt").read_text()
    monkeypatch.setattr(precompile.sys, "executable", right)
    with precompile.Ahead(1, "") as ahead:
        assert ahead._running[0].poll() is None  # it imports PyTorch
    assert ahead._running[0].poll() == -15
