"""PyTorch models by name: `package.module:callable` or `file.py:callable`, with a checkpoint if wanted."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import re
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from simam_deploy.errors import InputError, ModelFileError, SimAMDeployError
from simam_deploy.module_state import to_eval
from simam_deploy.structure import named

Built = tuple[nn.Module, tuple[Any, ...] | None]


def load(spec: str, weights: str | Path | None = None) -> Built:
    """Call what `spec` names and return (module, example inputs or None); the module is in eval mode.

    The callable takes no arguments and returns a module, or (module, example), an example being one argument of the
    module, or a tuple of them, as `export` takes it. weights : a file of torch.save with a state_dict, or a dict with
    one under "state_dict", "model_state_dict" or "model"; it is read without executing code and must fit exactly. A
    prefix `module.` on every key, as DataParallel leaves it, is dropped.
    Raises InputError or ModelFileError: no such module, file or name, the callable fails, the weights do not fit.
    """
    place, name = _parts(spec)
    home = _file_module(Path(place)) if place.endswith(".py") else _module(place)
    build = getattr(home, name, None)
    if isinstance(build, nn.Module):
        raise InputError(f"{spec} is a module already; name its class, or a function that returns it")
    if not callable(build):
        names = ", ".join(n for n, v in vars(home).items() if callable(v) and not n.startswith("_")) or "nothing"
        raise InputError(f"{place} has no callable {name!r}; it has {names}")
    try:
        built = build()
    except SimAMDeployError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"{spec}() failed: {type(error).__name__}: {error}") from error
    module, example = built if isinstance(built, tuple) and len(built) == 2 else (built, None)
    if not isinstance(module, nn.Module):
        raise InputError(f"{spec}() returned {type(module).__name__}; it must return a module or (module, example)")
    if example is not None:
        example = tuple(example) if isinstance(example, tuple | list) else (example,)
        if not any(isinstance(leaf, torch.Tensor) for _, leaf in named(example)):
            raise InputError(
                f"{spec}() returned an example that holds no tensor; return (module, a tensor or a tuple)"
            )
    if weights is not None:
        _load_weights(module, Path(weights))
    return to_eval(module), example


def code_file(spec: str) -> Path | None:
    """The file that holds what `spec` names, before it is run; None if it is in no file, or not to be found.

    Of `package.module`, the package itself is imported, as Python does to find a module. Raises InputError as `load`.
    """
    place, _ = _parts(spec)
    if place.endswith(".py"):
        return Path(place)
    _prepare_import(place)
    try:
        found = importlib.util.find_spec(place)
    except (Exception, SystemExit):  # `load` fails for the same reason, and has the words for it
        return None
    return Path(found.origin) if found is not None and found.has_location and found.origin else None


def _parts(spec: str) -> tuple[str, str]:
    place, colon, name = spec.rpartition(":")
    if not colon or not place or not name:
        raise InputError(f"{spec!r} does not name a model; give package.module:callable or file.py:callable")
    return place, name


def _prepare_import(name: str) -> None:
    if "/" in name or "\\" in name or name.startswith("."):
        raise InputError(f"{name} is neither a module's dotted name nor a .py file; give path/to/file.py:callable")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` does: models live where people stand


def _module(name: str) -> Any:
    _prepare_import(name)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"cannot import {name}: no module named {error.name!r}\n"
            "run from the folder that holds it, install it, or give a file: path/to/file.py:callable"
        ) from error
    except (Exception, SystemExit) as error:
        raise InputError(f"cannot import {name}: {type(error).__name__}: {error}") from error


def _file_module(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    name = f"_simam_deploy_source_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent.resolve()) not in sys.path:
        sys.path.insert(0, str(path.parent.resolve()))  # as `python file.py` does
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise InputError(f"cannot import {path}: {type(error).__name__}: {error}") from error
    return module


def _load_weights(module: nn.Module, path: Path) -> None:
    held = _read_weights(path)
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(held, dict) and isinstance(held.get(key), dict):
            held = held[key]
            break
    if not isinstance(held, dict) or not all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in held.items()
    ):
        raise ModelFileError(f"{path} holds no state_dict (a dict of tensors by name)")
    if held and all(key.startswith("module.") for key in held):
        held = {key.removeprefix("module."): value for key, value in held.items()}
    try:
        module.load_state_dict(held)
    except RuntimeError as error:
        lines = [line.strip()[:200] for line in str(error).splitlines()[1:]]
        shown = [*lines[:5], f"and {len(lines) - 5} more"] if len(lines) > 5 else lines
        detail = "\n  ".join([f"the weights in {path} do not fit {type(module).__name__}:", *shown])
        raise ModelFileError(detail) from error


def _read_weights(path: Path) -> Any:
    if path.is_dir():
        raise ModelFileError(f"{path} is a folder; give the file of weights in it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, of pickle protocols and archives; what it reads is checked
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelFileError(f"there is no file {path}") from None
    except Exception as error:  # torch.load raises nearly any type on broken files, struct.error and KeyError too
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if "TorchScript" in first:
            why = "holds a TorchScript program, not weights alone"
        elif isinstance(error, pickle.UnpicklingError) and (named := re.search(r"GLOBAL (\S+)", str(error))):
            sure = "" if zipfile.is_zipfile(path) else " (or is truncated)"
            why = f"holds a pickled {named[1]}, not weights alone{sure}: reading that runs code, and is refused"
        else:
            raise ModelFileError(f"{path} is not a file of torch.save, or is truncated: {first[:200]}") from error
        raise ModelFileError(
            f"{path} {why}\nsave weights alone: torch.save(model.state_dict(), 'weights.pt')"
        ) from error
