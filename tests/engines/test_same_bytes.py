"""The same file gives the same engine: wherever it lies, whatever the environment and the order of targets."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.plugin import built_plugin

from benchmarks.pixels import NETWORKS
from simam_deploy.engines import run_worker
from simam_deploy.engines.builder import build_engine

pytestmark = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
TARGETS = ("sm86", "sm120")


def quiet(_: str) -> None: ...


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four outputs: the builder keeps them in the order of their addresses. One output shows nothing."""
    path = tmp_path_factory.mktemp("scenes") / "scenes.onnx"
    NETWORKS["scenes"].export(path, quiet)
    return path


@pytest.mark.parametrize("plugin", ["none", "library"])
def test_place_environment_and_order_change_no_byte(
    scenes: Path, plugin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = plugin if plugin == "none" else built_plugin()
    engine = tmp_path / "net.engine"
    build_engine(scenes, engine, targets=TARGETS, plugin=library)
    expected = engine.read_bytes()
    for length in (1, 60, 200):
        elsewhere = tmp_path / ("x" * length)
        elsewhere.mkdir()
        shutil.copy(scenes, elsewhere / "a.onnx")
        monkeypatch.setenv("FILLS_THE_ENVIRONMENT", "x" * 50 * length)
        build_engine(elsewhere / "a.onnx", elsewhere / "e", targets=TARGETS[::-1], plugin=library)
        assert (elsewhere / "e").read_bytes() == expected


def test_tunables_of_the_user_stay(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "told"
    monkeypatch.setattr(run_worker, "WORKER", ("/bin/sh", "-c", f'echo "$GLIBC_TUNABLES" > "{told}"'))
    monkeypatch.setenv(run_worker.TUNABLES, "glibc.malloc.check=0")
    with pytest.raises(run_worker.BuildError):
        build_engine(scenes, tmp_path / "e", targets=TARGETS)
    assert told.read_text() == f"glibc.malloc.check=0:{run_worker.STEADY_HEAP}\n"
