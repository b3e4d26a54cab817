"""Compile CUDA source to PTX with NVRTC or nvcc, without a GPU, and read the properties of the PTX."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simam_deploy.errors import BuildError, RuntimeUnavailable
from simam_deploy.experimental.ahead_of_time.device import Version
from simam_deploy.processes.python_command import environment, find_program

_HOW = '`pip install "nvidia-cuda-nvrtc==13.0.*"`, or put nvcc on the PATH'


@dataclass(frozen=True)
class Ptx:
    """PTX and its properties. parameters : types of those of the entry.  shared : bytes of static shared memory."""

    text: str
    version: Version
    target: str
    entry: str
    parameters: tuple[str, ...]
    cluster: int
    shared: int


def read(text: str) -> Ptx:
    """Parse PTX. Raises BuildError unless it has one entry."""
    version = re.search(r"^\.version (\d+)\.(\d+)", text, re.M)
    target = re.search(r"^\.target (\w+)", text, re.M)
    entries = re.findall(r"\.entry (\w+)\s*\(([^)]*)\)([^{]*)\{", text)
    if version is None or target is None or len(entries) != 1:
        raise BuildError(f"the compiler wrote no PTX with one entry; it begins with {text[:60]!r}")
    entry, arguments, directives = entries[0]
    cluster = re.search(r"\.reqnctapercluster (\d+)", directives)
    own = re.findall(r"(?<!\.extern )\.shared\s+(?:\.align\s+\d+\s+)?\.b8\s+\w+\[(\d+)\]", text)
    return Ptx(
        text,
        (int(version[1]), int(version[2])),
        target[1],
        entry,
        tuple(re.findall(r"\.param\s+\.(\w+)", arguments)),
        int(cluster[1]) if cluster else 1,
        sum(map(int, own)),
    )


class Compiler:
    """NVRTC or nvcc. `path` is the file of libnvrtc, or of nvcc."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def __call__(self, source: str, *, entry: str, capability: int, headers: Path) -> Ptx:
        """Compile for the newest known architecture up to `capability`.

        Raises BuildError with the compiler's message, RuntimeUnavailable if it does not run.
        """
        every = self._architectures()
        if not every:
            raise RuntimeUnavailable(f"{self} lists no GPU that it compiles for: no CUDA compiler; {_HOW}")
        known = [each for each in every if each <= capability]
        if not known:
            raise BuildError(
                f"{self} compiles for no GPU of compute capability {capability / 10:g}; take an older or newer CUDA"
            )
        options = [f"-arch=compute_{max(known)}", "-std=c++17", f"-DSIMAM_ENTRY={entry}", f"-I{headers}"]
        return read(self._compile(source, options))

    def _architectures(self) -> list[int]:
        raise NotImplementedError

    def _compile(self, source: str, options: Sequence[str]) -> str:
        raise NotImplementedError


class Nvcc(Compiler):
    """nvcc as a program; it needs a C++ compiler."""

    def _run(self, *arguments: str) -> str:
        try:
            done = subprocess.run(
                [self.path, *arguments], capture_output=True, text=True, check=False, env=environment()
            )
        except OSError as error:
            raise RuntimeUnavailable(f"{self} cannot be run: {error}; {_HOW}") from error
        if done.returncode != 0:
            raise BuildError(f"{self} cannot compile the kernel:\n{done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def _architectures(self) -> list[int]:
        return [int(name) for name in re.findall(r"^compute_(\d+)$", self._run("--list-gpu-arch"), re.M)]

    def _compile(self, source: str, options: Sequence[str]) -> str:
        with tempfile.TemporaryDirectory() as folder:
            file, out = Path(folder, "kernel.cu"), Path(folder, "kernel.ptx")
            file.write_text(source)
            self._run("-ptx", *options, "-o", str(out), str(file))
            return out.read_text()


class Nvrtc(Compiler):
    """The library; it needs nothing else."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self._library = ctypes.CDLL(str(path))
            # When it compiles it opens them by name; that of the 13.0 wheel finds them only where they are loaded.
            self._builtins = [ctypes.CDLL(str(each)) for each in path.parent.glob("libnvrtc-builtins.so*")]
            self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
            _ = self._library.nvrtcGetSupportedArchs
        except (OSError, AttributeError) as error:
            raise RuntimeUnavailable(f"{path} is no NVRTC that can be used: {error}; {_HOW}") from error

    def _architectures(self) -> list[int]:
        count = ctypes.c_int()
        self._check(self._library.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
        found = (ctypes.c_int * count.value)()
        self._check(self._library.nvrtcGetSupportedArchs(found))
        return list(found)

    def _compile(self, source: str, options: Sequence[str]) -> str:
        program = ctypes.c_void_p()
        self._check(
            self._library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None)
        )
        try:
            given = (ctypes.c_char_p * len(options))(*(os.fsencode(option) for option in options))
            status = self._library.nvrtcCompileProgram(program, len(options), given)
            self._check(status, program)
            return self._text("PTX", program)
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _text(self, what: str, program: ctypes.c_void_p) -> str:
        size = ctypes.c_size_t()
        self._check(getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        text = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._library, f"nvrtcGet{what}")(program, text))
        return text.value.decode(errors="replace")

    def _check(self, status: int, program: ctypes.c_void_p | None = None) -> None:
        if status != 0:
            log = self._text("ProgramLog", program) if program is not None else ""
            word = self._library.nvrtcGetErrorString(status).decode()
            raise BuildError(f"{self} cannot compile the kernel: {word}\n{log}".rstrip())


def find(asked: str | os.PathLike[str] | None = None) -> Compiler:
    """Find the compiler: `asked`, a libnvrtc or nvcc file, or the first of `candidates`.

    Raises RuntimeUnavailable if there is none, or if `asked` is no such file.
    """
    if asked is not None:
        path = Path(asked)
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "is no file"
            raise RuntimeUnavailable(f"asked for the compiler {path}, which {what}; name nvcc or libnvrtc; {_HOW}")
        return Nvrtc(path) if "nvrtc" in path.name else Nvcc(path)
    for path in candidates():
        return Nvrtc(path) if "nvrtc" in path.name else Nvcc(path)
    raise RuntimeUnavailable(f"no compiler of CUDA here, and an ahead-of-time plugin is compiled: {_HOW}")


def candidates() -> list[Path]:
    """Existing libnvrtc of Python packages, of CUDA_HOME and of the system, then nvcc."""
    spec = importlib.util.find_spec("nvidia")
    folders = (
        [
            Path(place) / each
            for place in (spec.submodule_search_locations or ())
            if spec
            for each in ("cu13", "cuda_nvrtc")
        ]
        if spec
        else []
    )
    home = Path(os.environ.get("CUDA_HOME") or "/usr/local/cuda")  # set and empty, it would be the current folder
    found = [path for folder in (*folders, home) for lib in ("lib", "lib64") for path in _newest(folder / lib)]
    if nvcc := os.environ.get("CUDACXX") or find_program("nvcc"):
        found.append(Path(nvcc))
    return found


def _newest(folder: Path) -> list[Path]:
    """The library in a folder: libnvrtc.so.13, not its builtins."""
    return sorted((path for path in folder.glob("libnvrtc.so*") if path.is_file()), reverse=True)[:1]
