"""Help, completion and what cannot be used answer at once: nothing of the frameworks is imported for them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.made_engine import engine

import simam_deploy

HEAVY = (
    *("numpy", "onnx", "onnx_ir", "google.protobuf", "ml_dtypes", "PIL", "rich.progress"),
    *("torch", "onnxscript", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "safetensors"),
    *("simam_deploy.formula", "simam_deploy.api", "simam_deploy.experimental"),
)
COMMANDS = ("inspect", "analyze", "doctor", "export", "fuse", "convert", "build", "recipe", "verify", "bench")
CODE = """
import json, sys
before = set(sys.modules)
from simam_deploy.cli import main
try:
    main()
except SystemExit as end:
    print(json.dumps([end.code or 0, sorted(set(sys.modules) - before)]), file=open("seen.json", "w"))
"""


def imported(folder: Path, line: str, **variables: str) -> tuple[int, set[str]]:
    """Exit status, and those of HEAVY that were imported for a command line."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, *line.split()],
        cwd=folder,
        env={"PYTHONPATH": str(Path(simam_deploy.__file__).parents[1]), "PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    status, modules = json.loads((folder / "seen.json").read_text())
    assert "simam_deploy.cli" in modules
    return status, {name for name in modules if name in HEAVY}


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("--help", 0),
        ("--version", 0),
        ("", 2),
        ("--nope", 2),
        ("nope", 2),
    ],
)
def test_before_a_command(tmp_path: Path, line: str, status: int) -> None:
    assert imported(tmp_path, line) == (status, set())


@pytest.mark.parametrize(
    ("line", "status"),
    [
        *((f"{name} --help", 0) for name in COMMANDS),
        ("fuse", 2),
        ("fuse --nope", 2),
        ("verify --threads x nowhere.onnx", 2),
        *((f"{name} nowhere.onnx", 2) for name in ("inspect", "verify", "bench")),
        ("fuse nowhere.onnx -o new.onnx", 2),
        ("build nowhere.onnx -o new.engine --targets sm86", 2),
        ("recipe trtexec nowhere.onnx", 2),
        ("export nowhere.py:build -o new.onnx", 2),
        ("export here.py:build -o new.onnx --weights nowhere.pt", 2),
        ("fuse here.py -o .", 2),
        ("fuse here.py -o new.onnx --specialise gpu", 2),
        ("fuse here.py -o new.onnx --shape 1,3,4,4", 2),
    ],
)
def test_of_a_command(tmp_path: Path, line: str, status: int) -> None:
    (tmp_path / "here.py").write_text("")
    assert imported(tmp_path, line) == (status, set())


def test_in_completion(tmp_path: Path) -> None:
    words = {"COMP_WORDS": "simam-deploy fuse --form ", "COMP_CWORD": "3"}
    assert imported(tmp_path, "", _SIMAM_DEPLOY_COMPLETE="complete_bash", **words)[1] == set()


def test_it_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("I am a text")
    status, heavy = imported(tmp_path, "inspect text.onnx")
    assert status == 2
    assert {"numpy", "onnx", "onnx_ir", "simam_deploy.formula"} <= heavy


def test_an_engine_is_read_without_a_framework(tmp_path: Path) -> None:
    engine(tmp_path / "net.engine")
    assert imported(tmp_path, "inspect net.engine -q") == (0, set())
