"""Arguments of `build_engine` in the types that it uses, and the refusal of those that it cannot use."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from simam_deploy.artifacts import file_kinds, manifest
from simam_deploy.artifacts.opening import opened
from simam_deploy.engines import header
from simam_deploy.errors import InputError, OutputError

LEAST_MEMORY_MB = 256
"""A builder takes 200 MiB before it reads a network."""
MOST_SECONDS = 10_000_000
"""Four months. Timers of some systems take no more than 2^31."""
GPUS = {
    "sm75": "RTX 20, T4",
    "sm80": "A100, A30",
    "sm86": "RTX 30, A10, A40",
    "sm89": "RTX 40, L4, L40",
    "sm120": "RTX 50, RTX PRO of Blackwell",
    "sm121": "DGX Spark",
}
"""Kinds of GPU. Source: NVIDIA, "CUDA GPU Compute Capability"."""
JETSONS = {"sm53": "Nano", "sm62": "TX2", "sm72": "Xavier", "sm87": "Orin", "sm101": "Thor", "sm110": "Thor"}
DATA_CENTRE = {"sm70": "V100", "sm90": "H100, H200", "sm100": "B200", "sm103": "B300"}


def path_of(value: Any, what: str) -> Path:
    """The path of `what`. Raises InputError for something else than a path."""
    if not isinstance(value, str | os.PathLike) or isinstance(os.fspath(value), bytes):
        raise InputError(f"{what} is a path, as text; got {type(value).__name__}")
    return Path(value)


def targets_of(given: Any) -> list[str]:
    """Names of targets in lower case, from a list of texts or one text with commas. Raises InputError."""
    names = given.split(",") if isinstance(given, str) else list(given) if isinstance(given, Iterable) else [given]
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"targets are texts, as ['sm86', 'sm89']; got {given!r}")
    return [name.strip().lower() for name in names if name.strip()]


def unknown_targets(unknown: list[str], known: list[str], title: str) -> str:
    """The words for targets that a builder lacks, with what to do about each."""
    there = ", ".join(f"{name} ({GPUS[name]})" if name in GPUS else name for name in known)
    lines = [f"unknown target {', '.join(unknown)}; {title} builds for {there}"]
    for name in unknown:
        if " " in name:
            lines.append("separate targets by commas")
        meant = "sm" + re.sub(r"\D", "", name)
        if jetsons := [kind for kind, board in JETSONS.items() if kind == meant or board.lower() in name]:
            boards = ", ".join(f"{kind} {JETSONS[kind]}" for kind in jetsons)
            lines.append(
                f"{name} is a Jetson ({boards}), where TensorRT builds on the device: "
                "simam-deploy recipe jetson MODEL.onnx"
            )
        elif meant in DATA_CENTRE:
            lines.append(f"{meant} ({DATA_CENTRE[meant]}) is for TensorRT, on that machine: --flavor tensorrt")
        elif meant in known:
            lines.append(f"{name} may be {meant}")
    return "\n".join(lines)


def refuse_bounds(timeout_s: float | None, memory_mb: int | None) -> None:
    """Raise InputError for bounds that no build can keep."""
    if timeout_s is not None and not 0 < timeout_s <= MOST_SECONDS:
        raise InputError(
            f"--timeout is more than 0 and up to {MOST_SECONDS:,} seconds; got {timeout_s:g}\n"
            "leave it out for no bound"
        )
    if memory_mb is not None and memory_mb < LEAST_MEMORY_MB:
        raise InputError(
            f"--memory is {LEAST_MEMORY_MB} MiB or more, as the builder itself takes 200; got {memory_mb}"
        )


def bounds_told(workspace_mb: int | None, memory_mb: int | None) -> str:
    """Lines behind the error of a build that had bounds, as builders seldom say that one is the cause."""
    bounds = (("--workspace", workspace_mb), ("--memory", memory_mb))
    given = [f"{option} {size} MiB" for option, size in bounds if size is not None]
    return f"\nit had {' and '.join(given)}; raise that, or leave it out" if given else ""


def refuse_other_file(engine: Path) -> None:
    """Raise OutputError if an engine would replace a file that is none, or have the name of a model."""
    if (suffix := engine.suffix.lower()) in (".onnx", manifest.SUFFIX):
        what = "ONNX file" if suffix == ".onnx" else "manifest"
        raise OutputError(f"cannot write {engine}: an engine is no {what}; name it {engine.stem}.engine")
    try:
        with opened(engine) as stream:
            head = stream.read(4)
    except InputError:  # nothing is there; or it is no file, which `staging` says better
        return
    if head and not header.begins_engine(head):
        what = f"\n{file_kinds.what_is(engine)}".rstrip()
        raise OutputError(
            f"cannot write {engine}: a file is there, and it is no engine; move it away, or choose another name{what}"
        )
