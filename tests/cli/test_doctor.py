"""The doctor tries everything and never dies of what it finds."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command_line import Run
from helpers.played_engine import write_engine
from helpers.played_gpu import PlayedGpu, cuda_python
from helpers.played_trt import module

from simam_deploy import formula, native
from simam_deploy.cli import doctor
from simam_deploy.engines import builder, flavors
from simam_deploy.graph import onnx_file
from simam_deploy.native import cuda_library
from simam_deploy.rewrite.forms import alone
from simam_deploy.runtimes import ROUNDING, RUNTIMES, for_files
from simam_deploy.runtimes.trt_cuda import has_driver

PIP = {
    "torch": ("torch", "torch"),
    "ort": ("onnxruntime", "ort"),
    "openvino": ("openvino", "openvino"),
    "tensorrt_rtx": ("tensorrt_rtx", "tensorrt-rtx"),
}


@pytest.fixture(scope="module")
def rows() -> dict[str, doctor.DoctorRow]:
    return {row.name: row for row in doctor.examine()}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without building an engine."""
    monkeypatch.setattr(doctor, "_try_tensorrt_rtx", lambda _: "not tried")


def test_a_row_for_every_runtime(rows: dict[str, doctor.DoctorRow]) -> None:
    assert set(rows) == {
        "simam-deploy",
        "torch",
        *RUNTIMES,
        "kernel library",
        "CUDA kernels",
        "ort, CUDA",
        "tensorrt_rtx",
        "tensorrt",
    } - {"eager", *ROUNDING}
    mended = ("pip install", "make native", "torch sees no GPU", "on a machine with a GPU of NVIDIA")
    assert all(row.works or any(words in row.detail for words in mended) for row in rows.values())


@pytest.mark.skipif(has_driver(), reason="for a machine without a driver")
def test_without_a_driver_no_package_is_the_remedy(rows: dict[str, doctor.DoctorRow]) -> None:
    assert rows["trt"].detail.endswith("\nrun it on a machine with a GPU of NVIDIA and its driver")


@pytest.mark.parametrize("name", ["torch", "onnx_reference", "ort", "openvino"])
def test_what_is_installed_is_run_and_compared(rows: dict[str, doctor.DoctorRow], name: str) -> None:
    pytest.importorskip({"onnx_reference": "onnx", **{n: m for n, (m, _) in PIP.items()}}[name])
    assert rows[name].works, rows[name].detail
    assert " of tolerance" in rows[name].detail
    assert rows[name].version[0].isdigit()


def test_the_engine_builder_is_tried(rows: dict[str, doctor.DoctorRow]) -> None:
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
    assert all(found[other].works for other in {"torch", *for_files()} - {name})


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
    for name in {"torch", *for_files()}:
        assert not found[name].works
        assert "what it computes is not SimAM" in found[name].detail


def test_every_extra_that_is_named_exists() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    extras = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    for extra, _ in doctor.PACKAGES.values():
        assert extra == "onnx" or f"\n{extra} = [" in extras


@pytest.fixture
def three_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        doctor.DoctorRow("a", "1", True, "runs"),
        doctor.DoctorRow("b", "-", False, "is not here\npip install b"),
    ]
    monkeypatch.setattr(doctor, "examine", lambda _: found)
    never = doctor.DoctorRow("c", "-", False, "no TensorRT\npip install c")
    monkeypatch.setattr(doctor, "examine_experimental", lambda: [never])


@pytest.mark.usefixtures("three_rows")
def test_what_mends_is_whole_below_the_table_and_a_line_counts(run: Run) -> None:
    status, out, _ = run("doctor")
    assert status == 0
    assert out.splitlines()[2:] == [
        "a  1        yes    runs",
        "b  -        no     see below",
        "how to mend what is missing:",
        "b: is not here",
        "  pip install b",
        "works: 1 of 2",
    ]


@pytest.mark.usefixtures("three_rows")
def test_what_no_gpu_has_run_is_a_table_of_its_own_and_shown_when_asked_for(run: Run) -> None:
    assert "experimental" not in run("doctor")[1]
    assert "c" not in [row["name"] for row in json.loads(run("doctor --json")[1])]
    _, out, _ = run("doctor --all")
    first, second = out.split("experimental: never run on a GPU\n")
    assert "c: no TensorRT" in second
    assert "TensorRT" not in first
    assert out.endswith("works: 1 of 2\n")
    told = {row["name"]: row["experimental"] for row in json.loads(run("doctor --all --json")[1])}
    assert told == {"a": False, "b": False, "c": True}


def test_what_the_experimental_parts_lack_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    (row,) = doctor.examine_experimental()
    assert not row.works
    assert row.detail.startswith("no TensorRT here")
    assert row.detail.endswith('pip install "simam-deploy[ahead-of-time]"')


def test_the_doctor_imports_them_only_then() -> None:
    code = (
        "import sys\nfrom simam_deploy.cli import doctor\ndoctor._try_tensorrt_rtx = lambda _: ''\ndoctor.examine()\n"
        "assert 'onnx' in sys.modules and not [m for m in sys.modules if m.startswith('simam_deploy.experimental')]\n"
        "doctor.examine_experimental()\nassert 'simam_deploy.experimental' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("flavor", ["tensorrt", "tensorrt_rtx"])
def test_an_engine_is_built_and_run_where_a_gpu_is(
    flavor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a played one."""
    gpu = PlayedGpu()
    versions = {"tensorrt": "10.3.0", "tensorrt_rtx": "1.7.1.116"}
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda_python(gpu))
    monkeypatch.setitem(sys.modules, flavor, module(gpu, flavor, versions[flavor]))
    monkeypatch.setattr(flavors, "find_spec", lambda name: name == flavor or None)

    def build(file: Path, engine: Path, *, targets: list[str], shapes: Any, tf32: bool) -> None:
        assert targets == ([] if flavor == "tensorrt" else ["sm86"])
        write_engine(engine, file, flavor, versions[flavor], [shapes])

    monkeypatch.setattr(builder, "build_engine", build)
    onnx_file.save(alone("function", ("n", 2, "h", "w")), tmp_path / "block.onnx")
    said = doctor._try_trt(tmp_path / "block.onnx")
    assert said.startswith(f"trt[{flavor} {versions[flavor]}, sm86] at 0.")
