"""The names that options take, told without the frameworks, are those of the registries; and shells complete them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import simam_deploy
from simam_deploy import native
from simam_deploy.cli import choices
from simam_deploy.compare import inputs
from simam_deploy.package.recipes import HOSTS
from simam_deploy.precision.analysis import TOOLS
from simam_deploy.precision.calibrate import METHODS
from simam_deploy.precision.targets import TARGETS
from simam_deploy.precision.wanted import PRECISIONS
from simam_deploy.rewrite.for_runtime import RUNTIMES as ROWS
from simam_deploy.rewrite.forms import FORMS
from simam_deploy.runtimes import ENGINES, RUNTIMES, ort
from simam_deploy.to_onnx.axes import NAMES
from simam_deploy.to_onnx.torch_export import EXPORTERS

PACKAGES = str(Path(simam_deploy.__file__).parents[1])


def test_they_are_those_of_the_registries() -> None:
    assert tuple(FORMS) == choices.FORMS
    assert tuple(ROWS) == choices.FOR
    assert tuple(name for name in RUNTIMES if name not in ("eager", *ENGINES)) == choices.RUNTIMES
    assert (*inputs.MADE, "adversarial") == choices.INPUTS
    assert inputs.DEFAULT == choices.DEFAULT_INPUTS
    assert NAMES == choices.AXES
    assert EXPORTERS == choices.EXPORTERS
    assert ort.KERNEL == choices.KERNEL
    assert PRECISIONS == choices.PRECISIONS
    assert (tuple(TARGETS), tuple(METHODS)) == (choices.TARGETS, choices.CALIBRATIONS)
    assert TOOLS == choices.TOOLS
    assert tuple(HOSTS) == choices.HOSTS
    assert (native.CPU, native.CUDA) == choices.PROVIDERS


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in (
        "yolo.onnx",
        "yolo.simam.onnx",
        "yolo.pt",
        "net.py",
        ".hidden.onnx",
        "inner/deep.onnx",
        "inner/a.pt",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def completed(folder: Path, line: str) -> list[str]:
    """By the protocol of bash: the words, and the number of the one at the cursor."""
    done = subprocess.run(
        [sys.executable, "-m", "simam_deploy.cli"],
        cwd=folder,
        env={
            "PYTHONPATH": PACKAGES,
            "_SIMAM_DEPLOY_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(line.count(" ")),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "simam-deploy ",
            ["inspect", "analyze", "doctor", "export", "fuse", "convert", "build", "recipe", "verify", "bench"],
        ),
        ("simam-deploy convert net.onnx --to int", ["int8", "int8+fp16"]),
        ("simam-deploy analyze net.onnx --exclude-for on", ["onnxruntime", "onnxconverter"]),
        ("simam-deploy recipe t", ["trtexec", "triton"]),
        ("simam-deploy ver", ["verify"]),
        ("simam-deploy fuse --rep", ["--repair"]),
        ("simam-deploy fuse ", ["yolo.onnx", "yolo.simam.onnx", "inner/"]),
        ("simam-deploy fuse yolo.s", ["yolo.simam.onnx"]),
        ("simam-deploy verify yolo.onnx inner/", ["inner/deep.onnx"]),
        ("simam-deploy inspect inn", []),  # bash itself goes on into a folder
        ("simam-deploy inspect nowhere/", []),
        ("simam-deploy export ", ["net.py", "inner/"]),
        ("simam-deploy fuse --form ", list(FORMS)),
        ("simam-deploy fuse yolo.onnx --form pri", ["primitive"]),
        ("simam-deploy verify --forms function,", [f"function,{name}" for name in (*FORMS, "all")][1:]),
        ("simam-deploy bench --runtimes ort,o", ["ort,onnx_reference", "ort,openvino", "ort,onnx_half"]),
        ("simam-deploy verify --inputs plain,out", ["plain,outlier"]),
        ("simam-deploy verify --kernel r", ["require"]),
        ("simam-deploy verify --provider CU", ["CUDAExecutionProvider"]),
        ("simam-deploy export --exporter t", ["torchscript"]),
        ("simam-deploy export --dynamic batch,h", ["batch,height"]),
        ("simam-deploy fuse -o ", []),
    ],
)  # fmt: skip
def test_bash_completes(files: Path, line: str, words: list[str]) -> None:
    got = completed(files, line)
    assert sorted(got) == sorted(words)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_install_completion(files: Path) -> None:
    """As a user does it: install, start another bash, and press TAB."""
    program = files / "bin/simam-deploy"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m simam_deploy.cli "$@"\n')
    program.chmod(0o755)
    variables = {"HOME": str(files), "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": PACKAGES}

    def bash(text: str) -> str:
        """As a file, since `bash -c` hands its place over to a single program."""
        (files / "script").write_text(text)
        command = ["bash", "script"]
        done = subprocess.run(
            command, cwd=files, env=variables, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "bash completion installed in" in bash("simam-deploy --install-completion\ntrue\n")
    tab = (
        "source .bashrc\nCOMP_WORDS=(simam-deploy fuse --form pri)\nCOMP_CWORD=3\n"
        "$(complete -p simam-deploy | sed 's/.*-F \\([^ ]*\\) .*/\\1/') simam-deploy\n"
        'echo "${COMPREPLY[@]}"\n'
    )
    assert bash(tab) == "primitive\n"
