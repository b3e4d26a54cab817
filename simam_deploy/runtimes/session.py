"""Interface of all runtimes: open, run, close."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from simam_deploy.errors import InputError, RuntimeUnavailable
from simam_deploy.formula import Array
from simam_deploy.processes.silent import silence
from simam_deploy.text import on_one_line

HALVES = {"float16", "bfloat16"}


@dataclass(frozen=True)
class TensorSpec:
    """One input or output.

    shape : an int for a fixed size, a str for a named one, None for an unknown one. The whole is None if the rank is
            unknown.
    range : smallest and largest valid value of an integer input; None if unknown. See `inputs.specs`.
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
    """Number of nodes of our operators that ran as a compiled kernel, observed in a run.

    ran : out of `of`. The others ran as their fallback definitions, or are in a branch not taken. None : unknown.
    target : instruction set of the kernel, such as avx512; or cuda.
    why : reason why no kernel ran, or why it is unknown; else "".
    """

    ran: int | None = 0
    of: int = 0
    target: str = ""
    why: str = ""

    def __str__(self) -> str:
        """As in `kernel (avx512)`, `kernel (avx512) 2 of 3`, `fallback`, or `-` without a node of ours."""
        if self.ran is None:
            return "not seen"
        if not self.ran:
            return "fallback" if self.of else "-"
        return f"kernel ({self.target})" + (f" {self.ran} of {self.of}" if self.ran < self.of else "")


class Session(ABC):
    """A loaded model. Use it in a `with` block. Several threads may use one session at once.

    label    name in reports, such as `ort[CPUExecutionProvider]`. May be changed.
    notes    changes to the model that loading required.
    inputs   inputs of `run`, in the order of the model.
    outputs  outputs of `run`, in the order of the model. `run` returns an output once, even if a file lists it twice.
    named    whether the outputs of the last run have names of their own, as in a file or a dict.
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
        """Run one inference, without timing, output or fallback.

        feeds : every input by name. Not modified.
        Returns every output by name; the caller owns the arrays.
        Raises InputError if feeds do not match `inputs`, RuntimeUnavailable after `close`. Errors of the framework
        during computation keep their type.
        """
        if self._open:
            self._check(feeds)
            try:
                return self._run(feeds)
            except AttributeError:
                if self._open:
                    raise
                # closed by another thread after the test above
        raise RuntimeUnavailable(f"{self.label}: this session is closed; open another with open_session")

    def run_with_roundings(self, feeds: Mapping[str, Array], seed: int) -> dict[str, Array] | None:
        """Run with random relative errors of up to one float32 eps in the float inputs of each operator.

        Reveals outputs that roundings change. Integers stay exact, except in sort and top-k, which may order equal
        numbers either way.
        feeds : as for `run`.  seed : of the random numbers.
        Returns None in runtimes without this feature: all but eager and onnx_reference.
        """
        del feeds, seed
        return None

    def kernel_use(self, feeds: Mapping[str, Array]) -> KernelUse:
        """Count the nodes that run as our compiled kernels. May take a load and a run.

        feeds : as for `run`.
        """
        del feeds
        return KernelUse(0, self._ours)

    def close(self) -> None:
        """Release the model. May be called twice. Runs of other threads that have begun complete."""
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
        """Run with validated feeds. Called by several threads at once, also while another closes."""

    @abstractmethod
    def _close(self) -> None:
        """Delete the attributes that hold the model. Called once."""

    def _takes(self, spec: TensorSpec, dtype: np.dtype[Any]) -> bool:
        """Whether `spec` accepts an array of this dtype."""
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
    """Whether dtype is a float of at least two bytes, including bfloat16 of ml_dtypes."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def in_types_of(session: Session, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Feeds with 16-bit floats for inputs of such a type, and wide floats for wide inputs."""
    made = dict(feeds)
    for spec in session.inputs:
        given = made.get(spec.name)
        floats = isinstance(given, np.ndarray) and is_float(spec.dtype) and is_float(given.dtype)
        if given is not None and floats and HALVES & {spec.dtype.name, given.dtype.name}:
            made[spec.name] = given.astype(spec.dtype, copy=False)
    return made


def framework(name: str, runtime: str, extra: str) -> Any:
    """Import module `name` with telemetry off, unless the user's environment enables it.

    ONNX Runtime 1.32 writes an identifier into the user's cache and sends events while a session is open.
    Raises RuntimeUnavailable with the pip command if the import fails.
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
    """First informative line of a framework's message."""
    lines = [line.strip() for line in str(error).splitlines()]
    noise = ("", "Exception from ", "Check '", "FrontEnd API failed", "Summary:", "Model wasn't fully converted")
    telling = [
        line for line in lines if line and not line.startswith(noise[1:]) and not line.endswith(" with a message:")
    ]
    return (telling or [line for line in lines if line] or [type(error).__name__])[0]


def refuse_types_outside_numpy(runtime: str, specs: Iterable[TensorSpec]) -> None:
    """Raise RuntimeUnavailable for inputs or outputs of a type of ml_dtypes (bfloat16, float8, int4).

    OpenVINO 2026.4 reads the bits of such an array as another type; ONNX Runtime 1.32 refuses it on run.
    """
    if odd := [str(spec) for spec in specs if spec.dtype.isbuiltin != 1]:
        raise RuntimeUnavailable(
            f"{runtime} cannot exchange {', '.join(odd)} with NumPy; "
            "keep the model's inputs and outputs float32 or float16 and cast inside (convert --keep-io), or run it "
            "in onnx_half"
        )


def pick(specs: Sequence[TensorSpec], arrays: Iterable[Array]) -> dict[str, Array]:
    """Arrays by the names of the specs, in the same order."""
    return {spec.name: array for spec, array in zip(specs, arrays, strict=True)}
