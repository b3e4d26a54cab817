"""`make gpu` beside its checks: rows that are timed, what is printed and kept, the command, compute-sanitizer."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from benchmarks import record  # noqa: E402
from benchmarks.gpu import __main__ as script  # noqa: E402
from benchmarks.gpu import build, report, rows, sanitize, speed, table  # noqa: E402
from benchmarks.gpu.api import Machine, chip_emulated  # noqa: E402
from benchmarks.gpu.clock import Clock  # noqa: E402
from benchmarks.gpu.timing import HostTimer  # noqa: E402
from tests.gpu_machine import changed, emulated_machine, sanitizer_script  # noqa: E402

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def machine() -> Machine:
    return emulated_machine()


# Speed: the host's clock stands in for the device's, so the figures mean nothing, and everything else does.


def timed(machine: Machine, row: rows.Row, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(speed, "COMPILE_SECONDS", math.inf)
    effort = speed.Effort(20_000, 2, 2, 2)
    return speed.measure(machine, HostTimer(), row, effort, Clock(100))


SOME = [
    rows.Row("tiny", "f16", "NCHW", (0, 8, 7, 7)),
    rows.Row("HWC8", "bf16", "HWC8", (0, 16, 14, 14)),
    rows.Row("int8", "s8", "CHW4", (0, 8, 14, 14)),
    rows.Row("fused", "f32", "NCHW", (0, 8, 14, 14), rows.FUSED),
    rows.Row("batch 1", "f32", "NCHW", (1, 8, 14, 14)),
]


@pytest.mark.parametrize("row", SOME, ids=lambda row: row.regime)
def test_a_row_is_timed(machine: Machine, row: rows.Row, monkeypatch: pytest.MonkeyPatch) -> None:
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
    row = rows.Row("medium", "f16", "NCHW", (2, 4, 40, 40))
    done = list(speed._tactics(machine, HostTimer(), row, few))
    assert [each["tactic"] for each in done] == ["automatic", "registers", "cluster", "split"]
    assert len({each["plan"] for each in done}) >= 3
    assert "cluster" in report.text(done)


def test_the_rows_are_those_of_the_issue(machine: Machine) -> None:
    every = rows.all_rows()
    planes = {(row.type, row.shape[-1]) for row in every if row.layout == "NCHW" and row.op == rows.PLAIN}
    sizes = (7, 14, 20, 28, 56, 112, 160, 224, 320, 640)
    assert {(type, n) for type in ("f32", "f16", "bf16", "s8") for n in sizes} <= planes
    goals = {"tiny": 0.85, "medium": 0.92, "large": 0.88, "huge": 0.85, "HWC8": 0.8, "int8": 0.6, "fused": 0.9}
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
    odd = rows.Row("HWC8", "f32", "HWC4", (0, 8, 7, 7))
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


# What is printed and kept.


def speed_row(**more: Any) -> dict[str, Any]:
    numbers = {"us": 10.0, "copy_us": 9.5, "tb_s": 4.1, "figure": 0.95, "target": 0.92, "worst": 0.5}
    rivals = {"eager_us": 60.0, "compile_us": 20.0, "ort_us": None, "over_compile": 2.0}
    words = {
        "table": "speed",
        "row": "medium f16 NCHW 56x56",
        "regime": "medium",
        "op": "simam",
        "plan": "planes whole",
    }
    return {**numbers, **rivals, **words, "ok": True, "shape": [2, 256, 56, 56], "note": "", **more}


def test_a_missed_target_is_said_and_is_no_failure() -> None:
    slow = speed_row(figure=0.8, ok=False, over_compile=0.9, row="medium f16 NCHW 28x28")
    text = report.text([speed_row(), slow])
    assert re.search(r"28x28 .* 0\.800 +>= 0\.92 +missed", text)
    assert "1 of 2 rows meet their target" in text
    assert "1.5 times as fast or more in 1 of 2 rows, slower in medium f16 NCHW 28x28" in text
    assert not report.failed([slow])
    wrong = speed_row(worst=math.nan)
    assert report.failed([wrong])
    assert re.search(r"0\.950 +>= 0\.92 +WRONG", report.text([wrong]))
    assert "0 of 1 rows meet their target" in report.text([wrong])
    assert report.failed([])


def test_a_check_that_did_not_run_is_not_called_right() -> None:
    row = {"table": "check", "check": "eight streams", "cases": 0, "worst": 0.0, "ok": True, "note": "needs a GPU"}
    assert re.search(r"eight streams +0 +0 +- +needs a GPU", report.text([row]))
    assert "0 of 0 checks are right" in report.text([row])


def test_what_was_measured_is_kept_row_by_row(tmp_path: Path) -> None:
    kept = tmp_path / "results/gpu.jsonl"
    record.Growing(kept, device="A").add({"table": "speed", "us": 1.23456789})
    growing = record.Growing(kept, device="B")
    assert len(kept.read_text().splitlines()) == 1
    growing.add({"n": 1})
    growing.add({"n": 2})
    first, second = map(json.loads, kept.read_text().splitlines())
    assert first["rows"] == [{"table": "speed", "us": 1.235}]
    assert (second["device"], second["rows"]) == ("B", [{"n": 1}, {"n": 2}])
    assert second["commit"]
    assert second["versions"]["torch"] == torch.__version__.partition("+")[0] or second["versions"]["torch"]
    assert [path.name for path in kept.parent.iterdir()] == ["gpu.jsonl"]


def test_a_table_is_made_of_the_newest_run(tmp_path: Path) -> None:
    kept = tmp_path / "gpu.jsonl"
    assert table.tables(kept) == table.NOT_YET
    where = {"driver": "580", "cuda": "13.0"}
    check = {"table": "check", "check": "f16 NCHW", "cases": 9, "worst": 0.5, "ok": True, "note": ""}
    old = record.Growing(kept, device="old", **where)
    old.add(check)
    old.add(speed_row(us=99.0))
    record.Growing(kept, device="new", **where).add(speed_row(us=11.0))
    record.Growing(kept, device="newest", only="7x7", **where).add(speed_row(us=7.0))
    text = table.tables(kept)
    assert "| f16 NCHW | 9 | 0.5 | ok |" in text
    assert "| medium f16 NCHW 56x56 |  | 11 |" in text
    assert "| 99 |" not in text
    assert "old, driver 580" in text
    assert "new, driver 580" in text
    assert "newest" not in text


def test_the_page_is_what_was_kept() -> None:
    assert f"{table.BEGIN}\n{table.tables()}\n{table.END}" in table.DOCS.read_text()


# The command.


def test_the_command_on_the_emulator(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["checks", "--emulate", "--only", "s8 CHW4"]) == 0
    assert "1 of 1 checks are right" in capsys.readouterr().out
    assert script.main(["speed", "--emulate"]) == 2
    assert "--emulate goes with checks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["--emulate", "--only", "s9"], r"error: --only 's9' is in no name of these:\n  the .*\n  s8 CHW4\n"),
        (["--emulate", "--only", "medium f16 NCHW 56x56"], "in no name of these:"),  # a row's, and no check's
        (["tune", "--only", "eight streams"], r"in no name of these:\n  tiny f16 NCHW 7x7\n"),
        (["--only", "no such thing"], r"in no name of these:\n  the reference itself\n.*\n  batch 1 f16"),
        (["sanitize", "--only", "f16"], "--only 'f16' is not for sanitize\n"),
        (["checks", "table"], "table is made of what was kept; ask for it alone"),
        *((["--minutes", text], f"--minutes: '{text}' is no time; it must be a number above 0, as 7.5")
          for text in ("nan", "-1", "0", "inf", "soon")),
    ],
)  # fmt: skip
def test_what_the_command_refuses(asked: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = script.main(asked)
    except SystemExit as error:  # of argparse
        status = error.code  # type: ignore[assignment]
    said = capsys.readouterr()
    assert (status, said.out) == (2, "")
    assert re.search(words, said.err, re.DOTALL)


@pytest.mark.parametrize("device", ["a GPU", "132,90", "0,90,1", "132,90,1,", "132,90,x", "99999999999,90,1", ""])
def test_an_emulated_device_that_is_none(
    device: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SIMAM_EMULATED_DEVICE", device)
    assert script.main(["--emulate"]) == 2
    assert f"error: SIMAM_EMULATED_DEVICE is {device!r}; it must be multiproc" in capsys.readouterr().err


def test_the_command_with_a_wrong_kernel(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = SimpleNamespace(
        accepts=machine.kernels.accepts, workspace=machine.kernels.workspace, launch=lambda *_: 700
    )
    broken = replace(machine, kernels=wrong)  # type: ignore[arg-type]
    monkeypatch.setattr(script, "_machine", lambda *_: (broken, build.Libraries(Path(), Path(), Path())))
    assert script.main(["--emulate", "--only", "s8 CHW4"]) == 1
    assert re.search(r"s8 CHW4 .*FAILED.*simam_launch gives error 700", capsys.readouterr().out)


def test_stopped_it_prints_and_keeps_what_there_is(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def two_rows(*_: object) -> Any:
        yield {"table": "check", "check": "a", "cases": 1, "worst": 0.1, "ok": True, "note": ""}
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "_machine", lambda *_: (machine, build.Libraries(Path(), Path(), Path())))
    monkeypatch.setattr(script, "_rows", two_rows)
    monkeypatch.setattr(script, "nullcontext", lambda: None, raising=False)
    asked = ["checks", "--keep", str(tmp_path / "gpu.jsonl")]
    assert script.main(asked) == 130
    assert "1 of 1 checks are right" in capsys.readouterr().out
    assert json.loads((tmp_path / "gpu.jsonl").read_text())["rows"][0]["check"] == "a"


def test_where_nothing_can_be_kept_the_command_does_not_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe")
    for keep in (tmp_path / "file/gpu.jsonl", tmp_path, tmp_path / "binary.jsonl"):
        assert script.main(["checks", "--keep", str(keep)]) == 2
        said = capsys.readouterr().err
        assert f"error: nothing can be kept in {keep}: " in said
        assert "name a file with --keep" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["binary.jsonl", "file"]


@pytest.mark.parametrize(
    ("full_at", "end"), [((1,), "kept in {}\n"), ((2,), "kept in {}, without the last 1 rows\n"), ((1, 2), "")]
)
def test_on_a_full_disk_the_run_goes_on_and_says_so(
    full_at: tuple[int, ...],
    end: str,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names, keep = ("a", "b"), tmp_path / "gpu.jsonl"
    every = [{"table": "check", "check": name, "cases": 1, "worst": 0.1, "ok": True, "note": ""} for name in names]
    monkeypatch.setattr(script, "_machine", lambda *_: (machine, build.Libraries(Path(), Path(), Path())))
    monkeypatch.setattr(script, "_rows", lambda *_: iter(every))
    write = Path.write_text

    def full(path: Path, text: str) -> int:
        written = write(path, text)
        if text.count('"check": "') in full_at:
            raise OSError(28, "No space left on device")
        return written

    monkeypatch.setattr(Path, "write_text", full)
    assert script.main(["checks", "--keep", str(keep)]) == (0 if end == "kept in {}\n" else 1)
    said = capsys.readouterr()
    assert f"a row cannot be kept in {keep}: [Errno 28] No space left on device" in said.out + said.err
    assert "2 of 2 checks are right" in said.out
    assert said.out.endswith(end.format(keep)), said.out
    assert ("kept in" in said.out.splitlines()[-1]) == bool(end)
    kept = [row["check"] for row in json.loads(keep.read_text())["rows"]] if keep.exists() else []
    assert kept == {(1,): ["a", "b"], (2,): ["a"], (1, 2): []}[full_at]
    assert not list(tmp_path.glob("*.jsonl.*"))


@pytest.mark.parametrize("variable", ["CXX", "CUDACXX", "NVCC"])
def test_a_compiler_that_is_none(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CXX", "CUDACXX", "NVCC"):
        monkeypatch.delenv(name, raising=False)
    ask = build._cxx if variable == "CXX" else build.find_nvcc
    for named in ("nonsense", "ccache g++", "/"):
        monkeypatch.setenv(variable, named)
        with pytest.raises(build.BuildError, match=f"{variable} is '{re.escape(named)}', which is no program here"):
            ask()
    monkeypatch.setenv(variable, sys.executable)
    assert ask() == sys.executable


def test_what_does_not_end_is_ended_and_the_table_is_printed() -> None:
    code = (
        "import sys, time\n"
        "from benchmarks.gpu.clock import Watch\n"
        "with Watch(float(sys.argv[1]), lambda: print('the table', end='')):\n"
        "    time.sleep(float(sys.argv[2]))\n"
    )
    for seconds, status, words in (((0.1, 60), 1, "the table"), ((60, 0), 0, "")):
        command = [sys.executable, "-c", code, *map(str, seconds)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (status, words)
        assert ("it does not end" in done.stderr) == bool(status)
        assert ('File "<string>", line 4' in done.stderr) == bool(status)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([]) == 2
    assert "PyTorch sees no GPU here; --emulate runs the checks without one" in capsys.readouterr().err


def test_numpy_and_torch_are_enough(machine: Machine) -> None:
    missing = ("onnx", "onnx_ir", "onnxruntime", "openvino", "rich", "typer", "PIL", "triton", "cupy", "scipy")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({missing!r}))\n"
        "from benchmarks.gpu.__main__ import main; sys.exit(main(['--emulate', '--only', 'the reference']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("missing", ["numpy", "torch"])
def test_without_numpy_or_torch_the_command_says_so(missing: str, tmp_path: Path) -> None:
    (tmp_path / f"{missing}.py").write_text(f"raise ModuleNotFoundError('no {missing}')")
    command = [sys.executable, "-m", "benchmarks.gpu", "--emulate"]
    environment = {"PYTHONPATH": str(tmp_path)}  # before the packages that are there
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    words = rf"error: the checks .* need NumPy and PyTorch, and .* cannot import them: no {missing}; .*PYTHON=...`\n"
    assert re.fullmatch(words, done.stderr)


def test_an_emulated_device_without_clusters(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.gpu.problem import Run, Way, values

    of = values("f16", torch.randn(1, 2, 1600, dtype=torch.float64), 0)
    way = Way(tactic="cluster")
    assert Run(machine, of, way).accepted
    monkeypatch.setenv("SIMAM_EMULATED_DEVICE", "16,87,4194304")
    assert not Run(machine, of, way).accepted
    assert chip_emulated().capability == 87
    monkeypatch.setenv("SIMAM_EMULATED_DEVICE", "a GPU")
    assert machine.kernels.prepare() == 100


# compute-sanitizer, played by a script of the shell: what it finds is its exit status.


def sanitizer(folder: Path, finds: str, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    fake = sanitizer_script(folder, finds)
    monkeypatch.setenv("SANITIZER", str(fake))
    return list(sanitize.run_all(Path("program"), Clock(60)))


ALL_PLANTED = '"memcheck memcheck"|"racecheck racecheck"|"initcheck initcheck"|"synccheck synccheck"'


def test_clean_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = sanitizer(tmp_path, ALL_PLANTED, monkeypatch)
    assert [row["tool"] for row in done] == [*sanitize.TOOLS, "racecheck of clusters"]
    assert [row["planted"] for row in done] == ["caught"] * 4 + ["not caught"]
    assert done[-1]["kernels"] == "not covered"
    assert not report.failed(done)


def test_a_race_in_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = sanitizer(tmp_path, f'{ALL_PLANTED}|"racecheck kernels"', monkeypatch)
    assert [row["tool"] for row in done if not row["ok"]] == ["racecheck"]
    assert report.failed(done)


def test_what_a_tool_finds_in_the_kernels_counts_whatever_it_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = sanitizer(tmp_path, '"racecheck kernels"', monkeypatch)
    assert [(row["tool"], row["kernels"]) for row in done if not row["ok"]] == [("racecheck", "found")]
    assert "racecheck on the kernels:\n========= COMPUTE-SANITIZER\nfound" in capsys.readouterr().err


def test_a_tool_without_time_ends_with_the_program_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "compute-sanitizer"
    begin = f'case "$8" in kernels) sleep 300 & echo $! >>{tmp_path}/started; wait;; esac'
    fake.write_text(f"#!/bin/sh\n{begin}\nexit 9\n")
    fake.chmod(0o755)
    monkeypatch.setenv("SANITIZER", str(fake))

    def still_there() -> list[bool]:
        there = [Path("/proc", pid, "cmdline") for pid in (tmp_path / "started").read_text().split()]
        for _ in range(100):  # what was killed may take a moment; a zombie's file is empty
            left = [path.exists() and bool(path.read_text()) for path in there]
            if not any(left):
                break
            time.sleep(0.1)
        return left

    done = list(sanitize.run_all(Path("program"), Clock(2)))
    assert [row["kernels"][:11] for row in done[:4]] == ["did not end"] * 4
    assert still_there() == [False] * 4

    (tmp_path / "started").unlink()
    begun = sanitize.run_all(Path("program"), Clock(2))
    next(begun)
    begun.close()  # as where the command is stopped
    assert still_there() == [False] * 4


def test_a_tool_that_misses_the_defect_covers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = sanitizer(tmp_path, '"racecheck cluster"', monkeypatch)
    assert {row["planted"] for row in done[:-1]} == {"not caught"}
    assert all("not covered" in row["kernels"] for row in done[:-1])
    assert done[-1]["planted"] == "caught"


def test_no_compute_sanitizer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sanitize, "find", lambda: None)
    (row,) = sanitize.run_all(Path("program"), Clock(60))
    assert "not on the PATH" in row["kernels"]
