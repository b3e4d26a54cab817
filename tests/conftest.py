"""What several test files start from."""

from pathlib import Path

import pytest

from simam_deploy import native

TINY = Path(__file__).with_name("tiny.py")


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
