"""What several test files start from."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of torch and numpy: tests run side by side, and most arrays are small
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # some tests import onnxruntime by themselves
os.environ.pop("COLUMNS", None)  # readline leaves 80 to the workers of pytest-xdist, and tables fold

import pytest
from helpers import torch_lookups

from simam_deploy import native

if TYPE_CHECKING:
    from helpers.command_line import Run
    from helpers.stand_in import StandIn


@pytest.fixture(autouse=True)
def lookups_are_kept() -> None:
    """From the second test that exports on; before the first, nothing of torch is imported."""
    torch_lookups.keep()


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny.py:build` exported in form function; do not write to it."""
    from helpers.command_line import TINY

    from simam_deploy.pytorch.load_model import load
    from simam_deploy.to_onnx import export

    path = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    module, example = load(f"{TINY}:build")
    assert example is not None
    export(module, example, path, exporter="torchscript", opset=17, check=False)
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in this process: exit status, stdout, stderr without the lines of progress."""
    from simam_deploy import cli

    def run_it(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["simam-deploy", *shlex.split(line)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capsys.readouterr()
        status = exit_.value.code
        return int(status or 0), out, "".join(x for x in err.splitlines(True) if not x.startswith("... "))

    return run_it


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder full of files, sound and broken, in which the commands are run."""
    from helpers.command_line import write_files

    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def library() -> native.Library:
    """The compiled op library, or the test is skipped."""
    found = native.library()
    if found is None:
        pytest.skip(native.why_not())
    return found


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where the op libraries were not built."""
    monkeypatch.delenv(native.VARIABLE, raising=False)
    monkeypatch.setattr(native, "library", lambda *_: None)


@pytest.fixture(scope="session")
def fake_cuda() -> Path:
    """The op library for CUDA, whose launcher is a fake; its operators for the CPU are real."""
    path = Path(__file__).parents[1] / "build/native/tests/libsimam_onnxruntime_fake.so"
    if not path.is_file():
        pytest.skip(f"{path.name} is not built: make native-tests")
    return path


@pytest.fixture(scope="session")
def built_kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that stands in for libsimam_cuda.so; see stand_in.py."""
    pytest.importorskip("torch")
    from helpers.stand_in import build

    return build(tmp_path_factory.mktemp("kernels")) or pytest.skip("there is no C compiler")


@pytest.fixture
def stand_in(built_kernels: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """SimAM's kernel in torch runs, on CPU tensors too, by the library that stands in: what it saw."""
    import torch
    from helpers.stand_in import StandIn

    from simam_deploy.pytorch import cuda_op

    monkeypatch.setenv("SIMAM_CUDA_LIBRARY", str(built_kernels))
    monkeypatch.setattr(cuda_op, "DEVICES", ("cuda", "cpu"))
    if cuda_op._kernels is None:  # nobody has asked, or there was none then
        cuda_op._missing = None
    cuda_op.prepare()
    assert cuda_op._kernels is not None
    monkeypatch.setattr(cuda_op, "_prepared", set())
    torch._dynamo.reset()  # what other tests have compiled
    yield StandIn(cuda_op._kernels.loaded)
    torch._dynamo.reset()


@pytest.fixture
def no_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No library of the CUDA kernels, nobody has asked for one, and the folder where one is looked for."""
    pytest.importorskip("torch")
    from simam_deploy.pytorch import cuda_op

    monkeypatch.delenv("SIMAM_CUDA_LIBRARY", raising=False)
    monkeypatch.setattr(native, "PACKAGE", tmp_path / "package")
    monkeypatch.setattr(native, "CHECKOUT", tmp_path / "checkout")
    monkeypatch.setattr(native, "CHECKOUT_CUDA", tmp_path)
    monkeypatch.setattr(cuda_op, "_missing", None)
    monkeypatch.setattr(cuda_op, "_kernels", None)
    return tmp_path
