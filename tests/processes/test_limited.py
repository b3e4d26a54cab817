"""A process with limits ends: by itself, by a limit, or with its parent; and leaves nothing."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.command_line import Run
from onnx import TensorProto, helper, numpy_helper

from simam_deploy.compare import kernel_use
from simam_deploy.errors import LimitError
from simam_deploy.graph import onnx_file
from simam_deploy.processes.limited import Limits, call
from simam_deploy.rewrite.forms import alone

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no resource limits")
TESTS = Path(__file__).parents[1]
ENOUGH = Limits(cpu_s=20, wall_s=60, memory=2**30)


@pytest.fixture(autouse=True)
def import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a child finds helpers.child_targets."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS.parent), str(TESTS)]))


def test_what_a_function_returns() -> None:
    value, number, folder = call("helpers.child_targets:echo", "λ", 1.5, limits=ENOUGH)
    assert (value, number) == ("λ", 1.5)
    assert not Path(folder).exists()


@pytest.mark.parametrize(
    ("target", "limits", "words"),
    [
        ("spin", Limits(1, 60, 2**30), "^it took more than 1 s of CPU time$"),
        ("spin", Limits(60, 2, 2**30), "^it took more than 2 s$"),
        ("grow", Limits(20, 60, 2**28), "^it took more than 0.2 GiB of memory$"),
        ("fail", ENOUGH, "^the first line$"),
        (
            "die",
            ENOUGH,
            "was ended by SIGABRT; it had 20 s of CPU time and 1.0 GiB of memory; a last word",
        ),
        ("nothing", ENOUGH, "has no attribute 'nothing'"),
    ],
)
def test_an_end_has_words(target: str, limits: Limits, words: str) -> None:
    with pytest.raises(LimitError, match=words):
        call(f"helpers.child_targets:{target}", limits=limits)


def test_nothing_is_left_and_nothing_comes_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "colorsys.py").write_text("raise RuntimeError")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not Path(call("helpers.child_targets:litter", limits=ENOUGH)).exists()
    assert "site" not in call("helpers.child_targets:imported", limits=ENOUGH)
    assert [path.name for path in tmp_path.iterdir()] == ["colorsys.py"]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux does that")
def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = (
        f"import sys; sys.path.insert(0, {str(TESTS)!r}); from simam_deploy.processes.limited import Limits, call; "
        f"call('helpers.child_targets:sleep', {str(note)!r}, limits=Limits(60, 60, 2**30))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)})
    while not (note.is_file() and note.read_text()):
        assert parent.poll() is None
        time.sleep(0.05)
    child = int(note.read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or "State:\tZ" in Path(f"/proc/{child}/status").read_text():
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the process went on without its parent")


def with_a_loop(file: Path, times: int, big: int = 1) -> Path:
    """A sound block, and a Loop beside it that runs so often, on so many numbers."""
    model = onnx.ModelProto()
    onnx_file.save(alone("function", (1, 3, 4, 4)), file)
    model.ParseFromString(file.read_bytes())
    scalar = [
        helper.make_tensor_value_info(n, t, [])
        for n, t in (("i", TensorProto.INT64), ("c", TensorProto.BOOL), ("co", TensorProto.BOOL))
    ]
    vector = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("v", "w")]
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["co"]), helper.make_node("Relu", ["v"], ["w"])],
        "body",
        [*scalar[:2], vector[0]],
        [scalar[2], vector[1]],
    )
    x = model.graph.input[0].name
    model.graph.initializer.extend(
        [numpy_helper.from_array(np.array(times), "times"), numpy_helper.from_array(np.array([big, 1, 1, 1]), "big")]
    )
    model.graph.node.extend(
        [
            helper.make_node("Expand", [x, "big"], ["start"]),
            helper.make_node("Loop", ["times", "", "start"], ["looped"], body=body),
        ]
    )
    model.graph.output.append(helper.make_tensor_value_info("looped", TensorProto.FLOAT, None))
    file.write_bytes(model.SerializeToString())
    return file


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("times", "big", "words"),
    [
        (2**62, 1, "(more than .* s( of CPU time)?|ended by SIGSEGV; it had 2 s .*); bench"),
        (1, 10**8, "(more than 1.0 GiB of memory|Failed to allocate memory)"),
    ],
)
def test_inspect_says_that_a_run_met_a_limit(
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    times: int,
    big: int,
    words: str,
) -> None:
    monkeypatch.setattr(kernel_use, "LIMITS", Limits(cpu_s=2, wall_s=10, memory=kernel_use.LIMITS.memory))
    file = with_a_loop(tmp_path / "m.onnx", times, big)
    status, out, _ = run(f"inspect {file}")
    assert status == 0
    assert "1 SimAM blocks" in out
    (line,) = (line for line in out.splitlines() if line.startswith("compiled kernel"))
    assert line.startswith("compiled kernel, in ort: not seen; ")
    assert re.search(words, line), line


@pytest.mark.usefixtures("library")
def test_a_short_loop_is_seen(tmp_path: Path, run: Run) -> None:
    assert "1 of 1 nodes" in run(f"inspect {with_a_loop(tmp_path / 'm.onnx', 3)}")[1]


@pytest.mark.usefixtures("library")
def test_weights_beyond_the_limit_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_use, "MOST_WEIGHTS", 100)
    use = kernel_use.kernel_in(with_a_loop(tmp_path / "m.onnx", 3))
    assert (use.ran, use.of) == (None, 1)
    assert "its weights take more than" in use.why
