"""Everything this package raises on purpose.

SimAMDeployError                 the command line prints these as `error: ...` and exits with 2
├── InputError                   what was given cannot be used: a file, a model, a shape, an option
│   ├── ModelFileError           not an ONNX file, truncated, of a newer IR, its weights missing
│   ├── ShapeError               x has no shape that SimAM takes, as (N, C, H, W) with H*W >= 2; also a ValueError
│   └── NoBlockError             a model in which no SimAM block was found; names the nearest misses
├── FormError                    a form cannot lower a block; lists every reason
├── OutputError                  the place to write to cannot be written
├── RuntimeUnavailable           a runtime, provider or library is not here, or did not give what was asked
│   └── NativeError              a compiled library is there and cannot be used: broken, of another version
├── BuildError                   an engine builder refused or died
├── LimitError                   a process with limits met one of them, or died
└── VerificationError            a parity row failed, so nothing was written; carries the report (exit 1)

Each message says what was asked, why not, and what to do.
"""

from __future__ import annotations

from typing import Any


class SimAMDeployError(Exception):
    """Base of all errors that this package raises on purpose."""


class InputError(SimAMDeployError):
    """An input or argument cannot be used."""


class ModelFileError(InputError):
    """A model file cannot be read: missing, truncated, not ONNX, of a newer IR version, without its weights."""


class ShapeError(InputError, ValueError):
    """The shape of x is invalid for SimAM. Valid is (N, C, H, W) with H*W >= 2."""


class NoBlockError(InputError):
    """No SimAM block was found."""


class FormError(SimAMDeployError):
    """A form cannot lower a block."""


class OutputError(SimAMDeployError):
    """An output path cannot be written."""


class RuntimeUnavailable(SimAMDeployError):
    """A runtime, provider or library is not installed, or does not provide the requested feature."""


class NativeError(RuntimeUnavailable):
    """A compiled library of ours exists but cannot be used."""


class BuildError(SimAMDeployError):
    """An engine builder refused the model or died."""


class LimitError(SimAMDeployError):
    """A process with limits exceeded one of them, or died."""


class VerificationError(SimAMDeployError):
    """A comparison failed. `report` : the `verify.Report` with the failures, or None if the message is complete."""

    def __init__(self, message: str, report: Any) -> None:
        super().__init__(message)
        self.report = report


def without_torch(error: ImportError, what: str) -> RuntimeUnavailable | None:
    """The error for a user whose environment lacks PyTorch, if that is why an import failed. what : needs it."""
    if error.name not in ("torch", "onnxscript"):
        return None
    return RuntimeUnavailable(f'{what} needs {error.name}, which is not installed\npip install "simam-deploy[torch]"')
