"""The GPU that is asked, the compilers, and the PTX of real ones."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import ahead
from helpers.ahead import CUDA, H200, case

from simam_deploy.errors import BuildError, InputError, RuntimeUnavailable
from simam_deploy.experimental.ahead_of_time import Device, compiler, device, plugin, source


@pytest.fixture(scope="module", autouse=True)
def planner() -> None:
    ahead.need_planner()


@pytest.mark.parametrize(
    ("cuda", "ptx"),
    [
        ((11, 8), (7, 8)),
        ((12, 0), (8, 0)),
        ((12, 6), (8, 5)),
        ((12, 9), (8, 8)),
        ((13, 0), (9, 0)),
        ((13, 2), (9, 2)),
    ],
)
def test_the_newest_ptx_of_a_driver(cuda: tuple[int, int], ptx: tuple[int, int]) -> None:
    assert device.newest_ptx_of(*cuda) == ptx


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"multiprocessors": 0}, "multiprocessors of a device is 0; it is an integer: how many"),
        ({"multiprocessors": 2**31}, "multiprocessors of a device is 2147483648"),
        ({"multiprocessors": True}, "multiprocessors of a device is True"),
        ({"capability": 9}, r"capability of a device is 9; it is an integer: 10 \* major \+ minor, as 90 for 9.0"),
        ({"capability": 9.0}, r"capability of a device is 9.0"),
        ({"capability": "sm_90"}, "capability of a device is 'sm_90'"),
        ({"l2": -1}, "l2 of a device is -1; it is an integer: bytes"),
        ({"newest_ptx": "9.0"}, "newest_ptx of a device is '9.0'; it must be two integers"),
        ({"newest_ptx": (9, 0.5)}, "newest_ptx of a device is"),
    ],
)
def test_a_device_that_is_none(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        replace(H200, **changed)


def test_the_device_here(monkeypatch: pytest.MonkeyPatch) -> None:
    class Driver:
        context = 201  # CUDA_ERROR_INVALID_CONTEXT: no context is current

        def cuInit(self, flags: int) -> int:
            return 0

        def cuDriverGetVersion(self, out: Any) -> int:
            out._obj.value = 13020
            return 0

        def cuCtxGetDevice(self, out: Any) -> int:
            out._obj.value = 3
            return self.context

        def cuDeviceGet(self, out: Any, number: int) -> int:
            out._obj.value = 7 + number
            return 0

        def cuDeviceGetAttribute(self, out: Any, attribute: int, number: int) -> int:
            out._obj.value = {16: 100 + number, 75: 9, 76: 0, 38: 4096}[attribute]
            return 0

    driver = Driver()
    monkeypatch.setattr(device.ctypes, "CDLL", lambda name: driver)
    assert Device.here() == Device(107, 90, 4096, (9, 2))
    driver.context = 0
    assert Device.here().multiprocessors == 103
    monkeypatch.setattr(Driver, "cuInit", lambda self, flags: 100)
    with pytest.raises(RuntimeUnavailable, match=r"cuInit .* fails with 100; build on the machine with the GPU"):
        Device.here()


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiler, "candidates", list)
    with pytest.raises(RuntimeUnavailable, match=r"nvidia-cuda-nvrtc.*nvcc"):
        compiler.find()
    with pytest.raises(RuntimeUnavailable, match="nowhere, which is no file"):
        compiler.find(tmp_path / "nowhere")
    (tmp_path / "libnvrtc.so.13").write_bytes(b"not ELF")
    with pytest.raises(RuntimeUnavailable, match="lists no GPU that it compiles for: no CUDA compiler"):
        compiler.find("/bin/true")("", entry="e", capability=90, headers=CUDA)
    with pytest.raises(RuntimeUnavailable, match="is no NVRTC that can be used"):
        compiler.find(tmp_path / "libnvrtc.so.13")


def test_an_empty_cuda_home_is_not_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/libnvrtc.so.13").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert tmp_path / "lib/libnvrtc.so.13" in compiler.candidates()
    monkeypatch.setenv("CUDA_HOME", "")
    assert Path("lib/libnvrtc.so.13") not in compiler.candidates()


NVRTC = """
#include <dlfcn.h>
char const* nvrtcGetErrorString(int status) { return "builtins not found"; }
int nvrtcGetNumSupportedArchs(int* count) {
  *count = 1;
  return dlopen("libnvrtc-builtins.so.99.0", RTLD_LAZY) ? 0 : 7;
}
int nvrtcGetSupportedArchs(int* found) { return *found = 90, 0; }
"""


def test_nvrtc_finds_its_builtins_beside_it(tmp_path: Path) -> None:
    """As the 13.0 wheel's, which opens them by name, and does not look into its own folder."""
    if (cc := shutil.which("cc")) is None:
        pytest.skip("there is no C compiler")
    (tmp_path / "nvrtc.c").write_text(NVRTC)
    (tmp_path / "empty.c").touch()
    builtins = tmp_path / "libnvrtc-builtins.so.99.0"
    for out, source_file in ((tmp_path / "libnvrtc.so.99", "nvrtc.c"), (builtins, "empty.c")):
        command = [cc, "-shared", "-fPIC", f"-Wl,-soname,{out.name}", "-o", out, tmp_path / source_file, "-ldl"]
        subprocess.run(command, check=True)
    made = compiler.find(tmp_path / "libnvrtc.so.99")
    with pytest.raises(BuildError, match=r"compiles for no GPU of compute capability 7\.5"):
        made("", entry="e", capability=75, headers=CUDA)


