"""Jetson: a script for the device that builds the plugin and an engine, and times it."""

from __future__ import annotations

from pathlib import Path

from simam_deploy.errors import InputError
from simam_deploy.package import trtexec
from simam_deploy.package.facts import Facts
from simam_deploy.package.machine import refuse_other_machine
from simam_deploy.package.quoting import command
from simam_deploy.package.versions import JetPack, TensorRT

PROGRAM = "/usr/src/tensorrt/bin/trtexec"
HEADERS = "/usr/include/aarch64-linux-gnu"
MACHINE = "aarch64"
REMEDY = "build one for aarch64: make native-cuda-aarch64"
BUILT = Path("build/native/cuda/libsimam_tensorrt.so")
"""The plugin that these lines build, unless another is named."""


def refuse_plugin(plugin: Path) -> None:
    """Raise InputError for a library that is here and is not for this machine."""
    refuse_other_machine(plugin, MACHINE, REMEDY)


def version_asked(jetpack: JetPack, asked: str | None) -> str:
    """The TensorRT that was asked for, or that of the JetPack. Raises InputError where neither is known."""
    if not (number := asked or jetpack.tensorrt):
        raise InputError(
            f"the TensorRT of JetPack {jetpack.number} is not known here; on the device, "
            "`dpkg-query -W libnvinfer-bin` says it\nname it with --tensorrt"
        )
    return number


def script(facts: Facts, jetpack: JetPack, version: TensorRT, engine: Path, plugin: Path | None) -> str:
    """The script. plugin : the library on the device; BUILT is built first."""
    copied = ", ".join(str(file) for file in (facts.path, *facts.weights))
    if plugin not in (None, BUILT):
        copied += f"; and the plugin, built for {MACHINE}, to {plugin}"
    cuda = f"CUDA {jetpack.cuda}, TensorRT {jetpack.tensorrt or version.number}"
    python = f", Python {jetpack.python}" if jetpack.python else ""
    where = ""
    build: tuple[str, ...] = ()
    if plugin == BUILT:
        where = ", into a checkout of simam-deploy"
        build = (
            "# The plugin, in the checkout; needs cmake and ninja.",
            f'export PATH=/usr/local/cuda-{jetpack.cuda}/bin:"$PATH"',
            command(
                "cmake",
                [
                    *("-S", "plugins", "--preset", "cuda"),
                    f"-DTENSORRT_INCLUDE_DIR={HEADERS}",
                    f"-DSIMAM_CUDA_ARCHITECTURES={jetpack.architectures}",
                ],
            ).replace(" \\\n  ", " "),
            "cmake --build build/native/cuda",
            "",
        )
    lines = trtexec.script(facts, version, engine, plugin, PROGRAM).split("\n")
    at = lines.index("set -e")
    return "\n".join(
        (
            *lines[:at],
            f"# For JetPack {jetpack.number} ({cuda}{python}).",
            *_other(jetpack, version),
            "# An engine fits one kind of GPU and one TensorRT: run this on the device.",
            f"# Copy to the device{where}: {copied}",
            "set -e",
            "",
            *build,
            *lines[at + 2 :],
        )
    )


def notes(facts: Facts, jetpack: JetPack, version: TensorRT, plugin: Path | None) -> list[str]:
    """Remarks of trtexec's build, and on a TensorRT that is not that of the JetPack."""
    found = trtexec.notes(facts, version, plugin)
    if facts.simam and plugin is None:
        found.append("of a file in the form custom_op this recipe builds our plugin too")
    if jetpack.tensorrt and version.number != jetpack.tensorrt:
        found.append(f"JetPack {jetpack.number} comes with TensorRT {jetpack.tensorrt}; asked for {version.number}")
    return found


def _other(jetpack: JetPack, version: TensorRT) -> list[str]:
    """A comment where the TensorRT is not that of the JetPack."""
    if version.number == (jetpack.tensorrt or version.number):
        return []
    return [
        f"# TensorRT {version.number} was asked for, and this JetPack has {jetpack.tensorrt}: on the device, "
        "`dpkg-query -W libnvinfer-bin`",
        f"# must say {version.number}, or leave --tensorrt out.",
    ]
