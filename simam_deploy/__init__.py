"""Models with SimAM attention in production: see README.md.

    import simam_deploy as sd

    sd.find_blocks("yolo.onnx")                        # the SimAM blocks of an ONNX file, and their λ
    sd.fuse("yolo.onnx", "yolo.simam.onnx")            # each block as one node that carries its own definition
    sd.verify(["yolo.onnx", "yolo.simam.onnx"])        # the same outputs?
    sd.bench(["yolo.onnx", "yolo.simam.onnx"])         # and how fast
    sd.analyze("yolo.onnx", "photos/")                 # what would 16 bits break, on real pictures?
    sd.convert("yolo.onnx", "yolo.fp16.onnx", to="fp16", inputs="photos/")
    sd.specialise("yolo.simam.onnx", "yolo.cpu.onnx")  # for this machine's CPU
    sd.build_engine("yolo.simam.onnx", "yolo.engine", targets=["sm86"])
    sd.inspect_layers("yolo.onnx")                     # what TensorRT's parser makes of each block, per form
    sd.recipe("trtexec", "yolo.simam.onnx")            # the lines for other programs
    with sd.open_session("yolo.simam.onnx") as session:
        session.run({"images": x})

    sd.SimAM()                                         # a torch module
    sd.adopt(model, x)                                 # the same model, with our SimAM in the place of its own
    sd.export(model, x, "model.onnx")                  # a torch model as an ONNX file, fused and compared

A name is loaded when it is used first: without torch, all but `SimAM`, `adopt` and `export` work.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simam_deploy.api import analyze, bench, convert, find_blocks, fuse, inspect_layers, specialise, verify
    from simam_deploy.engines.builder import build_engine
    from simam_deploy.errors import (
        BuildError,
        FormError,
        InputError,
        LimitError,
        ModelFileError,
        NativeError,
        NoBlockError,
        OutputError,
        RuntimeUnavailable,
        ShapeError,
        SimAMDeployError,
        VerificationError,
    )
    from simam_deploy.package import recipe
    from simam_deploy.pytorch.adopt import adopt
    from simam_deploy.pytorch.module import SimAM, simam_module
    from simam_deploy.runtimes import open_session
    from simam_deploy.to_onnx import export

__version__ = "0.1.0"
__all__ = [
    "BuildError",
    "FormError",
    "InputError",
    "LimitError",
    "ModelFileError",
    "NativeError",
    "NoBlockError",
    "OutputError",
    "RuntimeUnavailable",
    "ShapeError",
    "SimAM",
    "SimAMDeployError",
    "VerificationError",
    "__version__",
    "adopt",
    "analyze",
    "bench",
    "build_engine",
    "convert",
    "export",
    "find_blocks",
    "fuse",
    "inspect_layers",
    "open_session",
    "recipe",
    "simam_module",
    "specialise",
    "verify",
]

_HOMES = {
    "api": ("analyze", "bench", "convert", "find_blocks", "fuse", "inspect_layers", "specialise", "verify"),
    "engines.builder": ("build_engine",),
    "package": ("recipe",),
    "pytorch.adopt": ("adopt",),
    "pytorch.module": ("SimAM", "simam_module"),
    "runtimes": ("open_session",),
    "to_onnx": ("export",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name, "errors" if name in __all__ else "")
    if not home:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(f"{__name__}.{home}"), name)
    except ModuleNotFoundError as error:
        from simam_deploy.errors import without_torch

        raise without_torch(error, name) or error from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