def real_compilers() -> list[Any]:
    found = [pytest.param(path, id=path.name.split(".")[0]) for path in compiler.candidates()]
    return found or [pytest.param(None, marks=pytest.mark.skip("neither NVRTC nor nvcc is here"))]


REAL = {
    "small": case(shape=(4, 64, 7, 7)),
    "warp-add-silu": case("SimAMAffineAddSilu", kind="BF16"),
    "odd": case("SimAMAffine", (1, 64, 13, 101), "FP32"),
    "cluster": case(shape=(1, 64, 224, 224), tactic=2),
    "tile": case("SimAMAffineRelu", (3, 20, 14, 14), "FP16", 24),
    "tile-cluster": case(shape=(3, 16, 56, 56), kind="BF16", group=16, tactic=2),
}


@pytest.mark.parametrize("path", real_compilers())
@pytest.mark.parametrize("name", REAL)
def test_real_ptx(name: str, path: Path, tmp_path: Path) -> None:
    one, make = REAL[name], compiler.find(path)
    made = source.source_of(one, H200)
    ptx = make(made.text, entry="simam_it", capability=90, headers=source.headers())
    plugin.check(ptx, one, made, "simam_it", (99, 0), str(make))  # entry, parameters, cluster, memory
    assert ptx.target == "sm_90"
    assert ptx.shared == 0
    assert (".reqnctapercluster" in ptx.text) == (made.cluster > 1)
    assert f".maxntid {made.threads}" in ptx.text
    assert not re.search(r"\bcall\b|\.local\b", ptx.text)  # everything is inlined, nothing lies in memory
    _assemble(ptx, path, 90, tmp_path)


@pytest.mark.parametrize("path", real_compilers())
@pytest.mark.parametrize("capability", [75, 87, 120])
def test_other_gpus(capability: int, path: Path, tmp_path: Path) -> None:
    one = case(shape=(8, 64, 14, 14))
    made = source.source_of(one, Device(40, capability, 4 << 20, (9, 9)))
    ptx = compiler.find(path)(made.text, entry="simam_it", capability=capability, headers=source.headers())
    assert ptx.target == f"sm_{capability}"
    _assemble(ptx, path, capability, tmp_path)


@pytest.mark.parametrize("path", real_compilers())
def test_a_compiler_that_refuses(path: Path) -> None:
    with pytest.raises(BuildError, match=r"(?s)cannot compile the kernel.*undeclared_name"):
        compiler.find(path)("int v = undeclared_name;", entry="e", capability=90, headers=CUDA)
    with pytest.raises(BuildError, match="no GPU of compute capability 1"):
        compiler.find(path)("", entry="e", capability=10, headers=CUDA)


def _assemble(ptx: compiler.Ptx, path: Path, capability: int, folder: Path) -> None:
    """ptxas takes it, if there is one that knows this version of PTX: that of the nvcc that wrote it."""
    beside = path.resolve().with_name("ptxas")
    ptxas = str(beside) if beside.is_file() else shutil.which("ptxas")
    if ptxas is None or "nvcc" not in path.name:
        return
    (folder / "k.ptx").write_text(ptx.text)
    command = [ptxas, f"-arch=sm_{capability}", "-v", "-o", folder / "k.cubin", folder / "k.ptx"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "0 bytes spill stores" in done.stderr
