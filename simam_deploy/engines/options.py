"""Options of a build, by flavor of TensorRT; an option that a builder lacks, or takes without effect, is refused.

Types are no options: networks are strongly typed, and the file has the types.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from simam_deploy.errors import InputError

VERBOSITIES = ("layer_names_only", "none", "detailed")
COMPATIBILITIES = ("ampere_plus", "same_compute_capability")
LEVELS = range(6)


@dataclass(frozen=True)
class BuildOptions:
    """None, and False for the switches, leave a setting as the builder has it.

    workspace_mb : upper bound on scratch memory of a layer.  optimization_level : 0 to 5, time against speed.
    timing_cache : file of measured times, read if it is there and written anew.
    version_compatible : for later versions of TensorRT.  hardware_compatible : for other GPUs, in COMPATIBILITIES.
    refit : weights can be changed.  strip : without weights that can be refitted.  sparse_weights : use 2:4 sparsity.
    tf32 : whether float32 layers may round to TF32, of 10 bits; builders do so by default.
    profiling_verbosity : in VERBOSITIES.  max_aux_streams : upper bound on further CUDA streams.
    max_tactics : upper bound on the number of timed kernels of a layer.
    """

    workspace_mb: int | None = None
    optimization_level: int | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: str | None = None
    refit: bool = False
    strip: bool = False
    sparse_weights: bool = False
    tf32: bool | None = None
    profiling_verbosity: str | None = None
    max_aux_streams: int | None = None
    max_tactics: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("workspace_mb", 1), ("max_aux_streams", 0), ("max_tactics", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{flag(name)} is {least} or more; got {value}")
        for name, known in (
            ("optimization_level", LEVELS),
            ("hardware_compatible", COMPATIBILITIES),
            ("profiling_verbosity", VERBOSITIES),
        ):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise InputError(f"{flag(name)} takes {', '.join(map(str, known))}; got {value!r}")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> BuildOptions:
        """From keywords; a path may be a string. Raises InputError for an unknown one."""
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(given) - set(known)):
            raise InputError(f"a build has no option {unknown[0]!r}; there are {', '.join(known)}")
        cache = given.get("timing_cache")
        return cls(**{**given, "timing_cache": None if cache is None else Path(cache)})

    def asked(self) -> dict[str, Any]:
        """The options that are not at their default, for JSON."""
        given = ((field.name, getattr(self, field.name), field.default) for field in fields(self))
        return {name: str(v) if isinstance(v, Path) else v for name, v, default in given if v != default}


@dataclass(frozen=True)
class Setting:
    """names : in the API; {} stands for the value in upper case.  not_rtx : why TensorRT-RTX does not get it."""

    names: tuple[str, ...]
    not_rtx: str = ""


_TIMES_NOTHING = "it times nothing while it builds, and takes the setting without effect"
_SAME_BYTES = "it takes the setting, and the engine has the same bytes without it"
_NEEDS_GPU = "without a GPU it builds nothing with it"
SETTINGS = {
    "workspace_mb": Setting(("IBuilderConfig.set_memory_pool_limit", "MemoryPoolType.WORKSPACE")),
    "optimization_level": Setting(("IBuilderConfig.builder_optimization_level",), _TIMES_NOTHING),
    "timing_cache": Setting(
        ("IBuilderConfig.create_timing_cache", "IBuilderConfig.set_timing_cache"), _TIMES_NOTHING
    ),
    "version_compatible": Setting(("BuilderFlag.VERSION_COMPATIBLE",), "it builds nothing with it"),
    "hardware_compatible": Setting(
        ("IBuilderConfig.hardware_compatibility_level", "HardwareCompatibilityLevel.{}"),
        "it takes the setting without effect; name several targets",
    ),
    "refit": Setting(("BuilderFlag.REFIT",), _NEEDS_GPU),
    "strip": Setting(("BuilderFlag.STRIP_PLAN",), _NEEDS_GPU),
    "sparse_weights": Setting(("BuilderFlag.SPARSE_WEIGHTS",), _SAME_BYTES),
    "tf32": Setting(("BuilderFlag.TF32",)),
    "profiling_verbosity": Setting(("IBuilderConfig.profiling_verbosity", "ProfilingVerbosity.{}")),
    "max_aux_streams": Setting(("IBuilderConfig.max_aux_streams",), _SAME_BYTES),
    "max_tactics": Setting(("IBuilderConfig.max_num_tactics",), _TIMES_NOTHING),
}


def flag(name: str) -> str:
    """The option on the command line."""
    return f"--{name.removesuffix('_mb').replace('_', '-')}"


def needed(asked: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Each option that is asked for, with a name that it needs in the API."""
    for option, value in asked.items():
        for name in SETTINGS[option].names:
            yield option, name.format(str(value).upper())


def refuse_without_effect(asked: dict[str, Any]) -> None:
    """Raise InputError for options that TensorRT-RTX lacks or takes without effect."""
    for option in asked:
        if why := SETTINGS[option].not_rtx:
            raise InputError(
                f"TensorRT-RTX has no {flag(option)}: {why}\nleave it out, or build with --flavor tensorrt"
            )
