"""The command line: its help, what it prints, and its exit status."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from helpers.command_line import EXPORT, TINY, Run

from simam_deploy import __version__, cli, native

ROOT = Path(__file__).parents[2]
COMMANDS = ("inspect", "analyze", "doctor", "export", "fuse", "convert", "build", "recipe", "verify", "bench")
"""In the order of the work."""
INSPECTED = {
    *(
        "file",
        "opset",
        "ir_version",
        "weights_mib",
        "blocks",
        "kernel",
        "shared",
        "rounded",
        "half",
        "near_misses",
        "specialised",
        "defaults",
        "disagreements",
    ),
}


# help


def help_of(name: str) -> Any:
    return typer.main.get_command(cli.app).commands[name]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_in_the_help_is_a_line_that_parses(
    run: Run, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("yolo.onnx", "yolo.simam.onnx", "net.onnx"):
        (tmp_path / file).touch()
    status, out, _ = run(f"{name} --help")
    assert status == 0
    command = help_of(name)
    summary, _, example = command.help.partition("\n\nExample: ")
    assert summary.endswith(".")
    assert f"Example: {example}" in [line.strip() for line in out.splitlines()[:8]]
    program, first, *rest = shlex.split(example)
    assert (program, first) == ("simam-deploy", name)
    command.make_context(name, list(rest))  # raises when an option does not exist


def test_help_lists_every_command(run: Run) -> None:
    status, out, _ = run("--help")
    assert status == 0
    assert tuple(typer.main.get_command(cli.app).commands) == COMMANDS  # type: ignore[attr-defined]
    shown = re.findall(r"^(?:╭─|│) (\w+) ", out, re.MULTILINE)
    panels = ["Options", "Look", *COMMANDS[:3], "Make", *COMMANDS[3:8], "Check", *COMMANDS[8:]]
    assert shown == panels


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"{__version__}\n", "")


# what is printed


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("fuse fixed.onnx -o new.onnx --json", {"file", "blocks", "near_misses", "notes"}),
        (
            "inspect fixed.onnx --json",
            INSPECTED,
        ),
        (
            "inspect population_variance.onnx --json",
            INSPECTED,
        ),
        (
            "analyze fixed.onnx --inputs x.npz --json",
            {"file", "sites", "samples", "beyond", "notes"},
        ),
        (
            "convert fixed.onnx -o low.onnx --to fp16 --inputs x.npz --json",
            {"file", "asked", "converted", "kept", "samples", "snr_db", "agreement", "blocks", "notes"},
        ),
        ("verify fixed.onnx --json --gates --forms all --inputs adversarial", {"passed", "rows", "gates", "notes"}),
        ("bench dynamic.onnx --json --seconds 0.1 --shape 1,3,8,8", {"threads", "rows", "left_out"}),
        (
            f"{EXPORT}build -o new.onnx --json --exporter torchscript --dynamic batch",
            {"file", "adopted", "weights", "blocks", "near_misses", "notes", "parity"},
        ),
    ],
    ids=["fuse", "inspect", "inspect a near miss", "analyze", "convert", "verify", "bench", "export"],
)
def test_json_is_all_there_is_on_stdout(folder: Path, run: Run, line: str, keys: set[str]) -> None:
    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    status, out, err = run(line)
    assert status == 0, err
    assert set(json.loads(out, parse_constant=no_constant)) == keys


def test_tables_for_people(folder: Path, run: Run) -> None:
    status, out, _ = run("fuse fixed.onnx -o 'a[red]b.onnx'")
    assert status == 0
    assert "a[red]b.onnx: SimAM blocks" in out
    assert "1x3x4x4" in out
    status, out, _ = run("inspect population_variance.onnx")
    assert status == 0
    assert "no SimAM block" in out
    assert "1 near miss, left alone:" in out
    status, out, _ = run("verify fixed.onnx --runtimes onnx_reference --gates")
    assert status == 0
    assert "parity with the float64 truth" in out
    assert "gate of each SimAM block" in out
    assert "pass" in out
    assert "FAIL" not in out


@pytest.mark.parametrize("as_json", ["", " --json"])
def test_a_row_that_fails_is_exit_status_1(tiny_onnx: Path, run: Run, as_json: str) -> None:
    same = f"verify {tiny_onnx} --against {TINY}:build --runtimes ort{as_json}"
    status, out, err = run(same)
    assert status == 0, err
    status, out, err = run(same.replace(":build", ":other"))
    assert (status, err) == (1, "")
    assert json.loads(out)["passed"] is False if as_json else "FAIL" in out


def test_with_the_library_custom_op_runs_in_ort(folder: Path, run: Run, library: native.Library) -> None:
    status, out, err = run("verify fixed.onnx --forms custom_op --runtimes ort --inputs adversarial --gates")
    assert (status, err) == (0, "")
    assert "custom_op · ort" in out
    assert folder.exists()


def test_an_engine(folder: Path, run: Run) -> None:
    pytest.importorskip("tensorrt_rtx")
    status, out, err = run("build fixed.onnx -o new.engine --targets sm86 --json")
    assert status == 0, err
    assert json.loads(out)["targets"] == ["sm86"]
    assert (folder / "new.engine").stat().st_size > 1000


# as a process of its own


def as_process(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:simam_deploy", "-m", "simam_deploy.cli", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_as_a_process_of_its_own(folder: Path) -> None:
    done = as_process(folder, "inspect", "fixed.onnx", "--json")
    assert (done.returncode, done.stderr.replace("... check the block at simam\n", "")) == (0, "")
    assert json.loads(done.stdout)["blocks"][0]["node"] == "simam"
    done = as_process(folder, "inspect", "cut.onnx")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: cut.onnx is not an ONNX file, or is truncated")


def test_inspect_needs_no_framework_but_onnx(folder: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'onnxruntime', 'openvino', 'tensorrt_rtx'): sys.modules[name] = None\n"
        "sys.argv = ['simam-deploy', 'fuse', 'fixed.onnx', '-o', 'new.onnx']\n"
        "from simam_deploy.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "new.onnx").exists()
