"""Time ONNX files against each other."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from simam_deploy.api.engine import sizes_of
from simam_deploy.api.given import Inputs, OnePath, cases_of, paths_of, refuse_nothing, runtimes_of
from simam_deploy.compare import bench as clock
from simam_deploy.compare.bench import Timing
from simam_deploy.compare.inputs import specs
from simam_deploy.compare.matching import Names
from simam_deploy.compare.matrix import gather
from simam_deploy.compare.truth import run_once
from simam_deploy.compare.workload import refuse_many_parts, refuse_without_end
from simam_deploy.engines.inspection import is_engine
from simam_deploy.errors import InputError
from simam_deploy.graph import onnx_file
from simam_deploy.graph.shapes.types import StaticShape
from simam_deploy.runtimes import open_session
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
    cuda_graph: bool = False,
    seconds: float = 10.0,
    on_progress: Say | None = None,
) -> Timing:
    """Time ONNX files, forms, runtimes and engines against each other, call by call in turn, and a plain copy.

    An engine runs on the GPU, and its time has the copies there and back. Without a shape, all run at the size that
    the first profile of the first engine is best at.
    files, forms, shape, threads, provider, kernel, limits : as in `verify`.
    cuda_graph : for engines, as in `open_session`.
    inputs : one kind, as in `verify`; the first of them are timed.
    runtimes : by default those that are installed, without onnx_reference.  seconds : for all sessions together.
    Returns a Timing: `rows`, `left_out`; print it for its table.
    Raises InputError when files or inputs do not fit each other; RuntimeUnavailable; FormError.
    """
    say = on_progress or (lambda _: None)
    given_paths = paths_of(files)
    engines = [path for path in dict.fromkeys(given_paths) if is_engine(path)]
    paths = [path for path in given_paths if path not in engines]
    if cuda_graph and not engines:
        raise InputError("cuda_graph is for engines, and none is given")
    names = [name for name in runtimes_of(runtimes, provider) if runtimes is not None or name != "onnx_reference"]
    for file in paths if limits else []:
        refuse_many_parts(file, onnx_file.read(file))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        chosen = gather(paths, list(forms), names, Path(folder), threads=threads, provider=provider, kernel=kernel)
        loaded = {}
        for path in engines:
            say(f"load {path}")
            loaded[f"{path.name} · trt"] = stack.enter_context(open_session(path, "trt", cuda_graph=cuda_graph))
        if not loaded:
            refuse_nothing(chosen)
        first = next(iter(loaded.values()), None)
        taken = list(first.inputs if first is not None and not paths else specs(paths[0]))
        if first is not None and shape is None:
            shape, _ = sizes_of(first, taken)
        given = cases_of(inputs, taken, shape)
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
        for label, session in loaded.items():
            session.label = label
            sessions.append(session)
        match = Names("inputs", sessions[0].label, (spec.name for spec in sessions[0].inputs))
        for session in sessions:
            order, _ = match.match(session.label, [spec.name for spec in session.inputs])
            run_once(session, feed, order)
        rows = clock.bench(sessions, feed, seconds=seconds, on_progress=lambda done: say(f"measure: {done:.0%}"))
    return Timing(tuple(rows), tuple(chosen.skipped), threads)
