"""What several test files start from."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of torch and numpy: tests run side by side, and most arrays are small
os.environ.pop("COLUMNS", None)  # readline leaves 80 to the workers of pytest-xdist, and tables fold

import pytest
import torch_lookups

from simam_deploy import native

TINY = Path(__file__).with_name("tiny.py")


@pytest.fixture(autouse=True)
def lookups_are_kept() -> None:
    """From the second test that exports on; before the first, nothing of torch is imported."""
    torch_lookups.keep()


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny.py:build` exported in form function; do not write to it."""
    from simam_deploy.export import export
    from simam_deploy.source import load

    path = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    module, example = load(f"{TINY}:build")
    assert example is not None
    export(module, example, path, exporter="torchscript", opset=17, check=False)
    return path


@pytest.fixture(scope="session")
def library() -> native.Library:
    """The compiled op library, or the test is skipped."""
    found = native.library()
    if found is None:
        pytest.skip(native.why_not())
    return found


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where the op library was not built."""
    monkeypatch.setattr(native, "library", lambda: None)
