"""Notes on the truth of a comparison: what it shows, and what not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simam_deploy.compare.boxes import are_ranked
from simam_deploy.compare.inputs import Case
from simam_deploy.compare.outputs import Outputs, telling, wide
from simam_deploy.formula import Array


def about_the_truth(
    cases: Sequence[Case],
    exact: Sequence[Outputs],
    own: Sequence[Outputs],
    bounds: Sequence[Array],
    names: Sequence[str],
) -> list[str]:
    """Notes on values that nothing can equal, and on outputs without a comparison."""
    notes: list[str] = []
    empty: dict[str, list[str]] = {name: [] for name in names}
    for case, feeds, others, bound in zip(cases, exact, own, bounds, strict=True):
        for at, (name, tells) in enumerate(zip(names, telling(feeds, bound), strict=True)):
            if not tells:
                ranked = are_ranked([arrays[at] for arrays in feeds])
                shows = "it is judged by its boxes" if ranked else "it shows nothing"
                notes.append(
                    f"{case.name}: float32 itself changes output {name!r} so much that zeros would pass: {shows}"
                )
        if not all(np.isfinite(wide(array)).all() for arrays in feeds for array in arrays):
            notes.append(f"{case.name}: the truth itself holds NaN or infinity, so nothing can equal it")
        elif not all(np.isfinite(wide(array)).all() for arrays in others for array in arrays):
            notes.append(
                f"{case.name}: in float32 the truth holds NaN or infinity; these count as no error of its own"
            )
        for at, name in enumerate(names):
            if not any(arrays[at].size for arrays in feeds):
                empty[name].append(case.name)
            for a, b in zip(feeds, others, strict=True):
                if a[at].shape != b[at].shape and (a[at].size or b[at].size):
                    shapes = f"{a[at].shape} in float64 and {b[at].shape} in float32"
                    notes.append(f"{case.name}: output {name!r} has the shape {shapes}, so it hangs on roundings")
    for name, found in empty.items():
        on = "any of the inputs" if len(found) == len(cases) else ", ".join(found)
        if found:
            notes.append(f"output {name!r} is empty on {on}: nothing of it was compared there")
    return notes
