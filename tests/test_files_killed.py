"""Killed at any of its renames, a program that writes leaves the old model or the new one, each with its weights."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx_models import model as simam

from simam_deploy import manifest, onnx_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
SIZE = 5000
SCRIPT = """
import os, signal, sys
from pathlib import Path
from simam_deploy import onnx_file
from simam_deploy.fuse import fuse_file
onnx_file.PROTOBUF_LIMIT = 1000
left, replace = int(sys.argv[3]), Path.replace
def killing(self, to):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return replace(self, to)
Path.replace = killing
fuse_file(sys.argv[1], sys.argv[2], "primitive")
"""


def with_weights(path: Path, value: float) -> Path:
    made = simam()
    tensor = ir.tensor(np.full(SIZE, value, np.float32), name="big")
    made.graph.initializers["big"] = ir.Value(name="big", const_value=tensor)
    onnx_file.save(made, path)
    return path


def run(source: Path, target: Path, renames: int) -> int:
    command = [sys.executable, "-c", SCRIPT, str(source), str(target), str(renames)]
    return subprocess.run(command, check=False, stderr=subprocess.PIPE).returncode


def values(path: Path) -> set[float]:
    held = onnx_file.load(path).graph.initializers["big"].const_value
    assert isinstance(held, ir.ExternalTensor)
    return set(held.numpy().tolist())


@pytest.mark.parametrize("renames", range(4))
def test_a_kill_leaves_the_old_pair_or_the_new(renames: int, tmp_path: Path) -> None:
    old, new = with_weights(tmp_path / "old.onnx", 1), with_weights(tmp_path / "new.onnx", 2)
    target = tmp_path / "out/model.onnx"
    target.parent.mkdir()
    assert run(old, target, 99) == 0
    assert (values(target), manifest.disagreements(target)) == ({1.0}, [])
    ended = run(new, target, renames)
    assert ended == (-signal.SIGKILL if renames < 3 else 0)
    assert values(target) == ({1.0} if renames < 3 else {2.0})
    said = manifest.disagreements(target)  # the manifest comes before the model
    assert said == (["model.onnx.json is of another model.onnx"] if renames == 2 else [])
    assert run(new, target, 99) == 0  # and what is left stands in nobody's way
    assert (values(target), manifest.disagreements(target)) == ({2.0}, [])
    assert len(manifest.stale(target)) == 1


@pytest.mark.parametrize("renames", range(3))
def test_a_kill_at_the_first_time_leaves_no_model(renames: int, tmp_path: Path) -> None:
    source, target = with_weights(tmp_path / "a.onnx", 1), tmp_path / "model.onnx"
    assert run(source, target, renames) == -signal.SIGKILL
    assert not target.exists()
    assert run(source, target, 99) == 0
    assert values(target) == {1.0}
