"""libsimam_cuda.so on a CPU for the tests of what calls it: kernels_on_cpu.c, what it saw and what it answers."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import torch

from helpers.cases import Shape, make
from simam_deploy import SimAM
from simam_deploy.native import cuda_library
from simam_deploy.native.cuda_library import Params

HERE = Path(__file__).parent


def build(folder: Path) -> Path | None:
    """The library, or None where there is no C compiler."""
    if not (compiler := shutil.which("cc")):
        return None
    path = folder / cuda_library.COMPILED.name
    header = HERE.parents[1] / "plugins/cuda"
    command = [
        compiler,
        "-shared",
        "-fPIC",
        "-O1",
        f"-I{header}",
        str(HERE / "kernels_on_cpu.c"),
        "-o",
        str(path),
        "-lm",
    ]
    subprocess.run(command, check=True)
    return path


Number = ctypes.c_int | ctypes.c_size_t


class StandIn:
    """What the library saw, and what it is to answer."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.number("needed", ctypes.c_size_t).value = 0
        for name, value in (("launches", 0), ("prepared", 0), ("result", 0), ("most_group", 2**30)):
            self.number(name).value = value

    def number(self, name: str, kind: type[Number] = ctypes.c_int) -> Number:
        return kind.in_dll(self.library, name)

    @property
    def launches(self) -> int:
        return self.number("launches").value

    @property
    def last(self) -> Params:
        return Params.in_dll(self.library, "last")


def kernel(e_lambda: float = 0.1, use: str = "require") -> SimAM:
    return SimAM(e_lambda, kernel=use).eval()


def tensor(name: str = "plain", shape: Shape = (2, 3, 5, 7), dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(make(name, shape)).to(dtype)
