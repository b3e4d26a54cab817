"""Runs trtexec: one process builds an engine into a file, another loads that file, runs it and writes what it saw."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tensorrt.models import MODEL
from simam_deploy.errors import BuildError, RuntimeUnavailable

ENGINE, LAYERS, PROFILE, TIMES, LOG = "model.engine", "layers.json", "profile.json", "times.json", "trtexec.log"
USUAL = Path("/usr/src/tensorrt/bin/trtexec")
PLUGIN = Path(__file__).parents[2] / "build/native/cuda/libsimam_tensorrt.so"
VARIABLE = "SIMAM_TENSORRT_PLUGIN"
OLDEST = (10, 0)
BEFORE_11 = ("--useCudaGraph", "--noDataTransfers", "--useSpinWait", "--separateProfileRun")
"""Options that TensorRT 11 applies by default, and rejects if given."""
LINES = 12
ADVICE = {
    r"Unknown option": "this trtexec has no such option; TensorRT 10.3 to 11.1 have all of them",
    r"(?i)plugin not found|no importer registered|could not find plugin": "the parser did not take the node for a "
    "plugin: docs/howto/tensorrt.md says which version looks where",
    r"(?i)cannot open shared object|could not load library|unable to load library|undefined symbol": "the plugin did "
    "not load: `ldd` names what it lacks",
    r"(?i)out ?of ?memory": "free memory on the GPU, or give a smaller --model",
    r"(?i)no CUDA-capable device|driver version is insufficient|Cuda failure": "`nvidia-smi` says whether the driver "
    "sees the GPU",
}


@dataclass(frozen=True)
class Trtexec:
    """A trtexec, its version, and the plugin library if there is one. timeout : seconds for each process."""

    path: Path
    version: tuple[int, int, int]
    plugin: Path | None
    timeout: float

    def build(self, folder: Path, *, plugin: bool) -> None:
        """model.onnx in `folder` -> model.engine. The types are those of the file, and float32 is no TF32."""
        for path in (*folder.glob("*.json"), *folder.glob("*.raw"), folder / ENGINE, folder / LOG):
            path.unlink(missing_ok=True)  # of an earlier run
        typed = [] if self.version >= (11,) else ["--stronglyTyped"]
        options = [f"--onnx={MODEL}", f"--saveEngine={ENGINE}", "--skipInference", "--noTF32", *typed]
        self._run("build the engine", folder, options, plugin)

    def infer(self, folder: Path, inputs: dict[str, str], *, plugin: bool) -> None:
        """model.engine in `folder`, loaded again -> layers.json, profile.json, times.json, a .raw file per output.

        inputs : the file in `folder` for each input.
        """
        given = ",".join(f"{name}:{file}" for name, file in inputs.items())
        options = [f"--loadEngine={ENGINE}", f"--loadInputs={given}", "--dumpRawBindingsToFile"]
        options += [f"--exportLayerInfo={LAYERS}", f"--exportProfile={PROFILE}", f"--exportTimes={TIMES}"]
        options += [] if self.version >= (11,) else BEFORE_11
        self._run("load and run the engine", folder, options, plugin)

    def _run(self, what: str, folder: Path, options: Sequence[str], plugin: bool) -> None:
        loaded = [f"--dynamicPlugins={self.plugin}"] if plugin else []
        command = [str(self.path), *options, "--profilingVerbosity=detailed", *loaded]
        _run(what, command, folder, self.timeout)


def find(asked: str | None) -> Path:
    """The trtexec that was asked for, the one on PATH, or the one of Debian's package. Raises RuntimeUnavailable."""
    found = shutil.which(asked or "trtexec") or (None if asked else shutil.which(USUAL))
    if found is None:
        places = repr(asked) if asked else f"no trtexec on PATH and no {USUAL}"
        raise RuntimeUnavailable(
            f"{places}: no program to run\ntrtexec comes with TensorRT's packages and containers; name it with "
            "--trtexec PATH"
        )
    return Path(found).absolute()


def plugin_library(asked: str | None) -> Path:
    """The requested plugin, that of SIMAM_TENSORRT_PLUGIN, or the one built here. Raises RuntimeUnavailable."""
    path = Path(asked or os.environ.get(VARIABLE) or PLUGIN).absolute()
    if not path.is_file():
        raise RuntimeUnavailable(
            f"{path}: no plugin library is there\nbuild it with `TENSORRT_INCLUDE_DIR=/path/to/include make "
            f"native-cuda`, name it with --plugin PATH or {VARIABLE}, or ask for --forms primitive alone"
        )
    return path


def version_of(path: Path, folder: Path) -> tuple[int, int, int]:
    """Version from `trtexec --help`. Raises RuntimeUnavailable for another program, or an old version."""
    try:
        _run("ask trtexec its version", [str(path), "--help"], folder, 60)
    except BuildError as error:
        raise RuntimeUnavailable(str(error)) from error
    found = version_in(text := (folder / LOG).read_text(errors="replace"))
    if found is None:
        raise RuntimeUnavailable(f"{path} --help says no version of TensorRT, but:\n{_last_lines(text)}")
    if found < OLDEST:
        raise RuntimeUnavailable(f"{path} is TensorRT {dotted(found)}; the plugin needs {dotted(OLDEST)} or later")
    return found


def version_in(log: str) -> tuple[int, int, int] | None:
    """From the first line of trtexec: [TensorRT v101303] is 10.13.3, and before 10 v8601 was 8.6.1."""
    if not (found := re.findall(r"\[TensorRT v(\d+)\]", log)):
        return None
    number = int(found[-1])
    step = 100 if number >= 100_000 else 10
    return number // (100 * step), number // 100 % step, number % 100


def dotted(version: Sequence[int]) -> str:
    """As in 10.13.3."""
    return ".".join(map(str, version))


def device_in(log: str) -> str:
    """The GPU that trtexec says it uses."""
    found = re.search(r"Selected Device: (.+)", log)
    return found[1].strip() if found else "unknown"


def _run(what: str, command: Sequence[str], folder: Path, timeout: float) -> None:
    """Run it in `folder`; what it says is added to trtexec.log. Raises BuildError, with the last lines of it."""
    log = folder / LOG
    before = log.stat().st_size if log.exists() else 0
    with log.open("ab") as stream:
        stream.write(f"$ {shlex.join(command)}\n".encode())
        stream.flush()
        try:
            status: int | str = subprocess.run(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                timeout=timeout,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            status = f"ended after {timeout:g} s; --timeout gives it more"
        except OSError as error:
            status = str(error)
    if status == 0:
        return
    said = log.read_bytes()[before:].decode(errors="replace").partition("\n")[2]
    reason = status if isinstance(status, str) else f"exit status {status}"
    advice = next((words for pattern, words in ADVICE.items() if re.search(pattern, said)), "the log has the rest")
    raise BuildError(
        f"could not {what}: {reason}\n  cd {folder} && {shlex.join(command)}\n{_last_lines(said)}\n{advice}: {log}"
    )


def _last_lines(text: str) -> str:
    """Those that are marked as errors, if there are any."""
    lines = [line for line in text.splitlines() if line.strip()]
    lines = ([line for line in lines if "[E]" in line] or lines)[-LINES:]
    return "\n".join(f"  | {line[:300]}" for line in lines) or "  (it said nothing)"
