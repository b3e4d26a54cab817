"""The library of the kernel in PyTorch: none, one that cannot be used, loaded once and only when asked."""

import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from helpers.stand_in import StandIn, kernel, tensor  # noqa: E402

from simam_deploy import SimAM  # noqa: E402
from simam_deploy.cli import doctor  # noqa: E402
from simam_deploy.errors import NativeError  # noqa: E402
from simam_deploy.native import cuda_library  # noqa: E402

ROOT = Path(__file__).parents[2]
BUILD_IT = (
    "no library of the CUDA kernels: build it with `make native-cuda` in a checkout of simam-deploy; "
    "or name its file with SIMAM_CUDA_LIBRARY"
)


def test_without_one(no_kernels: Path) -> None:
    assert cuda_library.kernels() is None
    assert cuda_library.why_not() == BUILD_IT
    assert BUILD_IT in kernel(use="auto").kernel_use(tensor())
    assert torch.equal(kernel(use="auto")(tensor()), SimAM(0.1)(tensor()))


def test_one_that_cannot_be_used(no_kernels: Path, built_kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (no_kernels / cuda_library.COMPILED.name).write_text("no library")
    with pytest.raises(NativeError, match=r"is no library of Linux; build it again: `make native-cuda` in"):
        SimAM(kernel="auto")
    monkeypatch.setenv("SIMAM_CUDA_LIBRARY", "missing")
    with pytest.raises(
        NativeError, match="SIMAM_CUDA_LIBRARY is 'missing', which is no file; unset it, or name a libsimam_c"
    ):
        SimAM(kernel="auto")
    SimAM()
    other = next(Path(torch.__file__).parent.glob("lib/libtorch_global_deps.so"))
    monkeypatch.setenv("SIMAM_CUDA_LIBRARY", str(other))
    with pytest.raises(
        NativeError, match=r"is not the library of simam-deploy's kernels: .*simam_launch; SIMAM_CUDA_LIB"
    ):
        SimAM(kernel="auto")


def test_nothing_is_registered_before_it_is_asked_for(built_kernels: Path) -> None:
    code = """
import torch
from simam_deploy import SimAM
from simam_deploy.pytorch import cuda_op
SimAM().eval()(torch.ones(1, 1, 2, 2))
before = cuda_op._missing, hasattr(torch.ops.simam, "SimAM")
SimAM(kernel="auto")
print(before, cuda_op._missing == "", torch.ops.simam.SimAM.default._schema)
"""
    environment = {"SIMAM_CUDA_LIBRARY": str(built_kernels), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "(None, False) True simam::SimAM(Tensor x, float e_lambda) -> Tensor\n"


def test_an_unpickled_module_registers_it_too(built_kernels: Path, stand_in: StandIn, tmp_path: Path) -> None:
    torch.save(torch.nn.Sequential(kernel(use="auto")), tmp_path / "m.pt")
    code = f"""
import torch
from simam_deploy.pytorch import cuda_op
torch.load({str(tmp_path / "m.pt")!r}, weights_only=False)
print(cuda_op._missing == "", hasattr(torch.ops.simam, "SimAM"))
"""
    environment = {"SIMAM_CUDA_LIBRARY": str(built_kernels), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"


def test_many_threads_register_it_once(built_kernels: Path) -> None:
    code = """
import threading, time
from simam_deploy import SimAM
from simam_deploy.native import cuda_library
find = cuda_library.kernels
cuda_library.kernels = lambda: (find(), time.sleep(0.3))[0]  # all are there before the first is done
together, failed = threading.Barrier(8), []
def work():
    together.wait()
    try:
        SimAM(kernel="auto")
    except BaseException as error:
        failed.append(error)
threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
print(failed)
"""
    environment = {"SIMAM_CUDA_LIBRARY": str(built_kernels), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("result", [0, 700])
def test_the_doctor_runs_it_where_there_is_a_gpu(
    result: int, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.number("result").value = result
    with monkeypatch.context() as here:
        here.setattr(torch.cuda, "is_available", lambda: True)
        here.setattr(torch.cuda, "get_device_name", lambda: "a processor")
        here.setattr(torch.Tensor, "cuda", lambda self: self)
        row = doctor._cuda_kernels()
    assert row.works == (result == 0)
    assert stand_in.launches == 1
    assert ("SimAM on a processor at 0." if row.works else "700") in row.detail
