"""Write a page, as a whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from simam_deploy.artifacts import manifest
from simam_deploy.artifacts.atomic import refuse_overwriting_inputs, staging
from simam_deploy.errors import OutputError
from simam_deploy.report.charts import refuse_without_matplotlib
from simam_deploy.text import Say

PagePath = str | os.PathLike[str]
Page = Callable[[Callable[[Say], str], Say | None], None]
"""Takes the function that makes the page, and progress."""


@contextmanager
def page_at(target: PagePath | None, inputs: Sequence[PagePath], beside: Sequence[PagePath] = ()) -> Iterator[Page]:
    """Yield a function that makes and writes the page `target`, which is there at the end of the block.

    Without a target, the function does nothing. Opened before the work, so that a place that cannot be written is an
    error in front of it.
    inputs : files that it must not be.  beside : other files that the block writes.
    Raises OutputError as `staging` and `refuse_overwriting_inputs`; RuntimeUnavailable without matplotlib.
    """
    if target is None:
        yield lambda make, on_progress: None
        return
    refuse_without_matplotlib()
    refuse_overwriting_inputs(target, inputs)
    place = Path(target).resolve()
    for other in map(Path, beside):
        if place in (other.resolve(), other.with_name(other.name + manifest.SUFFIX).resolve()):
            raise OutputError(f"cannot write the report to {target}: {other} goes there; choose another name")
    with staging(target) as staged:

        def write(make: Callable[[Say], str], on_progress: Say | None) -> None:
            say = on_progress or (lambda _: None)
            say("draw the report")
            staged.write_text(make(say), encoding="utf-8", newline="\n")

        yield write
