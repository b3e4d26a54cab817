"""The builders: TensorRT, for the GPU of this machine, and TensorRT-RTX, for GPUs that are named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from simam_deploy.engines import api_table
from simam_deploy.errors import InputError, RuntimeUnavailable


@dataclass(frozen=True)
class Flavor:
    """name : as --flavor takes it.  module : to import.  title : in messages.  install : how to get it."""

    name: api_table.FlavorName
    module: str
    title: str
    install: str

    @property
    def installed(self) -> bool:
        """Whether its module can be found. It is not imported."""
        return find_spec(self.module) is not None


TENSORRT = Flavor("tensorrt", "tensorrt", "TensorRT", "pip install tensorrt, or the package of your JetPack")
RTX = Flavor("tensorrt_rtx", "tensorrt_rtx", "TensorRT-RTX", 'pip install "simam-deploy[tensorrt-rtx]"')
FLAVORS: dict[str, Flavor] = {flavor.name: flavor for flavor in (TENSORRT, RTX)}
AUTO = "auto"


def chosen(name: str, targets: Sequence[str]) -> tuple[Flavor, str]:
    """The builder of that name, and for "auto" a note that says which was chosen and why.

    Raises InputError for an unknown name, for TensorRT with targets, and for TensorRT-RTX without;
    RuntimeUnavailable if it is not installed.
    """
    note = ""
    if name == AUTO:
        flavor, why = _automatic(targets)
        note = f"flavor: {flavor.name}, as {why}"
    else:
        flavor = named(name)
    if flavor is TENSORRT and targets:
        raise InputError(
            f"TensorRT builds for the GPU of the machine that it runs on, and takes no targets; asked for "
            f"{', '.join(targets)}\nleave --targets out, or build with --flavor {RTX.name}"
        )
    if not flavor.installed:
        raise RuntimeUnavailable(f"no {flavor.title} here; install it with: {flavor.install}")
    if flavor is RTX and not targets:
        raise InputError(
            "no target to build for; name the GPU kinds, as --targets sm86,sm89 (compute capability 8.6 and 8.9)\n"
            "on a Jetson, and for TensorRT itself, it is built on the device: simam-deploy recipe jetson MODEL.onnx"
        )
    return flavor, note


def named(name: str) -> Flavor:
    """The builder of that name. Raises InputError."""
    if name not in FLAVORS:
        raise InputError(f"--flavor takes {AUTO}, {', '.join(FLAVORS)}; got {name!r}")
    return FLAVORS[name]


def _automatic(targets: Sequence[str]) -> tuple[Flavor, str]:
    if targets:
        return RTX, "targets are named"
    if TENSORRT.installed:
        return TENSORRT, "no targets are named and tensorrt is installed"
    return RTX, "tensorrt is not installed"
