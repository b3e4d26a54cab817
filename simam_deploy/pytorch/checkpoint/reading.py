"""Read a file of weights without running code."""

from __future__ import annotations

import pickle
import re
import stat
import warnings
from pathlib import Path
from typing import Any

import torch

from simam_deploy.artifacts import file_kinds
from simam_deploy.errors import ModelFileError, RuntimeUnavailable
from simam_deploy.pytorch.checkpoint.parts import shown

TAKES = "--weights takes a file of torch.save or of safetensors that holds a state_dict (tensors by name)"


def read(path: Path) -> Any:
    """Read the object of a torch.save file, or the dict of a safetensors file.

    Raises ModelFileError: no such file, truncated, of another kind, or with a pickled class in it, as reading such
    runs code. RuntimeUnavailable if safetensors is not installed.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL in it
        raise ModelFileError(f"there is no file {path}: {getattr(error, 'strerror', error)}") from None
    if not stat.S_ISREG(mode):  # a pipe would wait
        what = "a folder; give the file of weights in it" if stat.S_ISDIR(mode) else "no file with weights in it"
        raise ModelFileError(f"{path} is {what}")
    try:
        if file_kinds.is_safetensors(path):
            return _safetensors(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, of pickle protocols and archives; what it reads is checked
            return torch.load(path, map_location="cpu", weights_only=True)
    except (ModelFileError, RuntimeUnavailable):
        raise
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # torch.load raises nearly any type on broken files, struct.error and KeyError too
        raise ModelFileError(_why(path, error)) from error


def _why(path: Path, error: Exception) -> str:
    words = file_kinds.what_is(path)
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, pickle.UnpicklingError) and "opening it runs code" in words:
        return words
    if isinstance(error, pickle.UnpicklingError) and (named := re.search(r"GLOBAL (\S+)", str(error))):
        with path.open("rb") as stream:
            sure = "" if stream.read(2) == b"PK" else " (or is truncated)"
        held = shown(named[1])
        return f"{path} holds a pickled {held}, not weights alone{sure}; opening it runs code, and is refused"
    if not words and file_kinds.looks_like_onnx(path):
        words = f"{path} is an ONNX file, which has its weights in it: name it in place of the model"
    if words and "--weights" not in words:
        return f"{words}\n{TAKES}"
    why = "" if "weights_only" in first or not first else f": {first[:200]}"  # torch's advice to run code
    return f"{path} is not a file of torch.save, or is truncated{why}\n{TAKES}"


def _safetensors(path: Path) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise RuntimeUnavailable(
            f'{path} is in safetensors, which cannot be read: {error}\npip install "simam-deploy[safetensors]"'
        ) from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelFileError(f"{path} is not a file of safetensors, or is truncated: {error}") from error
