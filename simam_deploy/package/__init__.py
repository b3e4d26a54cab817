"""Lines and files that other programs need to run an ONNX file: `recipe`.

facts.py    what a recipe needs to know of the file
engine_file.py  the engine that is here, by its header and manifest
machine.py  the machine that a library is compiled for
quoting.py  paths and names inside shells, Triton's and DeepStream's files
versions.py TensorRT versions with the flags of their trtexec, JetPack versions
recipes.py  the table of hosts, and `recipe`; each host has a file of its own
"""

from __future__ import annotations

from simam_deploy.package.recipes import Recipe, recipe

__all__ = ["Recipe", "recipe"]
