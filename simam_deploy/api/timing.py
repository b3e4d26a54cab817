"""Time ONNX files against each other."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from simam_deploy.api.given import Inputs, OnePath, cases_of, paths_of, refuse_nothing, runtimes_of
from simam_deploy.compare import bench as clock
from simam_deploy.compare.bench import Timing
from simam_deploy.compare.inputs import specs
from simam_deploy.compare.matching import Names
from simam_deploy.compare.matrix import gather
from simam_deploy.compare.truth import run_once
from simam_deploy.compare.workload import refuse_many_parts, refuse_without_end
from simam_deploy.errors import InputError
from simam_deploy.graph import onnx_file
from simam_deploy.graph.shapes.types import StaticShape
from simam_deploy.text import Say


def bench(
    *files: OnePath | Sequence[OnePath],
    runtimes: Sequence[str] | None = None,
    forms: Sequence[str] = (),
    inputs: Inputs = ("plain",),
    shape: Sequence[StaticShape] | None = None,
    threads: int = 0,
    provider: str | None = None,
    kernel: str | None = None,
    limits: bool = True,
    seconds: float = 10.0,
    on_progress: Say | None = None,
) -> Timing:
    """Time ONNX files, forms and runtimes against each other, call by call in turn, and against a plain copy.

    files, forms, shape, threads, provider, kernel, limits : as in `verify`.
    inputs : one kind, as in `verify`; the first of them are timed.
    runtimes : by default those that are installed, without onnx_reference.  seconds : for all sessions together.
    Returns a Timing: `rows`, `left_out`; print it for its table.
    Raises InputError when files or inputs do not fit each other; RuntimeUnavailable; FormError.
    """
    say = on_progress or (lambda _: None)
    paths = paths_of(files)
    names = [name for name in runtimes_of(runtimes, provider) if runtimes is not None or name != "onnx_reference"]
    for file in paths if limits else []:
        refuse_many_parts(file, onnx_file.read(file))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        chosen = gather(paths, list(forms), names, Path(folder), threads=threads, provider=provider, kernel=kernel)
        refuse_nothing(chosen)
        given = cases_of(inputs, specs(paths[0]), shape)
        if len(given) != 1:
            asked = ", ".join(case.name for case in given)
            raise InputError(f"bench times one kind of inputs; asked for {asked}\ngive one, as --inputs plain")
        feed = given[0].feeds[0]
        for file in paths if limits else []:
            say(f"look at the work of {file}")
            refuse_without_end(file, feed, names)
        sessions = []
        for label, open_candidate in chosen.open.items():
            say(f"open {label}")
            session = stack.enter_context(open_candidate())
            session.label = label
            sessions.append(session)
        match = Names("inputs", sessions[0].label, (spec.name for spec in sessions[0].inputs))
        for session in sessions:
            order, _ = match.match(session.label, [spec.name for spec in session.inputs])
            run_once(session, feed, order)
        rows = clock.bench(sessions, feed, seconds=seconds, on_progress=lambda done: say(f"measure: {done:.0%}"))
    return Timing(tuple(rows), tuple(chosen.skipped), threads)
