"""The frameworks report nothing to their makers: no file, no look-up of a host, unless the user wants it so."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command_line import Run
from helpers.graphs import save, simam

from simam_deploy.processes.silent import SILENT
from simam_deploy.runtimes.session import framework

CI = ("CI", "TF_BUILD", "GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "TRAVIS", "JENKINS_URL", "BUILDKITE")
"""Where one of these is set, ONNX Runtime does not report by itself."""
SESSIONS = """
import sys, time
import numpy as np
from simam_deploy import open_session
for runtime in ("ort", "openvino"):
    with open_session(sys.argv[1], runtime) as session:
        session.run({"x": np.ones((1, 3, 4, 4), np.float32)})
time.sleep(float(sys.argv[2]))
"""
SHIM = """
#include <stdio.h>
#include <stdlib.h>
int getaddrinfo(const char *host, const char *service, const void *hints, void **found) {
    FILE *log = fopen(getenv("LOOKUPS"), "a");
    fprintf(log, "%s\\n", host ? host : "-");
    fclose(log);
    return -2;
}
"""


def start(home: Path, model: Path, seconds: float, **variables: str) -> "subprocess.Popen[bytes]":
    """Sessions in a process that has a home, a folder for passing files and a current folder of its own."""
    for name in ("home", "tmp", "cwd"):
        (home / name).mkdir(parents=True)
    environment = {name: value for name, value in os.environ.items() if name not in (*CI, *SILENT.values())}
    environment |= {"HOME": str(home / "home"), "TMPDIR": str(home / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), **variables}
    environment.pop("XDG_CACHE_HOME", None)
    command = [sys.executable, "-c", SESSIONS, str(model), str(seconds)]
    return subprocess.Popen(command, cwd=home / "cwd", env=environment)


def written(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


@pytest.mark.slow
def test_sessions_write_no_file_and_look_up_no_host(tmp_path: Path) -> None:
    """ONNX Runtime 1.32 looks up its host 9 seconds after a session was opened."""
    if not (compiler := shutil.which("cc")):
        pytest.skip("there is no C compiler")
    (tmp_path / "shim.c").write_text(SHIM)
    shim = str(tmp_path / "shim.so")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", shim, str(tmp_path / "shim.c")], check=True)
    model = save(simam(), tmp_path / "m.onnx")
    silent, loud = tmp_path / "silent", tmp_path / "loud"
    given = {"LD_PRELOAD": shim, "LOOKUPS": ""}
    started = [
        start(silent, model, 12, **given | {"LOOKUPS": str(tmp_path / "silent.txt")}),
        start(loud, model, 12, **given | {"LOOKUPS": str(tmp_path / "loud.txt"), "ORT_DISABLE_TELEMETRY": "0"}),
    ]
    assert [process.wait(120) for process in started] == [0, 0]
    assert written(silent) == []
    assert not (tmp_path / "silent.txt").exists()
    if framework("onnxruntime", "ort", "ort").__version__.startswith("1.32"):  # so that this test can fail
        assert "deviceid" in "".join(written(loud))
        assert "microsoft" in (tmp_path / "loud.txt").read_text()


@pytest.mark.parametrize(("set_by_user", "then"), [(None, "1"), ("0", "0"), ("", "")])
def test_the_variable_is_set_before_the_import_unless_the_user_did(
    monkeypatch: pytest.MonkeyPatch, set_by_user: str | None, then: str
) -> None:
    seen = []
    monkeypatch.setattr(
        "simam_deploy.runtimes.session.import_module", lambda name: seen.append(os.environ.get(SILENT[name]))
    )
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "")
    if set_by_user is None:
        monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    else:
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", set_by_user)
    framework("onnxruntime", "ort", "ort")
    assert seen == [then]


def test_a_model_that_imports_onnxruntime_finds_it_silent(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "mine.py").write_text("import os\nraise OSError(os.environ.get('ORT_DISABLE_TELEMETRY'))\n")
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    assert "OSError: 1" in run("export mine.py:build -o new.onnx")[2]


@pytest.mark.parametrize("place", ["simam_deploy", "benchmarks"])
def test_onnxruntime_is_imported_in_one_place(place: str) -> None:
    files = (Path(__file__).parents[2] / place).rglob("*.py")
    written = "package/onnxruntime.py"  # it writes a program that does
    held = [p for p in files if "import onnxruntime" in p.read_text() and not p.as_posix().endswith(written)]
    assert held == []


@pytest.mark.parametrize("reports", [True, False])
def test_openvino_is_imported_with_a_stub_that_reports_nothing(tmp_path: Path, reports: bool) -> None:
    """Also where openvino_telemetry was imported before, and for what is reported later, as a conversion is."""
    (tmp_path / "openvino_telemetry").mkdir()
    (tmp_path / "openvino_telemetry/__init__.py").write_text("class Telemetry: real = True\n")
    (tmp_path / "openvino_telemetry/backend.py").write_text("backend_ga4 = None\n")
    code = "import openvino_telemetry as real\n" if reports else "real = None\n"
    code += (
        "import sys\nfrom simam_deploy.runtimes.openvino import _import_openvino\n_import_openvino()\n"
        "assert sys.modules.get('openvino_telemetry') is real\n"
        "held = [m.tm.__name__ for n, m in sys.modules.items() if n.startswith('openvino.') and hasattr(m, 'tm')]\n"
        "print(sorted(set(held)))\n"
    )
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "['openvino.tools.ovc.telemetry_stub']\n", done.stderr
