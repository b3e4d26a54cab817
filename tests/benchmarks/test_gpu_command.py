"""`make gpu`: the command, what it refuses, and how it ends."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from helpers.gpu_machine import emulated_machine  # noqa: E402

from benchmarks.gpu import __main__ as script  # noqa: E402
from benchmarks.gpu import build  # noqa: E402
from benchmarks.gpu.api import Machine, chip_emulated  # noqa: E402
from simam_deploy.errors import BuildError  # noqa: E402

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def machine() -> Machine:
    return emulated_machine()


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
        with pytest.raises(BuildError, match=f"{variable} is '{re.escape(named)}', which is no program here"):
            ask()
    monkeypatch.setenv(variable, sys.executable)
    assert ask() == sys.executable


def test_what_does_not_end_is_ended_and_the_table_is_printed() -> None:
    code = (
        "import sys, time\n"
        "from benchmarks.gpu.clock import Watchdog\n"
        "with Watchdog(float(sys.argv[1]), lambda: print('the table', end='')):\n"
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
