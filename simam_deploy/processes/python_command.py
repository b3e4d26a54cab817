"""Commands for child processes that import, load and run nothing from the current folder."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

SEARCH_PATHS = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")

_START = """\
import sys
sys.path[:] = [entry for entry in sys.path if entry]
import importlib.util, runpy
spec = importlib.util.spec_from_file_location("simam_deploy", {init!r}, submodule_search_locations=[{folder!r}])
sys.modules["simam_deploy"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["simam_deploy"])
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""


def python_command(module: str) -> tuple[str, ...]:
    """Command to run a module of this package like `python -m`, without the current folder in sys.path.

    `-m` puts the current folder first, so that a `json.py` there would run. Python 3.10 has no `-P`, and `-I` ignores
    PYTHONPATH and the user's packages, which hold the frameworks. The package is loaded from where this file lies.
    Start it with `environment()`, as an empty entry of PYTHONPATH means the current folder too.
    """
    folder = Path(__file__).resolve().parents[1]
    return sys.executable, "-c", _START.format(init=str(folder / "__init__.py"), folder=str(folder), module=module)


def environment() -> dict[str, str]:
    """The environment, without entries for the current folder (empty or `.`) in search paths."""
    kept = dict(os.environ)
    for name in SEARCH_PATHS:
        if name in kept:
            entries = [e for e in kept.pop(name).split(os.pathsep) if e and os.path.normpath(e) != os.curdir]
            if entries:
                kept[name] = os.pathsep.join(entries)
    return kept


def find_program(name: str) -> str | None:
    """shutil.which, but never in the current folder."""
    return shutil.which(name, path=environment().get("PATH", os.defpath))
