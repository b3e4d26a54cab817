"""Killed at any of its renames, a program that writes leaves the old model or the new one, each with its weights."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from helpers.onnx_models import model as simam

from simam_deploy.artifacts import manifest
from simam_deploy.graph import onnx_file
from simam_deploy.rewrite.fuse import fuse_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
SIZE = 5000
SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from simam_deploy.graph import onnx_file
from simam_deploy.rewrite.fuse import fuse_file

onnx_file.PROTOBUF_LIMIT = 1000
replace = Path.replace

def write(source, target, left):
    def killing(self, to):
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return replace(self, to)
    Path.replace = killing
    fuse_file(source, target, "primitive")

for job in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        write(*job)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Each job in a process of its own: source, target, and the renames after which it is killed."""


def with_weights(path: Path, value: float) -> Path:
    made = simam()
    tensor = ir.tensor(np.full(SIZE, value, np.float32), name="big")
    made.graph.initializers["big"] = ir.Value(name="big", const_value=tensor)
    onnx_file.save(made, path)
    return path


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `again0` to `again3`: over a model of ones, one of twos was written, up to that rename. And `first0` to
    `first2`: a model of twos up to that rename, where there was none."""
    folder = tmp_path_factory.mktemp("killed")
    ones, twos = with_weights(folder / "ones.onnx", 1), with_weights(folder / "twos.onnx", 2)
    jobs: list[tuple[str, str, int]] = []
    for renames in range(4):
        target = folder / f"again{renames}/model.onnx"
        jobs += [(str(ones), str(target), 99), (str(twos), str(target), renames)]
        jobs += [(str(twos), str(folder / f"first{renames}/model.onnx"), renames)] if renames < 3 else []
    for _, place, _ in jobs:
        Path(place).parent.mkdir(exist_ok=True)
    done = subprocess.run([sys.executable, "-c", SCRIPT, json.dumps(jobs)], check=True, stdout=subprocess.PIPE)
    statuses = [int(line) for line in done.stdout.split()]
    assert statuses == [0 if renames > 2 else -signal.SIGKILL for _, _, renames in jobs]
    return folder


def values(path: Path) -> set[float]:
    held = onnx_file.load(path).graph.initializers["big"].const_value
    assert isinstance(held, ir.ExternalTensor)
    return set(held.numpy().tolist())


@pytest.mark.parametrize("renames", range(4))
def test_a_kill_leaves_the_old_pair_or_the_new(renames: int, killed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = killed / f"again{renames}/model.onnx"
    assert values(target) == ({1.0} if renames < 3 else {2.0})
    said = manifest.disagreements(target)  # the manifest comes before the model
    assert said == (["model.onnx.json is of another model.onnx"] if renames == 2 else [])
    _nothing_stands_in_the_way(killed, target, monkeypatch)
    assert len(manifest.stale(target)) == 1


@pytest.mark.parametrize("renames", range(3))
def test_a_kill_at_the_first_time_leaves_no_model(
    renames: int, killed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = killed / f"first{renames}/model.onnx"
    assert not target.exists()
    _nothing_stands_in_the_way(killed, target, monkeypatch)


def _nothing_stands_in_the_way(killed: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "PROTOBUF_LIMIT", 1000)
    fuse_file(killed / "twos.onnx", target, "primitive")
    assert (values(target), manifest.disagreements(target)) == ({2.0}, [])
