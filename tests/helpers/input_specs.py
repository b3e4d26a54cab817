"""Inputs of a model, and the one case that is made for them."""

from pathlib import Path

import numpy as np

from simam_deploy.compare.inputs import Case, cases
from simam_deploy.runtimes.session import TensorSpec

F32 = np.dtype(np.float32)
X = TensorSpec("x", F32, ("n", 3, "h", "w"))
FIXED = TensorSpec("x", F32, (2, 3, 4, 5))


def only(what: str | Path, *specs: TensorSpec, sizes: list[tuple[int, ...]] | None = None, seed: int = 0) -> Case:
    (case,) = cases([str(what)], specs, sizes=sizes, seed=seed)
    return case
