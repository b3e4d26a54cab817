"""Print the public names of a module of bindings as JSON: python names.py tensorrt_bindings.

{"version": "10.3.0", "names": {"Builder": [members], "BuilderFlag": {member: value}, "float32": null}}
A class has its members, an enum their values, a function or a constant null.
"""

import importlib
import json
import sys
from typing import Any


def members(cls: type) -> list[str] | dict[str, int]:
    """Public members of a class, or the values of an enum."""
    enum = getattr(cls, "__members__", None)
    if enum is not None:
        return {name: int(value) for name, value in enum.items()}
    return sorted(name for name in dir(cls) if not name.startswith("_"))


def names(module: Any) -> dict[str, list[str] | dict[str, int] | None]:
    """All names of a module but its imports and the variables of its loops."""
    found = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    classes = {name: value for name, value in found.items() if isinstance(value, type)}
    rest = [name for name, value in found.items() if callable(value) or type(value) in classes.values()]
    return {**dict.fromkeys(sorted(rest)), **{name: members(cls) for name, cls in sorted(classes.items())}}


if __name__ == "__main__":
    bindings = importlib.import_module(sys.argv[1])
    print(json.dumps({"version": bindings.__version__, "names": names(bindings)}))
