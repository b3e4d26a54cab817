"""Load a PyTorch model by name, `package.module:callable` or `file.py:callable`, with an optional checkpoint."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simam_deploy.artifacts.file_kinds import is_file, what_is
from simam_deploy.errors import InputError, SimAMDeployError, without_torch
from simam_deploy.pytorch.nested import named

if TYPE_CHECKING:
    from torch import nn

    Built = tuple[nn.Module, tuple[Any, ...] | None]


def load(spec: str, weights: str | Path | None = None, notes: list[str] | None = None) -> Built:
    """Call the function named by `spec`. Returns (module in eval mode, example inputs or None).

    The callable takes no arguments and returns a module, or (module, example), an example being one argument of the
    module, or a tuple of them, as `export` takes it.
    weights : a checkpoint to load, see `checkpoint.load`; it is read without executing code.
    notes : receives a line on the loaded weights.
    Raises InputError or ModelFileError: no such module, file or name, the callable fails, the weights do not fit.
    """
    try:
        import torch
        from torch import nn
    except ModuleNotFoundError as error:
        raise without_torch(error, f"the model {spec}") or error from error

    from simam_deploy.pytorch.module_state import to_eval

    place, name = _parts(spec)
    with _standing_in(_folder(place)):
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
        from simam_deploy.pytorch import checkpoint

        said = checkpoint.load(module, *weights_file(weights))
        if notes is not None:
            notes.append(said)
    return to_eval(module), example


def code_file(spec: str) -> Path | None:
    """The file that defines `spec`, found without running it; None if there is none.

    For `package.module` this imports the package, as Python requires. Raises InputError as `load`.
    """
    place, _ = _parts(spec)
    if place.endswith(".py"):
        return Path(place)
    try:
        with _standing_in(_folder(place)):
            found = importlib.util.find_spec(place)
    except (Exception, SystemExit):  # `load` fails for the same reason, and has the words for it
        return None
    return Path(found.origin) if found is not None and found.has_location and found.origin else None


def imported() -> list[Path]:
    """Files of all imported modules, including those of the model."""
    return [Path(file) for file in {getattr(module, "__file__", None) for module in [*sys.modules.values()]} if file]


def weights_file(weights: str | Path) -> tuple[Path, str]:
    """File and part of `w.pth` or `w.pth:part`; the part may be empty."""
    head, _, part = str(weights).rpartition(":")
    return (Path(head), part) if is_file(head) and not is_file(weights) else (Path(weights), "")


def _parts(spec: str) -> tuple[str, str]:
    place, colon, name = spec.rpartition(":")
    other = next((file for file in (spec, place) if not place.endswith(".py") and is_file(file)), "")
    if not colon or not place or not name or other:
        words = what_is(other) if other else ""
        if not words and other.endswith(".onnx"):
            words = f"{other} is an ONNX file already: simam-deploy fuse {other} -o OUT.onnx"
        text = f"{spec!r} does not name a model; give package.module:callable or file.py:callable"
        raise InputError(f"{text}\n{words}".rstrip())
    return place, name


def _folder(place: str) -> Path:
    """Import folder of a model, as for `python file.py` or `python -m package.module`."""
    if place.endswith(".py"):
        return Path(place).parent
    if "/" in place or "\\" in place or place.startswith("."):
        raise InputError(f"{place} is neither a module's dotted name nor a .py file; give path/to/file.py:callable")
    return Path()


@contextmanager
def _standing_in(folder: Path) -> Iterator[None]:
    """Put `folder` first in sys.path inside the block, and last after it.

    So later imports of the model work, and no file there shadows a library that we import later.
    """
    place = str(folder.resolve())
    sys.path.insert(0, place)
    try:
        yield
    finally:
        if place in sys.path:
            sys.path.remove(place)
        if place not in sys.path:
            sys.path.append(place)


def _module(name: str) -> Any:
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
    if not is_file(path):
        raise InputError(f"there is no file {path}")
    name = f"_simam_deploy_source_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise InputError(f"cannot import {path}: {type(error).__name__}: {error}") from error
    return module
