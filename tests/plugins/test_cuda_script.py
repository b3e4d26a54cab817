"""plugins/cuda.sh, which finds nvcc and builds the CUDA kernels, with stand-ins for nvcc and CMake."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NVCC = '#!/bin/sh\necho "Cuda compilation tools, release {}, V0"\n'
CMAKE = """#!/bin/sh
[ "$1" = --build ] && exit
mkdir -p build/native/cuda
echo "SIMAM_CUDA_ARCHITECTURES:STRING=75;90" >build/native/cuda/CMakeCache.txt
touch build/native/cuda/libsimam_cuda.so
echo "-- The CXX compiler is a stand-in"
echo "-- simam: without the TensorRT plugin: its headers were not found"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "plugins").mkdir()
    shutil.copy(ROOT / "plugins/cuda.sh", tmp_path / "plugins")
    for name, text in {"nvcc": NVCC.format("13.0"), "old-nvcc": NVCC.format("12.8"), "cmake": CMAKE}.items():
        (tmp_path / "bin" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def build(checkout: Path, **variables: str) -> tuple[int, str]:
    environment = {"PATH": f"{checkout / 'bin'}:/usr/bin:/bin", **variables}
    command = ["/bin/sh", str(checkout / "plugins/cuda.sh"), "build"]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout


def test_what_was_built_and_what_was_left_out_is_said(checkout: Path) -> None:
    status, said = build(checkout)
    assert status == 0, said
    begin, left_out, built, library = said.splitlines()
    assert begin.startswith(f"compiling the CUDA kernels with {checkout}/bin/nvcc; ")
    assert left_out == "simam: without the TensorRT plugin: its headers were not found"
    assert built == f"built by {checkout}/bin/nvcc, for the architectures 75;90:"
    assert library == f"{checkout}/build/native/cuda/libsimam_cuda.so"


def test_a_compiler_that_is_none_or_too_old(checkout: Path) -> None:
    status, said = build(checkout, CUDACXX="nonsense")
    assert (status, said) == (1, "CUDACXX is nonsense; it is to name an nvcc of CUDA 13.0 or newer\n")
    status, said = build(checkout, CUDACXX="old-nvcc")
    assert status == 1
    assert f"{checkout}/bin/old-nvcc is of CUDA 12; the kernels take 13.0 or newer\n" in said
