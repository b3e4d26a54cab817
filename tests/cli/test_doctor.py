"""The doctor tries everything and never dies of what it finds."""

import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from simam_deploy import formula, native
from simam_deploy.cli import doctor
from simam_deploy.native import cuda_library
from simam_deploy.runtimes import RUNTIMES, installed

PIP = {
    "torch": ("torch", "torch"),
    "ort": ("onnxruntime", "ort"),
    "openvino": ("openvino", "openvino"),
    "tensorrt_rtx": ("tensorrt_rtx", "tensorrt-rtx"),
}


@pytest.fixture(scope="module")
def rows() -> dict[str, doctor.Row]:
    return {row.name: row for row in doctor.examine()}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without building an engine."""
    monkeypatch.setattr(doctor, "_try_tensorrt_rtx", lambda _: "not tried")


def test_a_row_for_every_runtime(rows: dict[str, doctor.Row]) -> None:
    assert set(rows) == {
        "simam-deploy",
        "torch",
        *RUNTIMES,
        "kernel library",
        "CUDA kernels",
        "ort, CUDA",
        "tensorrt_rtx",
        "tensorrt",
    } - {"eager"}
    mended = ("pip install", "make native", "torch sees no GPU")
    assert all(row.works or any(words in row.detail for words in mended) for row in rows.values())


@pytest.mark.parametrize("name", ["torch", "onnx_reference", "ort", "openvino"])
def test_what_is_installed_is_run_and_compared(rows: dict[str, doctor.Row], name: str) -> None:
    pytest.importorskip({"onnx_reference": "onnx", **{n: m for n, (m, _) in PIP.items()}}[name])
    assert rows[name].works, rows[name].detail
    assert " of tolerance" in rows[name].detail
    assert rows[name].version[0].isdigit()


def test_the_engine_builder_is_tried(rows: dict[str, doctor.Row]) -> None:
    pytest.importorskip("tensorrt_rtx")
    assert "builds engines without a GPU; a block for sm86 took" in rows["tensorrt_rtx"].detail


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["torch", "ort", "openvino"])
def test_what_is_missing_comes_with_the_line_that_mends_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    module, extra = PIP[name]
    packages = doctor.PACKAGES[name][1]
    known = metadata.version

    def version(package: str) -> str:
        if package in packages:
            raise metadata.PackageNotFoundError(package)
        return known(package)

    monkeypatch.setitem(sys.modules, module, None)
    for part in [m for m in sys.modules if m == "simam_deploy.pytorch.module"]:
        monkeypatch.delitem(sys.modules, part)
    monkeypatch.setattr(metadata, "version", version)
    found = {row.name: row for row in doctor.examine()}
    assert not found[name].works
    assert found[name].version == "-"
    assert found[name].detail.splitlines()[-1] == f'pip install "simam-deploy[{extra}]"'
    assert all(found[other].works for other in {"torch", *installed()} - {"eager", name})


@pytest.mark.usefixtures("quick")
def test_a_broken_installation_is_a_row_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> str:
        raise OSError("libcudart.so.13: cannot open shared object file\nand more")

    monkeypatch.setattr(doctor, "_try_torch", broken)
    row = next(row for row in doctor.examine() if row.name == "torch")
    assert not row.works
    assert row.detail == (
        'OSError: libcudart.so.13: cannot open shared object file\npip install "simam-deploy[torch]"'
    )


@pytest.mark.usefixtures("quick")
def test_a_broken_kernel_library_is_no_fault_of_ort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / native.NAME).write_text("no library")
    monkeypatch.setenv(native.VARIABLE, str(tmp_path / native.NAME))
    found = {row.name: row for row in doctor.examine()}
    assert found["ort"].works, found["ort"].detail
    assert not found["kernel library"].works
    assert "unset that, or let it name another" in found["kernel library"].detail


def test_cuda_kernels_that_are_not_there_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_library, "kernels", lambda: None)
    assert "make native-cuda" in doctor._cuda_kernels().detail
    monkeypatch.undo()
    (tmp_path / "libsimam_cuda.so").write_text("no library")
    monkeypatch.setenv("SIMAM_CUDA_LIBRARY", str(tmp_path / "libsimam_cuda.so"))
    row = doctor._cuda_kernels()
    assert not row.works
    assert "libsimam_cuda.so" in row.detail


@pytest.mark.usefixtures("quick")
def test_a_runtime_that_computes_something_else_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formula, "tolerance", lambda x, dtype: np.full(x.shape, 1e-12))
    found = {row.name: row for row in doctor.examine()}
    for name in {"torch", *installed()} - {"eager"}:
        assert not found[name].works
        assert "what it computes is not SimAM" in found[name].detail


def test_every_extra_that_is_named_exists() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    extras = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    for extra, _ in doctor.PACKAGES.values():
        assert extra == "onnx" or f"\n{extra} = [" in extras
