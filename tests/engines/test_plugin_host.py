"""The environment of a process that loads our plugin library, and the files that are none."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from simam_deploy.engines import plugin_host
from simam_deploy.engines.plugin_host import environment_for, register
from simam_deploy.errors import NativeError

HEAD = Path(sys.executable).read_bytes()[:20]
"""Beginning of a library for this processor."""
needs_rtx = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")


@needs_rtx
def test_the_link_leads_to_the_library_of_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/first:/second")
    known = environment_for(tmp_path)
    (link,) = tmp_path.iterdir()
    assert link.name == "libtensorrt_rtx.so"
    assert link.resolve().name.startswith("libtensorrt_rtx.so.1")
    assert known["LD_LIBRARY_PATH"] == f"{tmp_path}:/first:/second"


def test_without_tensorrt_rtx_there_is_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin_host, "find_spec", lambda _: None)
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    assert "LD_LIBRARY_PATH" not in environment_for(tmp_path)
    assert not list(tmp_path.iterdir())


class Registry:
    all_creators = ()

    def load_library(self, path: str) -> None:
        return None


class Trt:
    __name__, __version__ = "tensorrt", "10.3.0"
    get_plugin_registry = Registry


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            None,
            r"there is no plugin library \S+plugin.so; build it again: `TENSORRT_INCLUDE_DIR=\S+ make native-cuda`",
        ),
        (b"text", r"plugin.so is no library of Linux"),
        (b"\x7fELF" + b"\xff" * 60, r"plugin.so is cut off"),
        (HEAD + bytes(44), r"(?s)tensorrt 10.3.0 takes no plugins from \S+plugin.so; .*\n  first\n  last"),
    ],
    ids=["missing", "text", "cut off", "no plugins"],
)
def test_files_that_are_no_plugin_library(content: bytes | None, words: str, tmp_path: Path) -> None:
    file = tmp_path / "plugin.so"
    if content is not None:
        file.write_bytes(content)
    monkey: Any = Trt()
    with pytest.raises(NativeError, match=words):
        register(monkey, file, ["before", "first", "last"])


@needs_rtx
def test_a_process_without_the_link_is_told_before_it_ends(tmp_path: Path) -> None:
    code = "import tensorrt_rtx as trt, sys; from pathlib import Path; from simam_deploy.engines import plugin_host\n"
    (tmp_path / "plugin.so").write_bytes(HEAD + bytes(44))
    code += f"plugin_host.register(trt, Path({str(tmp_path / 'plugin.so')!r}), [])"
    known = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path[1:]), "LD_LIBRARY_PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=known)
    assert done.returncode == 1
    assert "would end this process at the first plugin node: its parser opens libtensorrt_rtx.so" in done.stderr
