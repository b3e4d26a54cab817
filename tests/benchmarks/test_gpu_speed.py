"""`make gpu`: rows that are timed. The host's clock stands in for the device's, so the figures mean nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from helpers.gpu_machine import changed, emulated_machine, speed_row  # noqa: E402

from benchmarks.gpu import report, rows, speed  # noqa: E402
from benchmarks.gpu.api import Machine  # noqa: E402
from benchmarks.gpu.clock import Clock  # noqa: E402
from benchmarks.gpu.timing import HostTimer  # noqa: E402


@pytest.fixture(scope="module")
def machine() -> Machine:
    return emulated_machine()


def timed(machine: Machine, row: rows.SpeedRow, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(speed, "COMPILE_SECONDS", math.inf)
    effort = speed.Effort(20_000, 2, 2, 2)
    return speed.measure(machine, HostTimer(), row, effort, Clock(100))


SOME = [
    rows.SpeedRow("tiny", "f16", "NCHW", (0, 8, 7, 7)),
    rows.SpeedRow("HWC8", "bf16", "HWC8", (0, 16, 14, 14)),
    rows.SpeedRow("int8", "s8", "CHW4", (0, 8, 14, 14)),
    rows.SpeedRow("epilogue", "f32", "NCHW", (0, 8, 14, 14), rows.EPILOGUE),
    rows.SpeedRow("batch 1", "f32", "NCHW", (1, 8, 14, 14)),
]


@pytest.mark.parametrize("row", SOME, ids=lambda row: row.regime)
def test_a_row_is_timed(machine: Machine, row: rows.SpeedRow, monkeypatch: pytest.MonkeyPatch) -> None:
    done = timed(machine, row, monkeypatch)
    assert done["us"] > 0
    assert done["eager_us"] > 0
    assert done["copy_us"] > 0
    assert 0 < done["worst"] <= 1 or row.type != "f32"
    assert done["worst"] <= 1
    assert "held" in done["plan"]
    assert "no time for torch.compile" in done["note"]
    passes = 1.5 if row.op.residual else 1.0
    share = done["us"] / done["copy_us"] if row.regime == "batch 1" else passes * done["copy_us"] / done["us"]
    assert done["figure"] == pytest.approx(share, rel=1e-6)
    assert not report.failed([done])


def test_a_row_with_a_wrong_result_is_a_failure(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    right = machine.kernels
    kernels = SimpleNamespace(
        workspace=right.workspace,
        accepts=right.accepts,
        launch=lambda params, stream: changed(images=0.5)(params, lambda p: right.launch(p, stream)),
    )
    done = timed(replace(machine, kernels=kernels), SOME[0], monkeypatch)  # type: ignore[arg-type]
    assert done["worst"] > 1
    assert report.failed([done])
    assert "WRONG RESULTS in: tiny f16 NCHW 7x7" in report.summary([done])


def test_the_baselines_are_simam(machine: Machine) -> None:
    from benchmarks.gpu import baselines

    for row in SOME:
        of = rows.Filled(machine, row.filled(20_000), 0)
        theirs = baselines.eager([of])(0)
        speed.ours(machine, [of])(0)
        mine = of.as_torch(of.y)
        off = (mine.double() - theirs.double()).abs().max()  # type: ignore[attr-defined]
        assert off <= {"f32": 1e-5, "f16": 2e-2, "bf16": 2e-1, "s8": 1}[row.type], row.name


def test_every_tactic_is_tried(machine: Machine) -> None:
    few = speed.Effort(20_000, 2, 2, 2)
    row = rows.SpeedRow("medium", "f16", "NCHW", (2, 4, 40, 40))
    done = list(speed._tactics(machine, HostTimer(), row, few))
    assert [each["tactic"] for each in done] == ["automatic", "registers", "cluster", "split"]
    assert len({each["plan"] for each in done}) >= 3
    assert "cluster" in report.text([speed_row(), *done])


def test_the_rows_are_those_of_the_issue(machine: Machine) -> None:
    every = rows.all_rows()
    planes = {(row.type, row.shape[-1]) for row in every if row.layout == "NCHW" and row.op == rows.PLAIN}
    sizes = (7, 14, 20, 28, 56, 112, 160, 224, 320, 640)
    assert {(type, n) for type in ("f32", "f16", "bf16", "s8") for n in sizes} <= planes
    goals = {"tiny": 0.85, "medium": 0.92, "large": 0.88, "huge": 0.85, "HWC8": 0.8, "int8": 0.6, "epilogue": 0.9}
    assert {row.regime: row.target for row in every} == {**goals, "batch 1": 1.3}
    assert len({(row.name, row.op) for row in every}) == len(every)
    for row in every:
        size = speed.Effort.of(row, machine).size
        filled = row.filled(size)
        bytes_of_x = math.prod(filled.shape) * {"f32": 4, "s8": 1}.get(row.type, 2)
        assert bytes_of_x >= size, row.name
        assert bytes_of_x <= 4 << 20 or row.regime != "batch 1", row.name


def test_a_launch_that_fails_is_a_failure_and_the_next_row_is_timed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = machine.kernels
    kernels = SimpleNamespace(
        workspace=right.workspace,
        accepts=right.accepts,
        launch=lambda params, stream: 700 if params.type == 1 else right.launch(params, stream),
    )

    def lost() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "empty_cache", lost)
    monkeypatch.setattr(speed.Effort, "of", staticmethod(lambda *_: speed.Effort(1 << 12, 2, 2, 1)))
    broken = replace(machine, kernels=kernels)  # type: ignore[arg-type]
    odd = rows.SpeedRow("HWC8", "f32", "HWC4", (0, 8, 7, 7))
    first, second, third = speed.run_all(broken, HostTimer(), [SOME[0], odd, SOME[3]], Clock(20), rivals=False)
    assert (first["ok"], first["note"]) == (False, "tiny f16 NCHW 7x7: simam_launch gives error 700")
    assert (second["ok"], second["note"]) == (False, "KeyError: 'HWC4'")
    assert third["table"] == "speed"
    tuned = list(speed.tune(broken, HostTimer(), [SOME[0], SOME[3]], Clock(100)))
    assert [each["table"] for each in tuned[:5]] == ["check"] * 5
    assert {each["table"] for each in tuned[5:]} == {"tune"}
    assert report.failed([third, first])
    assert report.failed([third, second])


def test_a_rival_that_fails_is_a_note(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, words in (
        (RuntimeError("out of memory\nand more"), "eager: out of memory;"),
        (RuntimeError(), "eager: RuntimeError: ;"),
        (KeyError("x"), "eager: KeyError: 'x';"),  # as ONNX Runtime's errors are no RuntimeError
    ):

        def fail(_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(speed.baselines, "eager", fail)
        done = timed(machine, SOME[0], monkeypatch)
        assert done["eager_us"] is None
        assert words in done["note"]
        assert report.cells(done)[8] == "-"
        assert f"not timed in 1 of 1 rows: {words[:-1]}" in report.summary([done])


def test_rows_to_come_are_not_given_up_for_torch_compile(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    left = []
    monkeypatch.setattr(speed, "measure", lambda *given: left.append(given[4].left()))
    list(speed.run_all(machine, HostTimer(), SOME * 10, Clock(1000)))
    assert 900 < left[0] < 951
    assert 950 < left[-1] <= 1000


def test_what_torch_compile_times_ahead_is_not_kept(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor.config as inductor

    seen = []
    monkeypatch.setattr(torch, "compile", lambda *_, **__: lambda *_: seen.append(inductor.autotune_local_cache))
    speed.baselines.compiled([rows.Filled(machine, SOME[0].filled(20_000), 0)])
    assert seen == [False]
    assert inductor.autotune_local_cache


def test_without_time_rows_are_missing_and_it_is_said(machine: Machine) -> None:
    done = list(speed.run_all(machine, HostTimer(), SOME, Clock(-1)))
    assert done == [{"table": "note", "note": "no time for the last 5 of 5 rows"}]
    assert "no time for the last 5 of 5 rows" in report.text([speed_row(), *done])
