"""No code or library of the current folder is run by its name, in our processes and in those that we start."""

import json
import os
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from simam_deploy.graph import onnx_file
from simam_deploy.processes import python_command
from simam_deploy.rewrite.forms import alone

ROOT = str(Path(__file__).parents[2])
COMMANDS = (
    "inspect m.onnx",
    "fuse m.onnx -o out.onnx",
    "verify m.onnx out.onnx --inputs plain",
    "build m.onnx -o m.engine --targets sm86",
    "doctor",
)
PROGRAMS = ("uname", "nvcc", "cc", "gcc", "c++", "ldconfig", "nvidia-smi", "lscpu", "cmake", "ptxas")
CONSOLE_SCRIPT = """
import shlex, sys
from simam_deploy.cli import main
for line in sys.argv[1:]:
    sys.argv = ["simam-deploy", *shlex.split(line)]
    try:
        main()
    except SystemExit as end:
        print(line, "->", end.code)
"""


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with a module of every name that Python and the installed packages have."""
    folder = tmp_path / "evil"
    (folder / "simam_deploy").mkdir(parents=True)
    names = {name for name in (*sys.stdlib_module_names, *packages_distributions()) if name.isidentifier()}
    names |= {"tensorrt", "tensorrt_rtx", "onnxruntime", "openvino", "torch", "sitecustomize"}
    places = [folder / f"{name}.py" for name in names - {"simam_deploy"}]
    for place in (*places, folder / "simam_deploy/__init__.py"):
        place.write_text(
            f"open({str(tmp_path / 'ran')!r}, 'a').write(__file__ + '\\n')\nraise RuntimeError('evil')\n"
        )
    for name in PROGRAMS:
        (folder / name).write_text(f"#!/bin/sh\necho {name} >> {tmp_path / 'ran'}\nexit 1\n")
        (folder / name).chmod(0o755)
    onnx_file.save(alone("primitive", (1, 2, 4, 4)), folder / "m.onnx")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", ROOT)
    return folder


JOB = json.dumps(
    {
        "flavor": "tensorrt_rtx",
        "model": "m.onnx",
        "targets": ["sm1"],
        "options": {},
        "memory": None,
        "parent": os.getpid(),
    }
)


def test_the_folder_is_evil(evil: Path) -> None:
    subprocess.run([sys.executable, "-m", "simam_deploy.engines.worker", JOB], capture_output=True, check=False)
    assert "evil" in (evil.parent / "ran").read_text()


@pytest.mark.parametrize("paths", [ROOT, "", ":", f".:{ROOT}", f"{ROOT}:./"])
def test_a_child_process_imports_nothing_of_the_current_folder(
    evil: Path, monkeypatch: pytest.MonkeyPatch, paths: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", paths)
    command = python_command.python_command("simam_deploy.engines.worker")
    environment = python_command.environment()
    done = subprocess.run(command, input=JOB, env=environment, capture_output=True, text=True, check=True)
    assert list(json.loads(done.stdout.splitlines()[-1])) == ["error"]
    assert not (evil.parent / "ran").exists()


@pytest.mark.slow
def test_the_commands_import_nothing_of_the_current_folder(evil: Path) -> None:
    (evil.parent / "bin").mkdir()
    script = evil.parent / "bin/simam-deploy"
    script.write_text(CONSOLE_SCRIPT)
    environment = {**os.environ, "PATH": f":.:{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, str(script), *COMMANDS], env=environment, capture_output=True, text=True, check=True
    )
    assert [f"{command} -> 0" for command in COMMANDS[:3]] == [
        line for line in done.stdout.splitlines() if ".onnx ->" in line or "plain ->" in line
    ]
    assert not (evil.parent / "ran").exists(), (evil.parent / "ran").read_text()


def test_search_paths_lose_the_current_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", ":/a:.:/b:")
    monkeypatch.setenv("PYTHONPATH", "./::.")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/c::deps")
    monkeypatch.setenv("OTHER", "::")
    kept = python_command.environment()
    assert (kept["PATH"], kept["LD_LIBRARY_PATH"], kept["OTHER"]) == ("/a:/b", "/c:deps", "::")
    assert "PYTHONPATH" not in kept
    assert os.environ["PYTHONPATH"] == "./::."


@pytest.mark.parametrize("path", ["", ".", ":", "./:/nowhere", None])
def test_programs_are_not_looked_for_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str | None
) -> None:
    program = tmp_path / "nvcc"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    if path is None:
        monkeypatch.setenv("PATH", f".:{tmp_path}")
        assert python_command.find_program("nvcc") == str(program)
    else:
        monkeypatch.setenv("PATH", path)
        assert python_command.find_program("nvcc") is None
