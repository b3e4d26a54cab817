"""What every runtime looks like from outside: open it, run it, close it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simam_deploy.errors import InputError, RuntimeUnavailable
from simam_deploy.processes.silent import silence
from simam_deploy.text import on_one_line

Array = NDArray[Any]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output.

    shape : a size is an int where it is fixed, a str where it has a name, None where it has none.
            The whole is None where not even the number of dimensions is declared.
    range : the least and the largest value that an integer input may hold; None if not known. See `inputs.specs`.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...] | None
    range: tuple[int, int] | None = None

    def __str__(self) -> str:
        """As in `x: float32[N, 3, ?, ?]`."""
        sizes = "..." if self.shape is None else ", ".join("?" if d is None else str(d) for d in self.shape)
        return on_one_line(f"{self.name}: {self.dtype}[{sizes}]")


@dataclass(frozen=True)
class KernelUse:
    """How many of the nodes of our operators ran as a compiled kernel, seen in a run.

    ran : of `of`; the others ran as their bodies, or not at all, in a branch that was not taken. None : not seen.
    target : the instructions that the kernel was compiled for, as avx512; or cuda.
    why : no kernel could run, or nothing was seen; else "".
    """

    ran: int | None = 0
    of: int = 0
    target: str = ""
    why: str = ""

    def __str__(self) -> str:
        """As in `kernel (avx512)`, `kernel (avx512) 2 of 3`, `body`, or `-` where there is no node of ours."""
        if self.ran is None:
            return "not seen"
        if not self.ran:
            return "body" if self.of else "-"
        return f"kernel ({self.target})" + (f" {self.ran} of {self.of}" if self.ran < self.of else "")


class Session(ABC):
    """A model that is loaded and ready. Use it in a `with` block. Several threads may use one session at once.

    label    names it in reports, as in `ort[CPUExecutionProvider]`. Yours to change.
    notes    what had to be done to the model to load it; empty if nothing.
    inputs   what `run` takes, in the order of the model.
    outputs  what `run` returns, in the order of the model. A file may list one twice; `run` returns it once.
    named    whether the outputs of the last run have names of their own, as in a file or in a dict.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    named = True

    def __init__(self, label: str) -> None:
        self.label = label
        self.notes: list[str] = []
        self._open = True
        self._ours = 0  # nodes of our operators
        self._closing = threading.Lock()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """One inference. Nothing is timed, printed or tried a second way.

        feeds : every input by its name. Not modified.
        Returns every output by its name; the arrays are the caller's own.
        Raises InputError if feeds do not match `inputs`, RuntimeUnavailable after `close`. An error of the
        framework while it computes keeps its own type.
        """
        if self._open:
            self._check(feeds)
            try:
                return self._run(feeds)
            except AttributeError:
                if self._open:
                    raise
                # closed by another thread after the question above
        raise RuntimeUnavailable(f"{self.label}: this session is closed; open another with open_session")

    def run_with_roundings(self, feeds: Mapping[str, Array], seed: int) -> dict[str, Array] | None:
        """`run`, but each operator reads its floats with a random relative error of up to one eps of float32.

        Shows which outputs roundings change. Whole numbers stay, as sums and products of them are exact; but for
        sort and top-k, which may take equal numbers in any order.
        feeds : as for `run`.  seed : of the random numbers.
        Returns None where the runtime has no way to do so: all but eager and onnx_reference.
        """
        del feeds, seed
        return None

    def kernel_use(self, feeds: Mapping[str, Array]) -> KernelUse:
        """Whether compiled kernels of ours run in this session. Takes about a load and a run where they may.

        feeds : as for `run`.
        """
        del feeds
        return KernelUse(0, self._ours)

    def close(self) -> None:
        """Let go of the model. Closing twice is fine. Runs of other threads that have begun end as ever."""
        with self._closing:
            if self._open:
                self._open = False
                self._close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run with feeds that were checked. Called by several threads at once, and while another closes."""

    @abstractmethod
    def _close(self) -> None:
        """Drop what is heavy, as attributes that are deleted. Called once."""

    def _takes(self, spec: TensorSpec, dtype: np.dtype[Any]) -> bool:
        """Whether an array of this dtype may be fed to `spec`."""
        return dtype == spec.dtype

    def _check(self, feeds: Mapping[str, Array]) -> None:
        wrong = [f"{name}: is not an input" for name in feeds if name not in {spec.name for spec in self.inputs}]
        for spec in self.inputs:
            if spec.name not in feeds:
                wrong.append(f"{spec.name}: is missing")
            elif why := self._misfit(spec, feeds[spec.name]):
                wrong.append(f"{spec.name}: {why}")
        if wrong:
            expected = "\n  ".join(map(str, self.inputs)) or "nothing"
            raise InputError(
                f"{self.label} cannot run with these feeds:\n  " + "\n  ".join(wrong) + f"\nit takes\n  {expected}"
            )

    def _misfit(self, spec: TensorSpec, got: object) -> str:
        if not isinstance(got, np.ndarray):
            return f"expected a NumPy array, got {type(got).__name__}"
        if not self._takes(spec, got.dtype):
            return f"expected {spec.dtype}, got {got.dtype}"
        if spec.shape is None:
            return ""
        if got.ndim != len(spec.shape):
            return f"expected {len(spec.shape)} dimensions, got shape {got.shape}"
        pairs = zip(spec.shape, got.shape, strict=True)
        if any(isinstance(want, int) and want != size for want, size in pairs):
            return f"expected shape {str(spec).partition('[')[2].removesuffix(']')}, got {got.shape}"
        return ""


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether dtype is a float of two bytes or more; bfloat16 is none of NumPy's own."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def framework(name: str, runtime: str, extra: str) -> Any:
    """The imported module `name`, which reports to its maker only if the user has set its variable so.

    ONNX Runtime 1.32 writes an identifier into the user's cache and sends events while a session is open.
    Raises RuntimeUnavailable with the pip line if it cannot be imported.
    """
    silence()
    try:
        return import_module(name)
    except ImportError as error:
        raise RuntimeUnavailable(
            f"runtime {runtime!r} needs the module {name}, which cannot be imported: {error}\n"
            f'pip install "simam-deploy[{extra}]"'
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of a framework's message that says something."""
    lines = [line.strip() for line in str(error).splitlines()]
    noise = ("", "Exception from ", "Check '", "FrontEnd API failed", "Summary:", "Model wasn't fully converted")
    telling = [
        line for line in lines if line and not line.startswith(noise[1:]) and not line.endswith(" with a message:")
    ]
    return (telling or [line for line in lines if line] or [type(error).__name__])[0]


def refuse_types_outside_numpy(runtime: str, specs: Iterable[TensorSpec]) -> None:
    """Raise RuntimeUnavailable for inputs or outputs of a type that only ml_dtypes has (bfloat16, float8, int4).

    OpenVINO 2026.4 takes such an array and reads its bits as another type; ONNX Runtime 1.32 refuses it on run.
    """
    if odd := [str(spec) for spec in specs if spec.dtype.isbuiltin != 1]:
        raise RuntimeUnavailable(
            f"{runtime} cannot exchange {', '.join(odd)} with NumPy; "
            "keep the model's inputs and outputs float32 or float16 and cast inside"
        )


def pick(specs: Sequence[TensorSpec], arrays: Iterable[Array]) -> dict[str, Array]:
    """Arrays under the names of the specs, which are in the same order."""
    return {spec.name: array for spec, array in zip(specs, arrays, strict=True)}
