"""Arguments that several functions of the front door take, as users give them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simam_deploy.compare.inputs import Case, cases, of_arrays
from simam_deploy.compare.matrix import Candidates
from simam_deploy.compare.pictures import Statistics
from simam_deploy.errors import InputError
from simam_deploy.graph.shapes.types import StaticShape
from simam_deploy.runtimes import ENGINES, OPTIONS, for_files

OnePath = str | os.PathLike[str]
Inputs = Sequence[str] | Mapping[str, Any]


def paths_of(files: Sequence[OnePath | Sequence[OnePath]]) -> list[Path]:
    """One path after another, or lists of them."""
    paths = [Path(file) for given in files for file in ([given] if isinstance(given, str | os.PathLike) else given)]
    if not paths:
        raise InputError("no file is given; give one ONNX file or more")
    return paths


def runtimes_of(asked: Sequence[str] | None, provider: str | None) -> list[str]:
    """The runtimes that are named, or all that are installed. Raises InputError if a provider has none to go to."""
    names = for_files() if asked is None else list(asked)
    if set(names) & set(ENGINES):
        from simam_deploy.runtimes.trt_engine import BUILD_FIRST

        raise InputError(BUILD_FIRST.format(name="model.onnx", stem="model"))
    if not names:
        raise InputError("--runtimes names none; leave it out for all that are installed")
    if provider is not None and not set(names) & set(OPTIONS["provider"]):
        raise InputError(f"--provider {provider} is for ort, which is not among {', '.join(names)}")
    return names


def cases_of(
    inputs: Inputs,
    taken: Sequence[Any],
    shape: Sequence[StaticShape] | None,
    mean: Statistics | None = None,
    std: Statistics | None = None,
) -> list[Case]:
    """The cases that `inputs` names, or one of arrays. mean, std : of pictures."""
    if not isinstance(inputs, Mapping):
        return list(cases(list(inputs), taken, sizes=shape, mean=mean, std=std))
    return [of_arrays({name: np.asarray(array) for name, array in inputs.items()}, taken)]


def refuse_nothing(chosen: Candidates) -> None:
    """Raise InputError if no session is left, with the reasons."""
    if not chosen.open:
        raise InputError("\n  ".join(("nothing is left to run:", *chosen.skipped)))
